//! The receiving half: one channel, batches one by one. What is not for this consumer is kept aside, unacknowledged, until it
//! is parked or given back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use seckill_core::{Consumer, Delivery, DeliveryTag, Dependency, Fault, MESSAGE_VERSION, Message, Unread};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{Lane, Link};
use super::parked::Parking;
use super::{STEP, Shared, step, topology::names, unavailable, unknown};

/// How long a message that only newer programs can read is kept before it is given back, so that it does not go round and
/// round between programs that cannot read it.
const KEEP_NEWER: Duration = Duration::from_secs(5);
/// The wait before this process is asked again which ledger is its own.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// The wait before a message that could not be parked is parked again.
const PARK_AGAIN: Duration = Duration::from_secs(1);
const LOG_NEWER_EVERY: Duration = Duration::from_secs(60);

/// Dropping it closes the channel, and with that hands everything unacknowledged back to the queue.
pub(super) struct RabbitConsumer {
    messages: lapin::Consumer,
    lane: Lane,
    shared: Arc<Shared>,
    aside: Vec<Aside>,
    /// Sends copies of messages to the parked ones; each task returns the tag of its message, which is then acknowledged.
    parking: JoinSet<u64>,
}

/// A message that is kept for a while. Together with what was delivered they are at most as many as the prefetch.
struct Aside {
    message: lapin::message::Delivery,
    until: Instant,
    why: Why,
}

#[derive(Clone, Copy, PartialEq)]
enum Why {
    /// It is given back then.
    Newer,
    /// It names a ledger, and this process does not know its own yet.
    Undecided,
}

impl RabbitConsumer {
    pub(super) async fn open(link: &Link, shared: Arc<Shared>, prefetch: u16) -> Result<Self, Fault> {
        let lane = link.open().await?;
        // 0 would mean "without a limit", and the client buffers all that comes.
        let limit = lane.channel.basic_qos(prefetch.max(1), BasicQosOptions::default());
        step("limit the prefetch", limit).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = lane.channel.basic_consume(names::ORDERS.into(), "".into(), options, arguments);
        match step("let the queue be consumed", consume).await {
            Ok(messages) => Ok(Self { messages, lane, shared, aside: Vec::new(), parking: JoinSet::new() }),
            Err(fault) => {
                // Perhaps the queue was deleted; a new connection declares it again.
                link.discard(&lane).await;
                Err(fault)
            }
        }
    }

    /// Returns the delivery of a message that is ours, and deals with any other one. Awaits nothing, so that no message is
    /// lost where the caller is cancelled.
    fn sort(&mut self, message: lapin::message::Delivery) -> Result<Option<Delivery>, Fault> {
        match Message::read(&message.data) {
            Ok(read) => match self.shared.identity.known(Dependency::Queue)? {
                Some(ours) => match read.foreign_to(ours) {
                    None => return Ok(Some(delivery(read, &message))),
                    Some(reason) => self.start_parking(message, reason),
                },
                None if read.ledger_id.is_none() => return Ok(Some(delivery(read, &message))),
                None => self.keep_aside(message, Why::Undecided, ASK_AGAIN),
            },
            Err(Unread::Newer(version)) => {
                self.shared.log_newer(version);
                self.keep_aside(message, Why::Newer, KEEP_NEWER);
            }
            Err(Unread::Unreadable(reason)) => self.start_parking(message, reason),
        }
        Ok(None)
    }

    fn keep_aside(&mut self, message: lapin::message::Delivery, why: Why, pause: Duration) {
        self.aside.push(Aside { message, until: Instant::now() + pause, why });
    }

    /// Parks a message in the background: while the broker takes no messages, this consumer goes on with the others.
    fn start_parking(&mut self, message: lapin::message::Delivery, reason: String) {
        let parking = Parking::new(&message.properties, message.data, reason);
        let (shared, tag) = (Arc::clone(&self.shared), message.delivery_tag);
        self.parking.spawn(async move {
            while let Err(fault) = parking.send(&shared.publishing).await {
                tracing::warn!(%fault, retry_in = ?PARK_AGAIN, "a message could not be parked");
                tokio::time::sleep(PARK_AGAIN).await;
            }
            tag
        });
    }

    /// Takes a message that has been kept long enough.
    fn take_aside(&mut self) -> Option<Aside> {
        let now = Instant::now();
        // In the order in which they came.
        let due = self.aside.iter().position(|aside| aside.until <= now)?;
        Some(self.aside.remove(due))
    }

    async fn give_back(&self, tag: u64) -> Result<(), Fault> {
        // A nack and no reject: from RabbitMQ 4.3 on it does not count as a failed delivery. The frame is queued at the first
        // poll, before anything can cancel this.
        let options = BasicNackOptions { multiple: false, requeue: true };
        step("take a message back", self.lane.channel.basic_nack(tag, options)).await
    }

    async fn confirm(&self, tag: u64) -> Result<(), Fault> {
        if !self.lane.is_open() {
            return Err(unavailable("the connection to RabbitMQ is lost; the delivery will come again"));
        }
        let ack = self.lane.channel.basic_ack(tag, BasicAckOptions { multiple: false });
        match tokio::time::timeout(STEP, ack).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unknown(format!("RabbitMQ was lost before it took an ack: {error}"))),
            Err(_) => Err(unknown(format!("RabbitMQ did not take an ack within {STEP:?}"))),
        }
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            if let Some(Aside { message, why, .. }) = self.take_aside() {
                match why {
                    Why::Newer => self.give_back(message.delivery_tag).await?,
                    Why::Undecided => {
                        if let Some(delivery) = self.sort(message)? {
                            return Ok(delivery);
                        }
                    }
                }
                continue;
            }
            let due = self.aside.iter().map(|aside| aside.until).min();
            // Cancelled here, nothing has been taken.
            tokio::select! {
                parked = self.parking.join_next(), if !self.parking.is_empty() => match parked {
                    Some(Ok(tag)) => self.confirm(tag).await?,
                    other => return Err(unavailable(format!("a message could not be parked: {other:?}"))),
                },
                message = self.messages.next() => match message {
                    Some(Ok(message)) => if let Some(delivery) = self.sort(message)? {
                        return Ok(delivery);
                    },
                    Some(Err(error)) => return Err(unavailable(format!("RabbitMQ was lost: {error}"))),
                    None => return Err(unavailable("RabbitMQ ended the subscription to the queue")),
                },
                () = at(due) => {}
            }
        }
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        self.confirm(tag.0).await
    }

    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault> {
        let ledger_id = self.shared.identity.known(Dependency::Queue)?;
        let parking = Parking::of_batch(&delivery.batch, ledger_id, reason.to_owned());
        parking.send(&self.shared.publishing).await?;
        self.confirm(delivery.tag.0).await
    }
}

impl Shared {
    /// Counts a message of a newer version, and warns of them once a minute.
    fn log_newer(&self, version: u64) {
        metrics::counter!("seckill_newer_messages_total").increment(1);
        let now = std::time::Instant::now();
        let mut logged_at = self.newer_logged_at.lock().expect("nothing panics while it holds the lock");
        if logged_at.is_none_or(|at| now - at >= LOG_NEWER_EVERY) {
            *logged_at = Some(now);
            tracing::warn!(
                version,
                known = MESSAGE_VERSION,
                "the queue has messages of a newer version of seckill; they are left to the workers of that version. \
                 Start some, or update this worker"
            );
        }
    }
}

fn delivery(read: Message, message: &lapin::message::Delivery) -> Delivery {
    Delivery { batch: read.batch, tag: DeliveryTag(message.delivery_tag) }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
