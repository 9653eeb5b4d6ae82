//! The ledger: where orders become true.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    Claim, Epoch, Fate, Fault, LedgerId, LedgerOrder, Mode, NewSale, Order, OrderId, RebuildStep, Sale,
    SaleChange, SaleChanged, SaleId, UserId,
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

    /// As [`Self::create_sale`], once for each idempotency key, which is recorded with the sale in the same transaction. So calling
    /// it again with the same key is always safe, also after [`Fault::Unknown`].
    async fn create_sale_once(
        &self,
        sale: &NewSale,
        mode: Mode,
        key: &RequestKey,
    ) -> Result<CreatedOnce, Fault>;

    /// The sale that was created under an idempotency key, and the hash of that request.
    async fn sale_of_key(&self, key: &str) -> Result<Option<(Sale, [u8; 32])>, Fault>;

    /// Changes a sale as [`SaleChange::apply`] decides, under a lock on the sale, and raises its revision by one if anything is
    /// different. Bring the change to the gate afterwards, by [`StockGate::apply_change`](super::StockGate::apply_change). After
    /// [`Fault::Unknown`] it may have happened; the same change again is safe.
    async fn change_sale(&self, sale: SaleId, change: &SaleChange) -> Result<SaleChanged, Fault>;

    /// Marks the sale as opened on `epoch`, unless it is on a later one.
    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault>;

    /// One sale; `None` when there is none of that id.
    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault>;

    /// The newest sales, newest first, `limit` at the most.
    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault>;

    /// Up to `limit` of the sales in queue mode that are not closed out and whose ids are above `after`, by id.
    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault>;

    /// Records a sale that the ledger has lost, under its own id and as `sale` says, with no orders. Where the ledger has the sale
    /// on an earlier revision, it records the changes that it lacks; where it has another sale of that id, nothing changes.
    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault>;

    /// Puts a sale that is on epoch `from` on epoch `to`, which is later, in the state `rebuilding` and without an owner; false:
    /// it was on another epoch, or it is closed out, and nothing was changed. `gate` is the epoch that the gate is on, 0 where it
    /// has none: a ledger that was restored from a backup learns from it that orders of earlier epochs are stale. After
    /// [`Fault::Unknown`] it may have happened.
    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault>;

    /// [`Self::begin_rebuild`] of a sale that is still on the epoch and in the state in which it was `seen`, and makes `owner` its
    /// owner for `lease` from now by the ledger's clock, in one atomic step; false also while the lease of another owner holds, of
    /// this rebuild or any other: rebuilds need the queue for themselves, so all that are under way have one owner.
    async fn take_up_rebuild(
        &self,
        seen: &Sale,
        (to, gate): (Epoch, Epoch),
        owner: Uuid,
        lease: Duration,
    ) -> Result<bool, Fault>;

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

    /// Marks a sale that is open and on `revision` as closed out; false: it is rebuilding, or was changed meanwhile.
    async fn close_out(&self, sale: SaleId, revision: u32) -> Result<bool, Fault>;

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

/// An idempotency key, as the client has chosen it, and what stands for all that was asked for under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// 1 to 255 visible ASCII characters.
    pub key: String,
    /// SHA-256 of the request.
    pub hash: [u8; 32],
}

/// What became of a creation under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreatedOnce {
    /// The sale is recorded, with the key.
    Created(Box<Sale>),
    /// The key was used before: [`Ledger::sale_of_key`] has the sale. Nothing was changed.
    KeyTaken,
    /// Another creation under the key has not ended. Nothing was changed.
    UnderWay,
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
