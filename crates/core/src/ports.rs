//! The ports: what the gateway and the worker need of a back end. No other trait is needed of one.
//!
//! Every method may be called again after any [`Fault`]; what a fault leaves behind is told by its variant, and where a
//! method has more to say about it, it does. A future that is dropped before it is done counts as [`Fault::Unknown`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Claim, Epoch, Fate, Fault, Holding, LedgerOrder, NewSale, Order, OrderBatch, OrderId, Reservation,
    ReservationId, Reserved, Sale, SaleId, Settings, Snapshot, UserId,
};

/// One back end: a set of ports that belong together.
#[derive(Clone)]
pub struct Backend {
    /// `embedded` or `cluster`.
    pub name: &'static str,
    /// Where stock is pre-deducted.
    pub gate: Arc<dyn StockGate>,
    /// Where accepted orders wait.
    pub queue: Arc<dyn OrderQueue>,
    /// Where orders become true.
    pub ledger: Arc<dyn Ledger>,
    /// Where processes tell how they are.
    pub control: Arc<dyn ControlPlane>,
}

/// Where stock is pre-deducted. Fast and rebuildable; never the truth.
#[async_trait]
pub trait StockGate: Send + Sync {
    /// Fills the gate for epoch `epoch` of `sale` with the sale's stock.
    ///
    /// When it returns, the gate takes claims of that epoch. A gate already on this epoch or a later one is left as it
    /// is, so calling it again is safe at any time before the ledger has marked the sale as opened.
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault>;

    /// Decides every claim of one batch, in order and in one atomic step; removes `settled` from the pending log in the
    /// same step.
    ///
    /// When it returns, reserved claims are deducted, remembered by user, and written to the pending log. Idempotent by
    /// order id: a claim that this gate has already reserved is answered [`Reserved`](crate::Decision::Reserved) again
    /// and deducts nothing; its pending entry is the one of the first call.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] also when the gate has no data for the sale, or data of another epoch: it fails closed.
    async fn reserve(
        &self,
        sale: SaleId,
        epoch: Epoch,
        settled: &[ReservationId],
        claims: &[Claim],
    ) -> Result<Reserved, Fault>;

    /// Removes `settled` from the pending log: the queue has confirmed all their orders. Unknown ids are ignored.
    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault>;

    /// The oldest pending entries that are at least `age` old by the gate's clock, `limit` at the most. Changes nothing.
    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault>;

    /// What `user` holds in any of `sales`. Changes nothing.
    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault>;

    /// Where the gate stands; `None` when it has no data for the sale. Changes nothing.
    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault>;

    /// Whether the gate answers.
    async fn ping(&self) -> Result<(), Fault>;
}

/// Where the gate of one sale stands, all of it read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLevel {
    /// Which filling it is on.
    pub epoch: Epoch,
    /// Units not yet set aside.
    pub remaining: u32,
    /// Orders set aside since it was filled.
    pub orders: u64,
    /// Of these, orders that no one has settled yet.
    pub pending_orders: u64,
}

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

/// Where orders become true.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Records a new sale on `epoch`. 0: its gate has yet to be filled, so it takes no orders; [`UNGATED`](crate::UNGATED):
    /// it never gets a gate. After [`Fault::Unknown`] the sale may exist.
    async fn create_sale(&self, sale: &NewSale, epoch: Epoch) -> Result<Sale, Fault>;

    /// Marks the sale as opened on `epoch`, unless it is on a later one.
    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault>;

    /// One sale; `None` when there is none of that id.
    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault>;

    /// The newest sales, newest first, `limit` at the most.
    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault>;

    /// One order that has reached its end.
    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault>;

    /// The orders of one user in one sale that have reached their end, oldest first, 100 at the most.
    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault>;

    /// The sale's orders that have reached their end and whose ids are above `after`, by id, `limit` at the most. Page by
    /// page this gives every such order of a sale that is at rest; of one that is not, orders recorded meanwhile may be
    /// missing.
    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault>;

    /// Counts the sale's rows; does not trust the running totals of the sale.
    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault>;

    /// A writer of its own: one worker lane, one writer.
    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault>;

    /// Whether the ledger answers, and has its schema.
    async fn ping(&self) -> Result<(), Fault>;
}

/// The rows of one sale, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerTotals {
    /// Active orders.
    pub orders: u64,
    /// Units of active orders.
    pub units: u64,
    /// Rejected orders.
    pub rejected_orders: u64,
    /// Units of rejected orders.
    pub rejected_units: u64,
    /// Users with more than one active order, and order ids that are both committed and rejected.
    pub duplicates: u64,
}

/// The writing half of the ledger.
#[async_trait]
pub trait LedgerWriter: Send {
    /// Brings every order to its end, in one transaction; the answers are in the order of the orders.
    ///
    /// When it returns, all of it is durable. After [`Fault::Unavailable`] none of it is. After [`Fault::Unknown`] all or
    /// none of it is. Committing the same orders again is always safe: an order id keeps the fate it once had.
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault>;
}

/// Where processes tell how they are and are told what to do. No order depends on it: every fault of it may be ignored,
/// and costs a gap in the dashboard's curves.
#[async_trait]
pub trait ControlPlane: Send + Sync {
    /// Hands `snapshot` to everyone who listens just now, and gives the settings in force. Kept by no one; a snapshot that
    /// was handed over twice does no harm. Settings are forgotten once no process has done this for some seconds.
    async fn exchange(&self, snapshot: &Snapshot) -> Result<Settings, Fault>;

    /// The settings in force. Changes nothing.
    async fn settings(&self) -> Result<Settings, Fault>;

    /// Puts `settings` in force if their revision is one above that of the settings in force; false: it is not, somebody
    /// else was faster, and nothing was changed. After [`Fault::Unknown`] they may be in force.
    async fn change(&self, settings: &Settings) -> Result<bool, Fault>;

    /// Every snapshot of every process from now on.
    async fn listen(&self) -> Result<Box<dyn SnapshotListener>, Fault>;
}

/// Hears what processes tell. After any fault drop it and ask for a new one.
#[async_trait]
pub trait SnapshotListener: Send {
    /// Waits for the next snapshot. May be cancelled without losing one. A listener that is too slow misses the oldest.
    async fn next(&mut self) -> Result<Snapshot, Fault>;
}
