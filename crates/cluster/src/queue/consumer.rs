//! The receiving half: one channel, batches one by one. What is not for this consumer is moved to another queue; until that is
//! done, it stays unacknowledged.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use seckill_core::{Consumer, Delivery, DeliveryTag, Dependency, Fault, Message, Unread};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::aside::{self, Parking};
use super::connection::{Lane, Link};
use super::shared::Shared;
use super::step::{step, unavailable};
use super::topology::names;

/// The wait before this process is asked again which ledger is its own.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// The wait before a message that could not be moved is moved again.
const MOVE_AGAIN: Duration = Duration::from_secs(1);

/// Dropping it closes the channel, and with that hands everything unacknowledged back to the queue.
pub(super) struct RabbitConsumer {
    messages: lapin::Consumer,
    lane: Lane,
    shared: Arc<Shared>,
    aside: Vec<Aside>,
    /// Sends copies of messages to other queues; each task returns the tag of its message, which is then acknowledged.
    moving: JoinSet<u64>,
}

/// A message that is looked at again after a while: it names a ledger, and this process does not know its own yet; or it is a
/// marker, and messages before it are still being moved. Together with what was delivered they are at most as many as the prefetch.
struct Aside {
    message: lapin::message::Delivery,
    until: Instant,
}

/// A message on its way to another queue.
enum Copy {
    Parked(Parking),
    Newer(Option<ShortString>, Vec<u8>),
}

impl Copy {
    async fn send(&self, link: &Link) -> Result<(), Fault> {
        match self {
            Self::Parked(parking) => parking.send(link).await,
            Self::Newer(id, body) => aside::set_aside(link, id.clone(), body).await,
        }
    }
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
            Ok(messages) => Ok(Self { messages, lane, shared, aside: Vec::new(), moving: JoinSet::new() }),
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
            // Whoever gets the marker looks then at what was set aside before it.
            Ok(read) if read.batch.marker.is_some() && !self.moving.is_empty() => self.keep_aside(message),
            Ok(read) => match self.shared.identity.known(Dependency::Queue)? {
                Some(ours) => match read.foreign_to(ours) {
                    None => return Ok(Some(delivery(read, &message))),
                    Some(reason) => self.start_parking(message, reason),
                },
                None if read.ledger_id.is_none() => return Ok(Some(delivery(read, &message))),
                None => self.keep_aside(message),
            },
            Err(Unread::Newer(version)) => {
                self.shared.log_newer(version);
                let id = message.properties.message_id().clone();
                self.start_moving(message.delivery_tag, Copy::Newer(id, message.data));
            }
            Err(Unread::Unreadable(reason)) => self.start_parking(message, reason),
        }
        Ok(None)
    }

    fn keep_aside(&mut self, message: lapin::message::Delivery) {
        self.aside.push(Aside { message, until: Instant::now() + ASK_AGAIN });
    }

    fn start_parking(&mut self, message: lapin::message::Delivery, reason: String) {
        let parking = Parking::new(&message.properties, message.data, reason);
        self.start_moving(message.delivery_tag, Copy::Parked(parking));
    }

    /// Moves a message in the background: while the broker takes no messages, this consumer goes on with the others.
    fn start_moving(&mut self, tag: u64, copy: Copy) {
        let shared = Arc::clone(&self.shared);
        self.moving.spawn(async move {
            while let Err(fault) = copy.send(&shared.publishing).await {
                tracing::warn!(%fault, retry_in = ?MOVE_AGAIN, "a message could not be moved to another queue");
                tokio::time::sleep(MOVE_AGAIN).await;
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
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            if let Some(Aside { message, .. }) = self.take_aside() {
                if let Some(delivery) = self.sort(message)? {
                    return Ok(delivery);
                }
                continue;
            }
            let due = self.aside.iter().map(|aside| aside.until).min();
            // Cancelled here, nothing has been taken.
            tokio::select! {
                moved = self.moving.join_next(), if !self.moving.is_empty() => match moved {
                    Some(Ok(tag)) => self.lane.ack(tag).await?,
                    other => return Err(unavailable(format!("a message could not be moved: {other:?}"))),
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
        self.lane.ack(tag.0).await
    }

    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault> {
        let ledger_id = self.shared.identity.known(Dependency::Queue)?;
        let parking = Parking::of_batch(&delivery.batch, ledger_id, reason.to_owned());
        parking.send(&self.shared.publishing).await?;
        self.lane.ack(delivery.tag.0).await
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
