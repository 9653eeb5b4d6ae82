//! Giving back an order that is not paid yet.

use seckill_core::{Backend, CancelReason, Fault, LedgerId, OrderId, OrderRecord};

use crate::change::{self, Locked};

/// Cancels the order for its buyer; `None`: it cannot be cancelled as it stands, or there is no such order, and nothing was
/// changed. Whose order it is has been checked before.
///
/// # Errors
/// [`Fault::Unavailable`]: nothing was changed. [`Fault::Unknown`]: it may be cancelled; asking again is safe.
pub async fn by_buyer(
    backend: &Backend,
    ledger: LedgerId,
    order: OrderId,
) -> Result<Option<OrderRecord>, Fault> {
    let cancelled = change::cancel(backend, ledger, &[order], CancelReason::Buyer, Locked::Wait).await?;
    Ok(cancelled.into_iter().next())
}
