//! Giving back an order that is not paid yet.

use seckill_core::{Backend, CancelReason, Changed, Fault, OrderId, OrderStatus};

use crate::change::{self, Locked};

/// Cancels the order for its buyer. Whose order it is has been checked before.
///
/// # Errors
/// [`Fault::Unavailable`]: nothing was changed. [`Fault::Unknown`]: it may be cancelled; asking again is safe.
pub(crate) async fn by_buyer(backend: &Backend, order: OrderId) -> Result<Changed, Fault> {
    let ledger = backend.ledger.id().await?;
    let cancelled = change::cancel(backend, ledger, &[order], CancelReason::Buyer, Locked::Wait).await?;
    if !cancelled.is_empty() {
        return Ok(Changed::Done);
    }
    Ok(match backend.ledger.order(order).await? {
        Some(order) if order.status == OrderStatus::Cancelled => Changed::Done,
        Some(order) => Changed::NotPossible(order.status),
        None => Changed::NoSuchOrder,
    })
}
