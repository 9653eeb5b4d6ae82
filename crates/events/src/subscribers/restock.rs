//! Puts the units of orders that have ended back on sale.

use async_trait::async_trait;
use seckill_core::{AbortPoint, Backend, Effect, Event, EventBody, Fault, Release, abort_point};

use super::orders;
use crate::inbox;
use crate::subscriber::Subscriber;

/// Takes orders that have ended out of the gate, and records that in the ledger.
pub struct Restock;

#[async_trait]
impl Subscriber for Restock {
    fn name(&self) -> &'static str {
        "restock"
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["order.cancelled", "refund.succeeded"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let ends = match &event.body {
            EventBody::OrderCancelled(_) => true,
            EventBody::RefundSucceeded(refund) => refund.returns_units,
            _ => false,
        };
        if !ends {
            return inbox::once(backend, self.name(), event.id, &[]).await;
        }
        let (sale, orders) = orders(event);
        let releases: Vec<Release> = orders
            .iter()
            .map(|order| Release { order_id: order.order_id, user_id: order.user_id, returns_units: true })
            .collect();
        // The gate forgets an order by its id, once: the second time its buyer holds nothing, or another order. A gate that was
        // rebuilt since the order ended never held it, and has its units on sale already.
        backend.gate.release(sale, &releases).await?;
        abort_point(AbortPoint::RestockReleased);
        let units = orders.iter().map(|order| u64::from(order.quantity)).sum();
        let returned = Effect::Returned { sale, orders: orders.len() as u64, units };
        inbox::once(backend, self.name(), event.id, &[returned]).await
    }
}
