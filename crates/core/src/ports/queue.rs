//! The queue: where accepted orders wait, and its two halves.

use async_trait::async_trait;

use crate::{Fault, OrderBatch};

/// Where accepted orders wait for the worker.
#[async_trait]
pub trait OrderQueue: Send + Sync {
    /// A publisher of its own: one lane, one publisher.
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault>;

    /// A consumer of its own that holds at most `prefetch` unacknowledged batches.
    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault>;

    /// What waits in the queue. Changes nothing.
    async fn depth(&self) -> Result<QueueDepth, Fault>;

    /// Whether the queue answers.
    async fn ping(&self) -> Result<(), Fault>;
}

/// What waits in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// Batches that no consumer has taken.
    pub ready_batches: u64,
    /// Orders that no one has acknowledged, where the queue can tell.
    pub orders: Option<u64>,
}

/// The sending half of the queue. After any fault drop it and ask the queue for a new one.
#[async_trait]
pub trait Publisher: Send {
    /// Whether a batch published now would be taken: connected, and not told to wait. Asked before stock is deducted.
    fn accepting(&self) -> bool;

    /// Hands one batch over.
    ///
    /// When it returns, the queue has the batch durably. After [`Fault::Unknown`] it may have it, or get it later.
    /// Publishing the same orders again is always safe: the ledger takes each order id once.
    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault>;
}

/// One batch taken from the queue. Acknowledged by giving its tag back.
#[derive(Debug)]
pub struct Delivery {
    /// The orders.
    pub batch: OrderBatch,
    /// Gives the delivery back to its consumer.
    pub tag: DeliveryTag,
}

/// Names a delivery for the consumer that made it; spent by acknowledging.
#[derive(Debug, PartialEq, Eq)]
pub struct DeliveryTag(pub u64);

/// The receiving half of the queue. Dropping it gives everything unacknowledged back to the queue. After any fault drop
/// it and ask the queue for a new one.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next batch. May be cancelled without losing one. A message that cannot be read is parked and
    /// counted by the back end, never returned and never lost.
    async fn next(&mut self) -> Result<Delivery, Fault>;

    /// Tells the queue that every order of the delivery has reached its end in the ledger. After a fault the delivery
    /// may come again.
    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault>;
}
