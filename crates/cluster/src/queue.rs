//! The queue on RabbitMQ: one connection for publishing, one for consuming. A broker that is short of memory or disk stops
//! everything on a connection that publishes, acknowledgements too; so what drains the queue goes another way.

pub(crate) mod aside;
pub(crate) mod connection;
mod consumer;
mod greeting;
pub(crate) mod intake;
mod newer;
mod parked;
pub(crate) mod publisher;
mod shared;
pub(crate) mod step;
pub(crate) mod topology;
mod walk;
mod wire;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use seckill_core::{Consumer, Fault, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth};

use crate::identity::Identity;
use connection::{Lane, Link, Topology};
use shared::Shared;
use step::{BLOCKED, step, unavailable};

pub use topology::names;

/// What becomes of a parked message.
#[derive(Clone, Copy, PartialEq)]
enum Removal {
    Redrive,
    Discard,
}

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

impl RabbitQueue {
    pub(crate) fn new(broker: AMQPUri, identity: Arc<Identity>) -> Self {
        let declaring = Arc::default();
        let topology = || Topology::Orders(Arc::clone(&declaring));
        let publishing = Link::new(broker.clone(), "seckill publishing", topology());
        Self {
            shared: Arc::new(Shared::new(identity, publishing)),
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
        self.remove_parked(id, Removal::Redrive).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.remove_parked(id, Removal::Discard).await
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
