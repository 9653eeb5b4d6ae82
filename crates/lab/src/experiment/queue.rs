//! A queue of an experiment's own: a subscriber of the bus, so it is RabbitMQ's queue with confirms and acknowledgements on the
//! cluster back end, and a SQLite file's on the embedded one.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{
    EventBus, EventDelivery, EventMessage, EventPattern, EventPublisher, Fault, SubscriberName, Subscription,
};
use uuid::Uuid;

/// A queue that has given nothing for so long is empty: what a lost connection had in hand comes again within milliseconds.
pub(crate) const IDLE: Duration = Duration::from_millis(1_500);
/// Messages that a consumer has in hand at the most.
const PREFETCH: u16 = 50;
/// Somebody receives there who is just being dropped.
const STILL_USED: Duration = Duration::from_millis(100);
const TRIES: u32 = 50;

#[derive(Clone)]
pub(crate) struct Queue {
    bus: Arc<dyn EventBus>,
    name: SubscriberName,
    /// The type of its messages, which only queues of the same topic take.
    kind: String,
}

impl Queue {
    /// It receives what is sent on `topic`, as does every other queue of that topic.
    pub(super) fn new(bus: Arc<dyn EventBus>, name: &str, topic: &str) -> Self {
        let kind = format!("lab.{}", topic.replace('-', ""));
        let name = format!("lab-{name}").parse().expect("an experiment's queue has a plain name");
        Self { bus, name, kind }
    }

    /// Makes the queue, empty.
    pub(super) async fn open(&self) -> Result<(), Fault> {
        self.remove().await?;
        drop(self.consumer().await?);
        Ok(())
    }

    /// Whoever publishes; each has a channel of its own.
    pub(crate) async fn producer(&self) -> Result<Producer, Fault> {
        Ok(Producer { publisher: self.bus.publisher().await?, kind: self.kind.clone() })
    }

    /// Whoever receives. Dropping it is a lost connection: what is not acknowledged comes again.
    pub(crate) async fn consumer(&self) -> Result<Consumer, Fault> {
        self.consumer_of(PREFETCH).await
    }

    /// Whoever receives, with so many messages in hand at the most. With one, neighbours in the queue go to different consumers.
    pub(crate) async fn consumer_of(&self, prefetch: u16) -> Result<Consumer, Fault> {
        let pattern: EventPattern = self.kind.parse().expect("the kind of a queue's messages is a pattern");
        Ok(Consumer(self.bus.subscribe(&self.name, &[pattern], prefetch).await?))
    }

    /// Removes the queue and what is in it.
    pub(super) async fn remove(&self) -> Result<(), Fault> {
        let mut tries = 0;
        loop {
            match self.bus.unsubscribe(&self.name).await {
                // Whoever was just dropped still counts for a moment.
                Err(_) if tries < TRIES => tokio::time::sleep(STILL_USED).await,
                removed => return removed.map(drop),
            }
            tries += 1;
        }
    }
}

pub(crate) struct Producer {
    publisher: Box<dyn EventPublisher>,
    kind: String,
}

impl Producer {
    /// Sends a message and waits for the confirm.
    pub(crate) async fn send(&mut self, id: Uuid, body: u64) -> Result<(), Fault> {
        self.send_all(id, &[body]).await
    }

    /// Sends several numbers in one message, which are confirmed together.
    pub(crate) async fn send_all(&mut self, id: Uuid, bodies: &[u64]) -> Result<(), Fault> {
        let numbers: Vec<String> = bodies.iter().map(u64::to_string).collect();
        let (kind, text) = (self.kind.clone(), numbers.join(","));
        self.publisher.publish(&EventMessage { id, kind, text }).await
    }
}

pub(crate) struct Consumer(Box<dyn Subscription>);

impl Consumer {
    /// The next message; `None`: the queue is empty.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Fault> {
        match tokio::time::timeout(IDLE, self.0.next()).await {
            Ok(delivery) => Ok(Some(Message::of(delivery?))),
            Err(_) => Ok(None),
        }
    }

    pub(crate) async fn ack(&mut self, message: Message) -> Result<(), Fault> {
        self.0.ack(message.delivery.tag).await
    }
}

/// One delivery of a message.
pub(crate) struct Message {
    pub(crate) id: Uuid,
    /// The first of its numbers.
    pub(crate) body: u64,
    pub(crate) bodies: Vec<u64>,
    delivery: EventDelivery,
}

impl Message {
    fn of(delivery: EventDelivery) -> Self {
        let number = |text: &str| text.parse().expect("an experiment's messages are numbers");
        let bodies: Vec<u64> = delivery.message.text.split(',').map(number).collect();
        Self { id: delivery.message.id, body: bodies[0], bodies, delivery }
    }
}
