//! How many orders of each sale have come to which stage.

use async_trait::async_trait;
use seckill_core::{Backend, Effect, Event, Fault, FunnelCount};

use super::orders;
use crate::inbox;
use crate::subscriber::Subscriber;

/// Counts the orders of every event under the event's type.
pub struct Funnel;

#[async_trait]
impl Subscriber for Funnel {
    fn name(&self) -> &'static str {
        "funnel"
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["*"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let (sale, orders) = orders(event);
        let count = FunnelCount {
            stage: event.body.kind().to_owned(),
            orders: orders.len() as u64,
            units: orders.iter().map(|order| u64::from(order.quantity)).sum(),
            amount_cents: orders.iter().map(|order| order.amount_cents).sum(),
        };
        inbox::once(backend, self.name(), event.id, &[Effect::Counted { sale, count }]).await
    }
}
