//! What a worker applies of the settings outside of demonstrations: its drain rate and its pause. Faults on purpose, crashes and
//! load runs are left out.

use std::sync::Arc;

use seckill_core::{FaultKind, Settings};
use seckill_dashboard::SettingsHandler;
use seckill_worker::{DrainRate, Pace};

/// Applies the drain rate and the pause to one worker.
pub(crate) struct DrainSettings {
    pace: Arc<Pace>,
    started_with: DrainRate,
}

impl DrainSettings {
    /// For a worker that has just been started.
    pub(crate) fn handler(pace: Arc<Pace>) -> Arc<dyn SettingsHandler> {
        let started_with = pace.told();
        Arc::new(Self { pace, started_with })
    }
}

impl SettingsHandler for DrainSettings {
    fn apply(&self, before: &Settings, now: &Settings) {
        let rate = now.worker_rate(self.started_with);
        if before.worker_rate(self.started_with) != rate {
            tracing::info!(drain_rate = %rate, revision = now.revision, "the drain rate was changed");
            self.pace.set(rate);
        }
    }

    fn active_faults(&self) -> Vec<FaultKind> {
        Vec::new()
    }
}
