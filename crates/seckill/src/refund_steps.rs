//! The steps of a refund, each a subscriber: here the steps of the lifecycle meet the events that they are called for; neither of the
//! two knows the other.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{Backend, Bank, Event, EventBody, Fault};
use seckill_events::subscriber::Subscriber;
use seckill_events::{inbox, subscribers};
use seckill_lifecycle::refund;

/// All of them. Without a `bank` no money goes back to a card.
pub(crate) fn all(rules: refund::Rules, bank: Option<Arc<dyn Bank>>) -> [Arc<dyn Subscriber>; 3] {
    [Arc::new(RiskControl { rules }), Arc::new(Transfers { bank }), Arc::new(RefundEnd)]
}

/// The names under which seckill itself receives events.
pub(crate) fn subscriber_names() -> impl Iterator<Item = &'static str> {
    subscribers::NAMES.into_iter().chain([RiskControl::NAME, Transfers::NAME, RefundEnd::NAME])
}

/// Decides whether a refund may go on.
struct RiskControl {
    rules: refund::Rules,
}

impl RiskControl {
    const NAME: &str = "risk-control";
}

#[async_trait]
impl Subscriber for RiskControl {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["refund.requested"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let EventBody::RefundRequested(refund) = &event.body else { return Ok(true) };
        refund::assess(backend, self.rules, self.name(), event.id, refund.order.order_id).await
    }
}

/// Gives the money back, each way by itself.
struct Transfers {
    bank: Option<Arc<dyn Bank>>,
}

impl Transfers {
    const NAME: &str = "transfers";
}

#[async_trait]
impl Subscriber for Transfers {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["refund.approved"]
    }

    /// A bank that does not answer one transfer does not hold up the others.
    fn at_once(&self) -> usize {
        16
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let EventBody::RefundApproved(refund) = &event.body else { return Ok(true) };
        // The saga's row keeps each transfer from being made twice.
        refund::transfer(backend, self.bank.as_ref(), refund.order.order_id).await?;
        inbox::once(backend, self.name(), event.id, &[]).await
    }
}

/// Ends a refund once all of the money is there.
struct RefundEnd;

impl RefundEnd {
    const NAME: &str = "refund-end";
}

#[async_trait]
impl Subscriber for RefundEnd {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn patterns(&self) -> &'static [&'static str] {
        &["refund.transferred"]
    }

    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault> {
        let EventBody::RefundTransferred(refund) = &event.body else { return Ok(true) };
        refund::finish(backend, self.name(), event.id, refund.order.order_id).await
    }
}
