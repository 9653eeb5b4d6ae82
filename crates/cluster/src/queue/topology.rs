//! The exchanges and queues of seckill, and how they are declared. Declaring what exists already changes nothing, so it
//! is done on every new connection.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind, Queue, Result};

/// What the exchanges and queues are called. Each exchange has the name of the one queue that is bound to it.
pub mod names {
    /// Where order batches are published and consumed.
    pub const ORDERS: &str = "seckill.orders";
    /// Where messages go that cannot be read, or that killed too many consumers.
    pub const PARKED: &str = "seckill.orders.parked";
    /// Where messages wait that are newer than the worker that took them.
    pub const NEWER: &str = "seckill.orders.newer";
    /// Where messages go that no queue was bound for.
    pub const UNROUTED: &str = "seckill.orders.unrouted";
}

/// Where the events of all ledgers are published. The routing key is the ledger's id, a dot, and the event's type.
pub(crate) const EVENTS: &str = "seckill.events";

/// "No delivery limit", for RabbitMQ 4, whose default is 20. For 3.x that is a limit of 0: the first failed delivery would
/// park the message; there a queue has no limit unless it is given one.
///
/// The queue has no limit because a worker that dies fails every message in its hands: one that is restarted again and again
/// must not park good orders.
pub(crate) const NO_LIMIT: i64 = -1;

/// For queues that nothing is dead-lettered from: what reaches their limit is dropped, and these messages wait for a
/// human or for a newer worker. The same number for all versions of RabbitMQ and of seckill, since declaring a queue with
/// another one is refused.
pub(crate) const UNREACHED_LIMIT: i64 = 1_000_000_000;

pub(crate) const DELIVERY_LIMIT: &str = "x-delivery-limit";

/// How long a new queue is left alone. RabbitMQ writes down that it exists only half a second after it was declared
/// (`auto_save` in `ra_directory`); killed before that, it comes back with an empty queue and without the messages it
/// had confirmed. Seen on 3.10 and on 4.3.
pub(crate) const WRITTEN_DOWN: Duration = Duration::from_secs(1);

/// What the links of a process know together about declaring.
#[derive(Default)]
pub(crate) struct Declaring {
    /// Whether the warning about a queue of an older version was logged.
    warned: bool,
}

/// Declares everything. When it returns, what is published outlives the broker. `version` is the first number of the
/// broker's version.
pub(super) async fn declare(
    connection: &Connection,
    version: Option<u32>,
    declaring: &mut Declaring,
) -> Result<()> {
    let mut is_new = false;
    for name in [names::ORDERS, names::NEWER] {
        // Asking for a queue that does not exist costs the channel.
        is_new |= inspect(&connection.create_channel().await?, name).await.is_err();
    }
    let channel = &connection.create_channel().await?;
    for name in [names::UNROUTED, names::PARKED, names::NEWER] {
        exchange(channel, name, ExchangeKind::Fanout, &[]).await?;
        let limit = (DELIVERY_LIMIT, AMQPValue::LongLongInt(UNREACHED_LIMIT));
        queue(channel, name, &[limit]).await?;
        bind(channel, name).await?;
    }
    let unrouted = [("alternate-exchange", text(names::UNROUTED))];
    exchange(channel, names::ORDERS, ExchangeKind::Direct, &unrouted).await?;
    orders(connection, version, declaring).await?;
    if is_new {
        tokio::time::sleep(WRITTEN_DOWN).await;
    }
    Ok(())
}

/// Declares the queue of the orders, or takes the one that an older version of seckill has made with a delivery limit.
async fn orders(connection: &Connection, version: Option<u32>, declaring: &mut Declaring) -> Result<()> {
    let mut arguments = vec![
        ("x-dead-letter-exchange", text(names::PARKED)),
        // The message is removed only once it is safe in the other queue; that is available only with this overflow.
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    if version.is_some_and(|version| version >= 4) {
        arguments.push((DELIVERY_LIMIT, AMQPValue::LongLongInt(NO_LIMIT)));
    }
    let channel = connection.create_channel().await?;
    match queue(&channel, names::ORDERS, &arguments).await {
        Ok(()) => bind(&channel, names::ORDERS).await,
        Err(error) if is_about_the_limit(&error) => {
            if !std::mem::replace(&mut declaring.warned, true) {
                tracing::warn!(
                    queue = names::ORDERS,
                    %error,
                    "the queue of the orders was made with another delivery limit, by an older version of seckill or on an \
                     older RabbitMQ; it is used as it is. With a limit RabbitMQ parks good orders when workers crash \
                     often. Stop all gateways and workers when the queue is empty, delete the queue, and start them \
                     again: the first one makes the queue anew. Until then `seckill parked redrive` moves parked \
                     orders back"
                );
            }
            // The refusal has closed the channel.
            let channel = connection.create_channel().await?;
            inspect(&channel, names::ORDERS).await?;
            bind(&channel, names::ORDERS).await
        }
        Err(error) => Err(error),
    }
}

/// Declares what every connection for events needs.
pub(super) async fn declare_events(connection: &Connection) -> Result<()> {
    exchange(&connection.create_channel().await?, EVENTS, ExchangeKind::Topic, &[]).await
}

/// Whether the broker refused to declare a queue for its delivery limit alone (406 names the first argument that differs).
fn is_about_the_limit(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    error.get_id() == 406 && error.get_message().as_str().contains(DELIVERY_LIMIT)
}

/// Asks about a queue without changing anything: how many messages no consumer has taken, and how many consumers there are.
pub(crate) async fn inspect(channel: &Channel, name: impl Into<ShortString>) -> Result<Queue> {
    let options = QueueDeclareOptions::default().passive();
    channel.queue_declare(name.into(), options, FieldTable::default()).await
}

pub(crate) async fn exchange(
    channel: &Channel,
    name: impl Into<ShortString>,
    kind: ExchangeKind,
    arguments: &[(&'static str, AMQPValue)],
) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, table(arguments)).await
}

/// Declares a quorum queue, which confirms a message only once it is on disk.
pub(crate) async fn queue(
    channel: &Channel,
    name: impl Into<ShortString>,
    arguments: &[(&'static str, AMQPValue)],
) -> Result<()> {
    let mut arguments = table(arguments);
    arguments.insert("x-queue-type".into(), text("quorum"));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await.map(drop)
}

/// Binds a queue to the exchange of its name.
async fn bind(channel: &Channel, name: &'static str) -> Result<()> {
    let key: ShortString = name.into();
    channel
        .queue_bind(name.into(), name.into(), key, QueueBindOptions::default(), FieldTable::default())
        .await
}

fn table(arguments: &[(&'static str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(text: &'static str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
