//! Faults that are injected between this process and a real back end: slow commits, messages that are queued twice, confirms
//! that never arrive. Only in demonstrations.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seckill_core::{Around, Backend, Call, Dependency, Fault, FaultKind, Settings};

/// The faults that the settings ask for now.
#[derive(Debug, Default)]
pub struct InjectedFaults {
    /// Held only to read or swap.
    settings: RwLock<Settings>,
}

impl InjectedFaults {
    /// `backend` with these faults between it and its user.
    pub fn wrap(self: &Arc<Self>, backend: &Backend) -> Backend {
        // No fault is one of the gate.
        Backend { gate: Arc::clone(&backend.gate), ..backend.wrapped(self) }
    }

    pub(crate) fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The kinds of faults that are injected now.
    pub(crate) fn active(&self) -> Vec<FaultKind> {
        FaultKind::ALL.into_iter().filter(|kind| self.amount(*kind) > 0).collect()
    }

    fn amount(&self, kind: FaultKind) -> u32 {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).amount(kind)
    }

    /// Decides by the percentage of a fault whether this call has it.
    fn hits(&self, kind: FaultKind) -> bool {
        let percent = self.amount(kind);
        percent > 0 && rand::random_range(0..100) < percent
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
        let delay = self.amount(FaultKind::SlowCommits);
        if call == Call::Commit && delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay.into())).await;
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
