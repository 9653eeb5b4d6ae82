//! The exchanges and queues of seckill, and how they are declared. Declaring what exists already changes nothing, so it
//! is done on every new connection.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind, Result};

/// What the exchanges and queues are called. Each exchange has the name of the one queue that is bound to it.
pub mod names {
    /// Where order batches are published and consumed.
    pub const ORDERS: &str = "seckill.orders";
    /// Where messages go that cannot be read, or that killed too many consumers.
    pub const PARKED: &str = "seckill.orders.parked";
    /// Where messages go that no queue was bound for.
    pub const UNROUTED: &str = "seckill.orders.unrouted";
}

/// After so many failed deliveries a message is parked. The default is no limit up to RabbitMQ 3.13 and 20 from 4.0 on. It is
/// set, so that all versions agree; and high, because when a worker dies, every message in its hands counts as failed
/// (up to 4.2 each one handed back counts too): a worker that is restarted again and again must not park good orders.
const DELIVERY_LIMIT: i64 = 100;

/// For queues that nothing is dead-lettered from: what reaches their limit is dropped, and these messages wait for a
/// human. RabbitMQ 3.x has no word for "no limit".
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// How long a new queue is left alone. RabbitMQ writes down that it exists only half a second after it was declared
/// (`auto_save` in `ra_directory`); killed before that, it comes back with an empty queue and without the messages it
/// had confirmed. Seen on 3.10 and on 4.3.
const WRITTEN_DOWN: Duration = Duration::from_secs(1);

/// Declares everything. When it returns, what is published outlives the broker.
pub(super) async fn declare(connection: &Connection) -> Result<()> {
    // Asking for a queue that does not exist costs the channel.
    let is_new = ready_messages(&connection.create_channel().await?).await.is_err();
    let channel = &connection.create_channel().await?;
    for name in [names::UNROUTED, names::PARKED] {
        exchange(channel, name, ExchangeKind::Fanout, &[]).await?;
        queue(channel, name, &[("x-delivery-limit", AMQPValue::LongLongInt(NO_DELIVERY_LIMIT))]).await?;
    }
    let unrouted = [("alternate-exchange", text(names::UNROUTED))];
    exchange(channel, names::ORDERS, ExchangeKind::Direct, &unrouted).await?;
    let parking = [
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text(names::PARKED)),
        // The message is removed only once it is safe in the other queue; that is available only with this overflow.
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    queue(channel, names::ORDERS, &parking).await?;
    if is_new {
        tokio::time::sleep(WRITTEN_DOWN).await;
    }
    Ok(())
}

/// Messages that no consumer has taken.
pub(super) async fn ready_messages(channel: &Channel) -> Result<u32> {
    let options = QueueDeclareOptions::default().passive();
    let queue = channel.queue_declare(names::ORDERS.into(), options, FieldTable::default()).await?;
    Ok(queue.message_count())
}

async fn exchange(
    channel: &Channel,
    name: &'static str,
    kind: ExchangeKind,
    arguments: &[(&'static str, AMQPValue)],
) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, table(arguments)).await
}

/// Declares a quorum queue, which confirms a message only once it is on disk, and binds it to the exchange of its name.
async fn queue(channel: &Channel, name: &'static str, arguments: &[(&'static str, AMQPValue)]) -> Result<()> {
    let mut arguments = table(arguments);
    arguments.insert("x-queue-type".into(), text("quorum"));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
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
