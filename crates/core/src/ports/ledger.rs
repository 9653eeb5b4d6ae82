//! The ledger: where orders become true.

use async_trait::async_trait;

use crate::{Epoch, Fate, Fault, LedgerOrder, Mode, NewSale, Order, OrderId, Sale, SaleId, UserId};

/// Where orders become true.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Records a new sale. In queue mode its epoch is 0, so it takes no orders before its gate has been filled. After
    /// [`Fault::Unknown`] the sale may exist.
    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault>;

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
