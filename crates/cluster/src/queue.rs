//! The queue on RabbitMQ: one connection for publishing, one for consuming. A broker that is short of memory or disk stops
//! everything on a connection that publishes, acknowledgements too; so what drains the queue goes another way.

pub(crate) mod connection;
mod consumer;
mod greeting;
mod intake;
mod newer;
pub(crate) mod parked;
pub(crate) mod publisher;
pub(crate) mod topology;
mod walk;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use seckill_core::{
    Consumer, Dependency, Fault, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth,
};

use crate::identity::Identity;
use connection::{Lane, Link, Topology};
use intake::Intake;

pub use topology::names;

/// The longest wait for the broker's answer to anything but connecting and publishing.
pub(crate) const STEP: Duration = Duration::from_secs(3);

pub(crate) const BLOCKED: &str = "RabbitMQ takes no messages at the moment: it is short of memory or disk";

pub(crate) struct RabbitQueue {
    shared: Arc<Shared>,
    consuming: Link,
    /// A channel for asking about the queue, kept between two questions.
    asking: Mutex<Option<Lane>>,
    /// Held by the one call that walks through the parked messages: while it does, no other call sees them.
    walking: tokio::sync::Mutex<()>,
    /// When to look for newer messages again, where the last look came upon some that this program cannot read. Held by the one
    /// call that looks.
    look_for_newer_at: tokio::sync::Mutex<Option<tokio::time::Instant>>,
}

/// What the queue has in common with its publishers and consumers.
struct Shared {
    identity: Arc<Identity>,
    /// Consumers use it too, to park messages.
    publishing: Link,
    intake: Intake,
    newer_logged_at: Mutex<Option<Instant>>,
}

impl RabbitQueue {
    pub(crate) fn new(broker: AMQPUri, identity: Arc<Identity>) -> Self {
        let declaring = Arc::default();
        let topology = || Topology::Orders(Arc::clone(&declaring));
        let publishing = Link::new(broker.clone(), "seckill publishing", topology());
        let shared =
            Shared { identity, publishing, intake: Intake::default(), newer_logged_at: Mutex::default() };
        Self {
            shared: Arc::new(shared),
            consuming: Link::new(broker, "seckill consuming", topology()),
            asking: Mutex::default(),
            walking: tokio::sync::Mutex::default(),
            look_for_newer_at: tokio::sync::Mutex::default(),
        }
    }

    /// How many messages of a queue no consumer has taken, and how many consumers it has.
    async fn inspect(&self, name: &'static str) -> Result<lapin::Queue, Fault> {
        let lane = self.asking_lane().await?;
        match step("say how long the queue is", topology::inspect(&lane.channel, name)).await {
            Ok(queue) => {
                *self.asking.lock().expect("nothing panics while it holds the lock") = Some(lane);
                Ok(queue)
            }
            Err(fault) => {
                // Perhaps the queue was deleted; a new connection declares it again.
                self.consuming.discard(&lane).await;
                Err(fault)
            }
        }
    }

    /// Takes the kept channel out, so that no lock is held while the broker answers; of two questions at once the second
    /// opens a channel of its own.
    async fn asking_lane(&self) -> Result<Lane, Fault> {
        let kept = self.asking.lock().expect("nothing panics while it holds the lock").take();
        match kept.filter(Lane::is_open) {
            Some(lane) => Ok(lane),
            None => self.consuming.open().await,
        }
    }
}

#[async_trait]
impl OrderQueue for RabbitQueue {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(publisher::RabbitPublisher::open(&self.shared.publishing, shared).await?))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(consumer::RabbitConsumer::open(&self.consuming, shared, prefetch).await?))
    }

    async fn consumers(&self) -> Result<u32, Fault> {
        // RabbitMQ counts a consumer that was cancelled and still holds messages too.
        let orders = self.inspect(names::ORDERS).await?.consumer_count();
        // Who moves messages back has them in hand before they are in the queue again.
        Ok(orders + self.inspect(names::NEWER).await?.consumer_count())
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        self.move_newer_back().await
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        let ready = self.inspect(names::ORDERS).await?.message_count();
        Ok(QueueDepth { ready_batches: u64::from(ready), orders: None })
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        self.list_parked(limit).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.remove_parked(id, parked::Removal::Redrive).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.remove_parked(id, parked::Removal::Discard).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        let parked = self.inspect(names::PARKED).await?.message_count();
        let unrouted = self.inspect(names::UNROUTED).await?.message_count();
        let newer = self.newer().await?;
        Ok(ParkedDepth { parked: parked.into(), unrouted: unrouted.into(), newer })
    }

    async fn ping(&self) -> Result<(), Fault> {
        if self.shared.publishing.is_blocked() {
            return Err(unavailable(BLOCKED));
        }
        if let Some(reason) = self.shared.intake.reason() {
            return Err(unavailable(reason));
        }
        self.depth().await.map(drop)
    }
}

/// Runs one step with the broker that changes nothing that matters, or that may be done twice.
pub(crate) async fn step<T>(what: &str, work: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(unavailable(format!("RabbitMQ did not {what}: {error}"))),
        Err(_) => Err(unavailable(format!("RabbitMQ did not {what} within {STEP:?}"))),
    }
}

pub(crate) fn unavailable(reason: impl std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::Queue, reason)
}

pub(crate) fn unknown(reason: impl std::fmt::Display) -> Fault {
    Fault::unknown(Dependency::Queue, reason)
}
