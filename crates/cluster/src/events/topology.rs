//! The exchanges and queues of the event bus. A subscriber has a queue, and between that and the exchange of all events an
//! exchange of its own, which its patterns are bound to: AMQP lists no bindings, and with the exchange they all go.

use std::time::{Duration, Instant};

use lapin::options::{
    ExchangeBindOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind, ExchangeKind, Queue, Result};
use rand::RngExt;
use seckill_core::{EventPattern, Fault, LedgerId, SubscriberName};

use crate::queue::connection::Lane;
use crate::queue::step::{step, unavailable};
use crate::queue::topology::{
    DELIVERY_LIMIT, EVENTS, NO_LIMIT, UNREACHED_LIMIT, WRITTEN_DOWN, exchange, inspect, queue,
};

/// How long the lock lasts that a process has left behind without ending its connection.
const LOCK_LASTS: Duration = Duration::from_secs(20);
/// The longest wait for the lock.
const LOCK: Duration = Duration::from_secs(25);
/// The longest pause before the lock is tried again.
const LOCK_AGAIN: Duration = Duration::from_millis(200);

/// What belongs to one subscriber of one ledger.
#[derive(Clone)]
pub(super) struct Names {
    ledger: LedgerId,
    pub(super) queue: String,
    pub(super) parked: String,
}

impl Names {
    pub(super) fn new(name: &SubscriberName, ledger: LedgerId) -> Self {
        let queue = format!("{EVENTS}.{name}.{ledger}");
        Self { ledger, parked: format!("{queue}.parked"), queue }
    }

    /// Its own exchange, and the one that stands in while that is made anew.
    fn exchanges(&self) -> [String; 2] {
        [self.queue.clone(), format!("{}.new", self.queue)]
    }

    fn lock(&self) -> String {
        format!("{}.lock", self.queue)
    }
}

/// The routing key of events of one type.
pub(super) fn routing_key(ledger: LedgerId, kind: &str) -> ShortString {
    format!("{ledger}.{kind}").into()
}

/// Declares the queues of a subscriber where they do not exist; those that exist are used as they are. When it returns, what is
/// in them outlives the broker.
pub(super) async fn declare_subscriber(lane: &Lane, names: &Names) -> std::result::Result<(), Fault> {
    // No delivery limit, for the reasons of the queue of orders, and named in the same way.
    let no_limit = lane.broker_version().is_some_and(|version| version >= 4);
    let no_limit: &[_] = if no_limit { &[(DELIVERY_LIMIT, AMQPValue::LongLongInt(NO_LIMIT))] } else { &[] };
    let unreached: &[_] = &[(DELIVERY_LIMIT, AMQPValue::LongLongInt(UNREACHED_LIMIT))];
    let mut is_new = false;
    for (name, limit) in [(&names.parked, unreached), (&names.queue, no_limit)] {
        if find(lane, name).await?.is_none() {
            is_new = true;
            step("declare a subscriber's queue", queue(&lane.channel, name.as_str(), limit)).await?;
        }
    }
    if is_new {
        tokio::time::sleep(WRITTEN_DOWN).await;
    }
    Ok(())
}

/// Binds the subscriber's queue to the patterns, and to no others. An event that is wanted before and after comes in between,
/// too: one of the two exchanges is always complete, and what both pass on comes once.
pub(super) async fn bind(channel: &Channel, names: &Names, patterns: &[EventPattern]) -> Result<()> {
    let [own, stand_in] = names.exchanges();
    for (made, removed) in [(&stand_in, &own), (&own, &stand_in)] {
        exchange(channel, made.as_str(), ExchangeKind::Fanout, &[]).await?;
        for pattern in patterns {
            // A lone star is any type, with however many dots.
            let pattern = if pattern.as_str() == "*" { "#" } else { pattern.as_str() };
            let (key, options) = (routing_key(names.ledger, pattern), ExchangeBindOptions::default());
            let arguments = FieldTable::default();
            channel.exchange_bind(made.as_str().into(), EVENTS.into(), key, options, arguments).await?;
        }
        let (queue, options) = (names.queue.as_str().into(), QueueBindOptions::default());
        channel.queue_bind(queue, made.as_str().into(), "".into(), options, FieldTable::default()).await?;
        channel.exchange_delete(removed.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    Ok(())
}

/// Removes all of a subscriber, and what waits for it.
pub(super) async fn remove(channel: &Channel, names: &Names) -> Result<()> {
    for queue in [&names.queue, &names.parked] {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in names.exchanges() {
        channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
    }
    Ok(())
}

/// A queue as it is; `None`: there is none. Uses a channel of its own, since asking for what is not there costs the channel.
pub(super) async fn find(lane: &Lane, name: &str) -> std::result::Result<Option<Queue>, Fault> {
    let asking = lane.another().await?;
    let found = async {
        match inspect(&asking.channel, name).await {
            Ok(queue) => Ok(Some(queue)),
            Err(error) if refusal(&error) == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    };
    step("say how long a subscriber's queue is", found).await
}

/// AMQP's numbers for what the broker does not have, and for what another connection has for itself.
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;

fn refusal(error: &lapin::Error) -> Option<u16> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    Some(error.get_id())
}

/// Held by the one process that changes a subscriber: a queue without messages that one connection can have at a time. It ends
/// with the connection, or after [`LOCK_LASTS`].
pub(super) struct Lock {
    lane: Lane,
    name: String,
}

impl Lock {
    pub(super) async fn take(lane: &Lane, names: &Names) -> std::result::Result<Self, Fault> {
        let (name, began) = (names.lock(), Instant::now());
        loop {
            let lane = lane.another().await?;
            let declared = async {
                let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
                let mut arguments = FieldTable::default();
                // The vhost's default may be another type, which cannot be had for oneself.
                arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
                let lasts = u32::try_from(LOCK_LASTS.as_millis()).unwrap_or(u32::MAX);
                arguments.insert("x-expires".into(), AMQPValue::LongUInt(lasts));
                match lane.channel.queue_declare(name.as_str().into(), options, arguments).await {
                    Ok(_) => Ok(true),
                    Err(error) if refusal(&error) == Some(RESOURCE_LOCKED) => Ok(false),
                    Err(error) => Err(error),
                }
            };
            if step("lock a subscriber", declared).await? {
                return Ok(Self { lane, name });
            }
            if began.elapsed() >= LOCK {
                return Err(unavailable(format!(
                    "another process has been changing what this name is subscribed to for {LOCK:?}; try again"
                )));
            }
            let pause = LOCK_AGAIN.mul_f64(rand::rng().random_range(0.2..=1.0));
            tokio::time::sleep(pause).await;
        }
    }

    /// Where this fails, the lock ends by itself.
    pub(super) async fn release(self) {
        let delete = self.lane.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default());
        if let Err(fault) = step("unlock a subscriber", delete).await {
            tracing::debug!(%fault, "a lock is left to end by itself");
        }
    }
}
