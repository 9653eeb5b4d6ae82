//! Changes of orders: the one way in which an order goes from one state to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use seckill_core::{
    AbortPoint, Backend, CancelReason, Event, EventBody, EventOrder, Fault, LedgerId, OrderId, OrderRecord,
    SaleId, Step, abort_point,
};

/// What to do with orders that are locked by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    /// Wait for them.
    Wait,
    /// Leave them out.
    Skip,
}

/// Cancels those of `orders` that can be cancelled, in one transaction with the events of it; gives them as they are now. Orders
/// in a state in which that cannot happen are left out, so calling it again changes nothing.
///
/// # Errors
/// [`Fault::Unavailable`]: nothing was changed. [`Fault::Unknown`]: all of it may have been changed, or nothing.
pub(crate) async fn cancel(
    backend: &Backend,
    ledger: LedgerId,
    orders: &[OrderId],
    reason: CancelReason,
    locked: Locked,
) -> Result<Vec<OrderRecord>, Fault> {
    let attempt = || cancel_once(backend, ledger, orders, reason, locked);
    // Another transaction was in the way, or the database went away for a moment.
    let unavailable = |fault: &Fault| matches!(fault, Fault::Unavailable { .. });
    attempt.retry(pauses()).when(unavailable).await
}

fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(10))
        .with_max_delay(Duration::from_millis(200))
        .with_jitter()
        .with_max_times(5)
}

async fn cancel_once(
    backend: &Backend,
    ledger: LedgerId,
    orders: &[OrderId],
    reason: CancelReason,
    locked: Locked,
) -> Result<Vec<OrderRecord>, Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    let found = transaction.lock_orders(orders, locked == Locked::Skip).await?;
    let next = |order: OrderRecord| {
        let later = order.after(Step::Cancel, Some(reason))?;
        Some((order, later))
    };
    let (from, to): (Vec<_>, Vec<_>) = found.into_iter().filter_map(next).unzip();
    if to.is_empty() {
        return Ok(to);
    }
    transaction.move_orders(&from, &to).await?;
    for (sale, orders) in by_sale(&to) {
        for event in Event::of_orders(ledger, sale, Some(reason), &orders, EventBody::OrderCancelled) {
            transaction.add_event(&event).await?;
        }
    }
    abort_point(AbortPoint::CancelWritten);
    transaction.commit().await?;
    abort_point(AbortPoint::CancelCommitted);
    let outcome = reason.as_str();
    metrics::counter!("seckill_orders_cancelled_total", "reason" => outcome).increment(to.len() as u64);
    Ok(to)
}

/// What the events say of the orders, sale by sale.
fn by_sale(orders: &[OrderRecord]) -> BTreeMap<SaleId, Vec<EventOrder>> {
    let mut sales: BTreeMap<SaleId, Vec<EventOrder>> = BTreeMap::new();
    for order in orders {
        sales.entry(order.sale_id).or_default().push(order.into());
    }
    sales
}
