//! What runs beside a worker for orders after their commit: expiry, the relay of events, the subscribers that are part of seckill,
//! and the steps of refunds. Here the steps of the lifecycle meet the events that they are called for; neither of the two knows the
//! other.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{Backend, Bank, Event, EventBody, Fault};
use seckill_events::subscriber::Subscriber;
use seckill_events::{gauges, inbox, relay, subscribers};
use seckill_lifecycle::{expire, pay, refund};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::lab::Faults;

/// How orders change after their commit.
#[derive(Clone, Default)]
pub(crate) struct AfterConfig {
    pub(crate) expiry: expire::Config,
    pub(crate) rules: refund::Rules,
}

/// Runs all of it until `shutdown`. None of it can be left in a bad state: each step is one transaction, or is done again. Without a
/// `bank` nothing is paid by card; `faults` are those of a demonstration.
pub(crate) async fn run(
    backend: Backend,
    config: AfterConfig,
    bank: Option<Arc<dyn Bank>>,
    faults: Option<Faults>,
    shutdown: CancellationToken,
) {
    let AfterConfig { expiry, rules } = config;
    seckill_lifecycle::show_counters();
    let mut running = JoinSet::new();
    running.spawn(expire::run(backend.clone(), expiry, shutdown.clone()));
    let mut readers = subscribers::all();
    readers.push(Arc::new(RiskControl { rules }));
    readers.push(Arc::new(Transfers { bank: bank.clone() }));
    readers.push(Arc::new(RefundEnd));
    let names = readers.iter().map(|reader| reader.name()).collect();
    running.spawn(gauges::run(backend.clone(), names, shutdown.clone()));
    let relay = relay(backend.clone(), faults, shutdown.clone());
    running.spawn(seckill_events::run(backend.clone(), readers, relay, shutdown.clone()));
    if let Some(bank) = bank {
        running.spawn(pay::look_after(backend, bank, shutdown));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "a part of what runs beside the worker panicked");
        }
    }
}

async fn relay(backend: Backend, faults: Option<Faults>, shutdown: CancellationToken) {
    let start = || relay::run(backend.clone(), shutdown.clone());
    match faults {
        Some(faults) => faults.keep_relay(start, &shutdown).await,
        None => start().await,
    }
}

/// The names under which seckill itself receives events.
pub(crate) fn subscriber_names() -> impl Iterator<Item = &'static str> {
    let steps: [&dyn Subscriber; 3] =
        [&RiskControl { rules: refund::Rules::default() }, &Transfers { bank: None }, &RefundEnd];
    subscribers::NAMES.into_iter().chain(steps.map(Subscriber::name))
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
