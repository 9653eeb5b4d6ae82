//! Tells how this process is, four times a second, and does what the settings say. Shows nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{ControlPlane, DrainRate, ProcessId, Role, Settings, Snapshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::faults::Troubles;
use crate::scrape::scrape;

/// How often a process tells how it is.
pub(crate) const EVERY: Duration = Duration::from_millis(250);

/// Who a process is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This life of it.
    pub process: ProcessId,
    /// For people, such as `worker at 7f3a:8081`.
    pub name: String,
}

impl Identity {
    /// A new life under `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { process: ProcessId::generate(), name: name.into() }
    }
}

/// A worker that runs in this process, as far as the settings reach it.
pub trait WorkerHandle: Send + Sync {
    /// The drain rate in force; `None` while no worker runs, after a crash.
    fn drain_rate(&self) -> Option<DrainRate>;
    /// Puts a drain rate in force; `None`: the one that it was started with.
    fn set_drain_rate(&self, rate: Option<DrainRate>);
    /// Ends it as a crash does: in the middle of whatever it is at.
    fn crash(&self);
}

/// Tells the others how this process is.
pub struct Reporter {
    identity: Identity,
    is_gateway: bool,
    control: Arc<dyn ControlPlane>,
    prometheus: PrometheusHandle,
    /// `None`: no worker runs here.
    worker: Option<Arc<dyn WorkerHandle>>,
    /// `None`: the settings are not obeyed, as this is no demonstration.
    troubles: Option<Arc<Troubles>>,
    /// What the dashboard of this process wants to be told along.
    load: Arc<Mutex<Option<serde_json::Value>>>,
    /// The settings that this process has applied, or would if it obeyed; `None`: it has heard of none. Held only to read
    /// or swap.
    settings: Mutex<Option<Settings>>,
    began: Instant,
}

impl Reporter {
    /// A process that reports over `control` what `prometheus` has. Only with `troubles` it does what the settings say.
    pub fn new(
        identity: Identity,
        is_gateway: bool,
        control: Arc<dyn ControlPlane>,
        prometheus: PrometheusHandle,
        worker: Option<Arc<dyn WorkerHandle>>,
        troubles: Option<Arc<Troubles>>,
    ) -> Self {
        let (load, settings, began) = (Arc::default(), Mutex::default(), Instant::now());
        Self { identity, is_gateway, control, prometheus, worker, troubles, load, settings, began }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The settings in force, as this process last heard of them.
    pub(crate) fn settings(&self) -> Option<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is told along: the load run inside this process.
    pub(crate) fn load(&self) -> Arc<Mutex<Option<serde_json::Value>>> {
        Arc::clone(&self.load)
    }

    /// Reports until it is dropped; never returns. A control plane that is away costs a gap in the curves.
    pub async fn run(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut applied, mut away) = (Settings::default(), false);
        loop {
            tick.tick().await;
            match self.control.exchange(&self.snapshot(applied.revision)).await {
                Ok(settings) => {
                    away = false;
                    if settings != applied {
                        self.apply(&applied, &settings);
                        applied = settings;
                    }
                    *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(applied.clone());
                }
                Err(fault) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(error = %fault, "the dashboard does not hear of this process");
                    }
                }
            }
        }
    }

    fn snapshot(&self, settings_revision: u64) -> Snapshot {
        let (series, histograms) = scrape(&self.prometheus.render());
        let drain_rate = self.worker.as_ref().and_then(|worker| worker.drain_rate());
        let roles = [(self.is_gateway, Role::Gateway), (drain_rate.is_some(), Role::Worker)];
        Snapshot {
            process: self.identity.process,
            name: self.identity.name.clone(),
            roles: roles.into_iter().filter_map(|(is, role)| is.then_some(role)).collect(),
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            series,
            histograms,
            drain_rate,
            settings_revision,
            faults: self.troubles.as_ref().map(|troubles| troubles.active()).unwrap_or_default(),
            load: self.load.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn apply(&self, before: &Settings, now: &Settings) {
        let Some(troubles) = &self.troubles else { return };
        troubles.set(now.clone());
        let Some(worker) = &self.worker else { return };
        if (before.drain_rate, before.paused) != (now.drain_rate, now.paused) {
            worker.set_drain_rate(if now.paused { Some(DrainRate::Paused) } else { now.drain_rate });
        }
        // What was ordered before this process came is not for it.
        let ordered = now.crash.filter(|order| order.process == self.identity.process);
        if ordered.is_some() && before.crash != now.crash {
            tracing::warn!("this worker was told to crash, and does");
            worker.crash();
        }
    }
}
