//! Points for what users have paid.

use async_trait::async_trait;
use seckill_core::effects::points_for;
use seckill_core::{Backend, Effect, Event, EventBody, Fault};

use super::orders;
use crate::inbox;
use crate::subscriber::Subscriber;

/// Gives a point for each whole unit of the currency that was paid, and takes it back with the money.
pub struct Loyalty;

#[async_trait]
impl Subscriber for Loyalty {
    fn name(&self) -> &'static str {
        "loyalty"
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["order.paid", "refund.succeeded"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let sign = match &event.body {
            EventBody::OrderPaid(_) => 1,
            // Money that came too late never gave points.
            EventBody::RefundSucceeded(refund) if refund.returns_units => -1,
            _ => return inbox::once(backend, self.name(), event.id, &[]).await,
        };
        let (_, orders) = orders(event);
        let effects: Vec<Effect> = orders
            .iter()
            .map(|order| Effect::Points {
                user: order.user_id,
                points: sign * points_for(order.amount_cents),
            })
            .collect();
        inbox::once(backend, self.name(), event.id, &effects).await
    }
}
