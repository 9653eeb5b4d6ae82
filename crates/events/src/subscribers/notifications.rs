//! What buyers are told: a table that a person can read. A real one would send mail from here.

use async_trait::async_trait;
use seckill_core::{Backend, Effect, Event, Fault, Notice};

use super::orders;
use crate::inbox;
use crate::subscriber::Subscriber;

/// Writes a notice for every order that was paid, cancelled, or whose refund went a step on. That it was taken the buyer knows
/// from the answer to the request.
pub struct Notifications;

#[async_trait]
impl Subscriber for Notifications {
    fn name(&self) -> &'static str {
        "notifications"
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["order.paid", "order.cancelled", "refund.*"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let (_, orders) = orders(event);
        let notice = |order: &seckill_core::EventOrder| Notice {
            order_id: order.order_id,
            user_id: order.user_id,
            kind: event.body.kind().to_owned(),
            sequence: order.sequence,
            at: event.time,
        };
        let notices = Effect::Notices(orders.iter().map(notice).collect());
        inbox::once(backend, self.name(), event.id, &[notices]).await
    }
}
