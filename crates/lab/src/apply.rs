//! Applies the settings in one process: its faults, its worker's drain rate, an ordered crash.

use std::sync::Arc;

use seckill_core::{DrainRate, FaultKind, ProcessId, Settings};
use seckill_dashboard::{SettingsHandler, WorkerState};

use crate::faults::InjectedFaults;

/// A worker inside this process, as the settings change it.
pub trait WorkerControl: WorkerState {
    fn set_drain_rate(&self, rate: DrainRate);
    /// Ends the worker as a crash does: in the middle of its work.
    fn crash(&self);
}

/// Applies the settings in one process.
pub struct SettingsApplier {
    process: ProcessId,
    faults: Arc<InjectedFaults>,
    worker: Option<Worker>,
}

struct Worker {
    control: Arc<dyn WorkerControl>,
    started_with: DrainRate,
}

impl SettingsApplier {
    /// For the process `process`, whose worker, if it has one, has just been started.
    pub fn new(
        process: ProcessId,
        faults: Arc<InjectedFaults>,
        worker: Option<Arc<dyn WorkerControl>>,
    ) -> Self {
        let worker = worker.map(|control| Worker { started_with: control.drain_told(), control });
        Self { process, faults, worker }
    }
}

impl SettingsHandler for SettingsApplier {
    fn apply(&self, before: &Settings, now: &Settings) {
        self.faults.set(now.clone());
        let Some(Worker { control, started_with }) = &self.worker else { return };
        if (before.drain_rate, before.paused) != (now.drain_rate, now.paused) {
            control.set_drain_rate(now.worker_rate(*started_with));
        }
        let ordered = now.crash.filter(|order| order.process == self.process);
        if ordered.is_some() && before.crash != now.crash {
            tracing::warn!("the worker crashes, as the dashboard has ordered");
            control.crash();
        }
    }

    fn active_faults(&self) -> Vec<FaultKind> {
        self.faults.active()
    }
}
