//! Faults that are injected between this process and what it works with: the queue and the ledger here, the bank, the outbox and the
//! event bus in the files beside it. Only in demonstrations.

mod bank;
mod events;
mod outbox;

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Around, Backend, Bank, Call, Dependency, Fault, FaultKind, Settings, now};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The faults that the settings ask for now.
#[derive(Debug, Default)]
pub struct InjectedFaults {
    settings: watch::Sender<Settings>,
    /// Told when the relay of this process dies.
    relay_dies: Notify,
}

impl InjectedFaults {
    /// `backend` with these faults between it and its user.
    pub fn wrap(self: &Arc<Self>, backend: &Backend) -> Backend {
        Backend {
            // No fault is one of the gate.
            gate: Arc::clone(&backend.gate),
            outbox: Arc::new(outbox::FaultyOutbox::new(&backend.outbox, self)),
            events: Arc::new(events::FaultyBus::new(&backend.events, self)),
            ..backend.wrapped(self)
        }
    }

    /// `bank` with these faults between it and its user.
    pub fn wrap_bank(self: &Arc<Self>, bank: Arc<dyn Bank>) -> Arc<dyn Bank> {
        Arc::new(bank::FaultyBank::new(bank, self))
    }

    /// Runs the relay that `start` makes, on a wrapped back end. When it is killed it is dropped in the middle of its work, and a new
    /// one starts when the fault is over. Returns after `shutdown`.
    pub async fn keep_relay<Relay: Future<Output = ()>>(
        &self,
        start: impl Fn() -> Relay,
        shutdown: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = start() => return,
                () = self.relay_dies.notified() => {}
            }
            tracing::warn!("the relay dies, as the dashboard has ordered");
            let over = self.over(FaultKind::RelayKilled);
            if shutdown.run_until_cancelled(over).await.is_none() {
                return;
            }
        }
    }

    pub(crate) fn set(&self, settings: Settings) {
        self.settings.send_replace(settings);
    }

    /// The kinds of faults that are injected now.
    pub(crate) fn active(&self) -> Vec<FaultKind> {
        FaultKind::ALL.into_iter().filter(|kind| self.amount(*kind) > 0).collect()
    }

    fn amount(&self, kind: FaultKind) -> u32 {
        self.settings.borrow().amount(kind)
    }

    fn is_on(&self, kind: FaultKind) -> bool {
        self.amount(kind) > 0
    }

    /// Decides by the percentage of a fault whether this call has it.
    fn hits(&self, kind: FaultKind) -> bool {
        let percent = self.amount(kind);
        percent > 0 && rand::random_range(0..100) < percent
    }

    /// Waits as long as a fault that is in milliseconds says.
    async fn delay(&self, kind: FaultKind) {
        let delay = self.amount(kind);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay.into())).await;
        }
    }

    /// Waits until a fault begins.
    async fn begun(&self, kind: FaultKind) {
        // It cannot fail: the sender lives as long as `self`.
        let _ = self.settings.subscribe().wait_for(|settings| settings.amount(kind) > 0).await;
    }

    /// Waits until a fault has ended, by itself or because somebody has ended it.
    async fn over(&self, kind: FaultKind) {
        let mut settings = self.settings.subscribe();
        loop {
            let fault = settings.borrow_and_update().faults.get(&kind).copied();
            let left = fault.and_then(|fault| (fault.until - now()).to_std().ok());
            let Some(left) = left.filter(|left| !left.is_zero()) else { return };
            let _ = tokio::time::timeout(left, settings.changed()).await;
        }
    }
}

impl Around for InjectedFaults {
    async fn around<T: Send>(
        &self,
        dependency: Dependency,
        call: Call,
        _: usize,
        inner: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        if call == Call::Commit {
            self.delay(FaultKind::SlowCommits).await;
        }
        let answer = inner.await?;
        if call == Call::Publish && self.hits(FaultKind::LostConfirms) {
            // The queue has the batch, but this process does not know that.
            return Err(Fault::unknown(dependency, "the confirm was lost, as the dashboard has ordered"));
        }
        Ok(answer)
    }

    fn publishes_again(&self) -> bool {
        self.hits(FaultKind::DuplicateDeliveries)
    }
}
