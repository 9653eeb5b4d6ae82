//! The ledger: where orders become true.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    Claim, Epoch, Fate, Fault, LedgerId, LedgerOrder, Mode, NewSale, Order, OrderId, RebuildStep, Sale,
    SaleId, UserId,
};

/// Orders that one statement looks up by their ids.
pub const MAX_ORDERS_AT_ONCE: usize = 200;

/// Where orders become true.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The ledger's id, made with its schema.
    async fn id(&self) -> Result<LedgerId, Fault>;

    /// Records a new sale. In queue mode its epoch is 0, so it takes no orders before its gate has been filled. After
    /// [`Fault::Unknown`] the sale may exist.
    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault>;

    /// Marks the sale as opened on `epoch`, unless it is on a later one.
    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault>;

    /// One sale; `None` when there is none of that id.
    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault>;

    /// The newest sales, newest first, `limit` at the most.
    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault>;

    /// Up to `limit` of the sales in queue mode that are not closed out and whose ids are above `after`, by id.
    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault>;

    /// Records a sale that the ledger has lost, under its own id and as `sale` says, with no orders. Where there is a sale of
    /// that id, nothing changes.
    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault>;

    /// Puts a sale that is on epoch `from` on epoch `to`, which is later, in the state `rebuilding` and without an owner; false:
    /// it was on another epoch, or it is closed out, and nothing was changed. `gate` is the epoch that the gate is on, 0 where it
    /// has none: a ledger that was restored from a backup learns from it that orders of earlier epochs are stale. After
    /// [`Fault::Unknown`] it may have happened.
    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault>;

    /// Makes `owner` the owner of a rebuild for `lease` from now by the ledger's clock, or renews that, and records how far it
    /// is; false: the sale is on another epoch or not rebuilding, or another owner's lease holds.
    async fn own_rebuild(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
        lease: Duration,
        progress: (RebuildStep, u64, Option<u64>),
    ) -> Result<bool, Fault>;

    /// Locks a sale that `owner` rebuilds; `None`: it does not any more. Until the lock is dropped or finished, no order of the
    /// sale is committed, and every writer that began before has ended.
    async fn lock_for_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
    ) -> Result<Option<Box<dyn LockedSale>>, Fault>;

    /// Marks a sale that is open as closed out; false: it is rebuilding.
    async fn close_out(&self, sale: SaleId) -> Result<bool, Fault>;

    /// Which of `orders` are neither committed nor rejected for good, which a stale order is not; at most 1,000 at a time.
    async fn missing_among(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, Fault>;

    /// One order that has reached its end.
    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault>;

    /// Those of `ids` that have reached their end, in no order; at most [`MAX_ORDERS_AT_ONCE`] ids are asked for at a time.
    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<LedgerOrder>, Fault>;

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

/// A sale that no writer can change, until this is dropped or finished.
#[async_trait]
pub trait LockedSale: Send {
    /// The sale as it is under the lock.
    fn sale(&self) -> &Sale;

    /// A page of the sale's active orders whose ids are above `after`, by id, `limit` at the most.
    async fn active_orders(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<Claim>, Fault>;

    /// Marks the sale as open on its epoch, from which moment orders of earlier epochs are stale, and gives the lock back. After
    /// [`Fault::Unknown`] the sale may be open.
    async fn open(self: Box<Self>) -> Result<(), Fault>;
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
