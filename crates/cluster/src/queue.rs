//! The queue on RabbitMQ: one connection for publishing, one for consuming. A broker that is short of memory or disk stops
//! everything on a connection that publishes, acknowledgements too; so what drains the queue goes another way.

mod connection;
mod consumer;
mod publisher;
mod topology;
mod wire;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use seckill_core::{Consumer, Dependency, Fault, OrderQueue, Publisher, QueueDepth};

use connection::{Lane, Link};

pub use topology::names;

/// The longest wait for the broker's answer to anything but connecting and publishing.
const STEP: Duration = Duration::from_secs(3);

const BLOCKED: &str = "RabbitMQ takes no messages at the moment: it is short of memory or disk";

/// The queue on RabbitMQ.
pub(crate) struct RabbitQueue {
    publishing: Link,
    consuming: Link,
    /// A channel for asking about the queue, kept between two questions.
    asking: Mutex<Option<Lane>>,
}

impl RabbitQueue {
    pub(crate) fn new(broker: AMQPUri) -> Self {
        let declaring = Arc::default();
        Self {
            publishing: Link::new(broker.clone(), "seckill publishing", Arc::clone(&declaring)),
            consuming: Link::new(broker, "seckill consuming", declaring),
            asking: Mutex::new(None),
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
        Ok(Box::new(publisher::RabbitPublisher::open(&self.publishing).await?))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        Ok(Box::new(consumer::RabbitConsumer::open(&self.consuming, prefetch).await?))
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        let lane = self.asking_lane().await?;
        match step("say how long the queue is", topology::ready_messages(&lane.channel)).await {
            Ok(ready) => {
                *self.asking.lock().expect("nothing panics while it holds the lock") = Some(lane);
                Ok(QueueDepth { ready_batches: u64::from(ready), orders: None })
            }
            Err(fault) => {
                // Perhaps the queue was deleted; a new connection declares it again.
                self.consuming.discard(&lane).await;
                Err(fault)
            }
        }
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.depth().await.map(drop)
    }
}

/// Runs one step with the broker that changes nothing that matters, or that may be done twice.
async fn step<T>(what: &str, work: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(unavailable(format!("RabbitMQ did not {what}: {error}"))),
        Err(_) => Err(unavailable(format!("RabbitMQ did not {what} within {STEP:?}"))),
    }
}

fn unavailable(reason: impl std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::Queue, reason)
}

fn unknown(reason: impl std::fmt::Display) -> Fault {
    Fault::unknown(Dependency::Queue, reason)
}
