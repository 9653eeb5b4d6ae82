//! The gate: where stock is pre-deducted.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Claim, Epoch, Fault, Holding, Reservation, ReservationId, Reserved, Sale, SaleId, UserId};

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
