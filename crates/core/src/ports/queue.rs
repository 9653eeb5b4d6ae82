//! The queue: where accepted orders wait, and its two halves.

use async_trait::async_trait;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Fault, OrderBatch, Timestamp};

/// Where accepted orders wait for the worker.
#[async_trait]
pub trait OrderQueue: Send + Sync {
    /// A publisher of its own: one lane, one publisher.
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault>;

    /// A consumer of its own that holds at most `prefetch` unacknowledged batches.
    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault>;

    /// Consumers that hold or may take messages, of every process; one that is gone without a word counts until the queue
    /// has noticed. Changes nothing.
    async fn consumers(&self) -> Result<u32, Fault>;

    /// Moves messages back into the queue that an older worker has set aside because it could not read them, as far as this
    /// program can; the number of messages that are left for still newer programs. One that another process has in hand counts as
    /// left. Killed in between, a message is in both places, which is harmless.
    async fn return_newer(&self) -> Result<u64, Fault>;

    /// What waits in the queue. Changes nothing.
    async fn depth(&self) -> Result<QueueDepth, Fault>;

    /// Up to `limit` of the parked and unrouted messages, oldest first. Changes nothing.
    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault>;

    /// Moves the parked message of this id back into the queue; false: there is none. Killed in between, the message is in
    /// both places, which is harmless, and can be moved again.
    async fn redrive(&self, id: &str) -> Result<bool, Fault>;

    /// Removes the parked message of this id for good; false: there is none.
    async fn discard(&self, id: &str) -> Result<bool, Fault>;

    /// How many messages are parked, unrouted, or set aside for a newer program. Changes nothing.
    async fn parked_depth(&self) -> Result<ParkedDepth, Fault>;

    /// Whether the queue answers and takes messages.
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

/// Messages that wait for a human, or for a newer program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParkedDepth {
    /// Messages that a worker or the queue has parked.
    pub parked: u64,
    /// Messages that no queue was bound for.
    pub unrouted: u64,
    /// Messages that are newer than the workers that came upon them.
    pub newer: u64,
}

/// One message that waits for a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkedMessage {
    /// Names it, for [`OrderQueue::redrive`] and [`OrderQueue::discard`].
    pub id: String,
    /// Why it was parked.
    pub reason: String,
    /// When, as far as it is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub parked_at: Option<Timestamp>,
    /// Whether no queue was bound for it.
    pub unrouted: bool,
    /// Its orders, as far as it can be read.
    pub batch: Option<OrderBatch>,
    /// Its body as text, cut off after 64 KiB.
    pub body: String,
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

    /// Confirms that every order of the delivery has reached its end in the ledger. After a fault the delivery may come
    /// again.
    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault>;

    /// Parks the delivery with a reason, instead of acknowledging it: for a message that fails by itself while its
    /// neighbours do not. Killed in between, it is parked and delivered again.
    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault>;
}
