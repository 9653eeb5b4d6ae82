//! A bank that is slow, and whose answers get lost after it has done what it was asked for.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{Bank, BankAnswer, Charge, Dependency, Fault, FaultKind, GiveBack};
use uuid::Uuid;

use super::InjectedFaults;

pub(super) struct FaultyBank {
    inner: Arc<dyn Bank>,
    faults: Arc<InjectedFaults>,
}

impl FaultyBank {
    pub(super) fn new(inner: Arc<dyn Bank>, faults: &Arc<InjectedFaults>) -> Self {
        Self { inner, faults: Arc::clone(faults) }
    }

    async fn slow(&self) {
        self.faults.delay(FaultKind::SlowBank).await;
    }

    /// The answer, unless it gets lost on its way.
    fn arrived(&self, answer: BankAnswer) -> Result<BankAnswer, Fault> {
        if self.faults.hits(FaultKind::BankTimeouts) {
            return Err(Fault::unknown(
                Dependency::Bank,
                "the answer was lost, as the dashboard has ordered",
            ));
        }
        Ok(answer)
    }
}

#[async_trait]
impl Bank for FaultyBank {
    async fn charge(&self, charge: &Charge) -> Result<BankAnswer, Fault> {
        self.slow().await;
        self.arrived(self.inner.charge(charge).await?)
    }

    async fn charge_state(&self, key: Uuid) -> Result<Option<BankAnswer>, Fault> {
        self.slow().await;
        self.inner.charge_state(key).await
    }

    async fn give_back(&self, refund: &GiveBack) -> Result<BankAnswer, Fault> {
        self.slow().await;
        self.arrived(self.inner.give_back(refund).await?)
    }

    async fn give_back_state(&self, key: Uuid) -> Result<Option<BankAnswer>, Fault> {
        self.slow().await;
        self.inner.give_back_state(key).await
    }
}
