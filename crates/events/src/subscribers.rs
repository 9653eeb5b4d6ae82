//! The subscribers that are part of seckill. None of them knows another one, and nobody who writes events knows them.

mod funnel;
mod loyalty;
mod notifications;
mod restock;

pub use funnel::Funnel;
pub use loyalty::Loyalty;
pub use notifications::Notifications;
pub use restock::Restock;

use seckill_core::{Event, EventBody, EventOrder, SaleId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::subscriber;

/// The names of all of them.
pub const NAMES: [&str; 4] = ["restock", "loyalty", "notifications", "funnel"];

/// Runs all of them until `shutdown`.
pub async fn run(backend: seckill_core::Backend, shutdown: CancellationToken) {
    let mut running = JoinSet::new();
    running.spawn(subscriber::run(backend.clone(), Restock, shutdown.clone()));
    running.spawn(subscriber::run(backend.clone(), Loyalty, shutdown.clone()));
    running.spawn(subscriber::run(backend.clone(), Notifications, shutdown.clone()));
    running.spawn(subscriber::run(backend, Funnel, shutdown));
    while let Some(ended) = running.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "a subscriber panicked");
        }
    }
}

/// The orders that an event is about, and their sale.
fn orders(event: &Event) -> (SaleId, Vec<EventOrder>) {
    match &event.body {
        EventBody::OrderCommitted(orders)
        | EventBody::OrderPaid(orders)
        | EventBody::OrderCancelled(orders) => (orders.sale_id, orders.orders.clone()),
        EventBody::RefundRequested(refund)
        | EventBody::RefundHeld(refund)
        | EventBody::RefundApproved(refund)
        | EventBody::RefundDenied(refund)
        | EventBody::RefundTransferred(refund)
        | EventBody::RefundSucceeded(refund) => (refund.sale_id, vec![refund.order]),
    }
}
