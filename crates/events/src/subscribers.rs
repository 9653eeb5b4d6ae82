//! The subscribers that are part of seckill. None of them knows another one, and nobody who writes events knows them.

mod funnel;
mod loyalty;
mod notifications;
mod restock;

pub use funnel::Funnel;
pub use loyalty::Loyalty;
pub use notifications::Notifications;
pub use restock::Restock;

use std::sync::Arc;

use seckill_core::{Event, EventBody, EventOrder, SaleId};

use crate::subscriber::Subscriber;

/// The names of all of them.
pub const NAMES: [&str; 4] = ["restock", "loyalty", "notifications", "funnel"];

/// All of them.
pub fn all() -> Vec<Arc<dyn Subscriber>> {
    vec![Arc::new(Restock), Arc::new(Loyalty), Arc::new(Notifications), Arc::new(Funnel)]
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
