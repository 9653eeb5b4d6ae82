//! What buyers may ask for after their order was committed. The gateway asks, and does not know how it is done.

use async_trait::async_trait;

use crate::{Fault, OrderId, OrderStatus};

/// Changes of an order that its buyer asks for. Whose order it is has been checked before.
#[async_trait]
pub trait OrderService: Send + Sync {
    /// Gives an unpaid order back. Asking again is safe.
    async fn cancel(&self, order: OrderId) -> Result<Changed, Fault>;
}

/// What came of asking for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The order is as it was asked for, now or since earlier.
    Done,
    /// It stands where that cannot happen; nothing was changed.
    NotPossible(OrderStatus),
    /// The ledger has no such order; nothing was changed.
    NoSuchOrder,
}
