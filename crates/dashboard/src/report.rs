//! Publishes a snapshot of this process four times a second, and passes the settings that come back on to whoever applies
//! them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{ControlPlane, DrainRate, FaultKind, ProcessId, Readiness, Role, Settings, Snapshot};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::scrape::scrape;

/// The time between two snapshots of a process.
pub const EVERY: Duration = Duration::from_millis(250);

/// Identifies a process on the dashboard.
#[derive(Debug, Clone)]
pub struct Identity {
    /// New at each start.
    pub process: ProcessId,
    /// For people, such as `worker at 7f3a:8081`.
    pub name: String,
}

impl Identity {
    /// A new id under `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { process: ProcessId::generate(), name: name.into() }
    }
}

/// A worker inside this process, as a snapshot describes it.
pub trait WorkerState: Send + Sync {
    /// The drain rate in force, a share of what is told; `None` while no worker runs, after a crash.
    fn drain_rate(&self) -> Option<DrainRate>;
    /// The drain rate of all workers together that it was told.
    fn drain_told(&self) -> DrainRate;
}

/// Applies the settings to this process: all of them in a demonstration, otherwise those of its worker.
pub trait SettingsHandler: Send + Sync {
    /// Called once for every change of the settings.
    fn apply(&self, before: &Settings, now: &Settings);
    /// The faults that this process injects now.
    fn active_faults(&self) -> Vec<FaultKind>;
}

/// Publishes the snapshots of one process.
pub struct Reporter {
    identity: Identity,
    is_gateway: bool,
    control: Arc<dyn ControlPlane>,
    prometheus: PrometheusHandle,
    worker: Option<Arc<dyn WorkerState>>,
    handler: Option<Arc<dyn SettingsHandler>>,
    /// The load run inside this process. Held only to read or swap.
    load: Mutex<Option<Value>>,
    /// The settings that came with the last answer; `None` before the first. Held only to read or swap.
    settings: Mutex<Option<Settings>>,
    /// What `/readyz` of this process answers; `None`: nobody says.
    readiness: Option<watch::Receiver<Option<Readiness>>>,
    /// The newest snapshot; `None` before the first.
    latest: watch::Sender<Option<Snapshot>>,
    /// When the control plane last answered. Held only to read or swap.
    answered: Mutex<Instant>,
    started: Instant,
}

impl Reporter {
    /// A reporter that reads its numbers from `prometheus` and publishes them over `control`. `worker` is `None` where no
    /// worker runs in this process; without a `handler` the process ignores the settings.
    pub fn new(
        identity: Identity,
        is_gateway: bool,
        control: Arc<dyn ControlPlane>,
        prometheus: PrometheusHandle,
        worker: Option<Arc<dyn WorkerState>>,
        handler: Option<Arc<dyn SettingsHandler>>,
    ) -> Self {
        let started = Instant::now();
        Self {
            identity,
            is_gateway,
            control,
            prometheus,
            worker,
            handler,
            load: Mutex::default(),
            settings: Mutex::default(),
            readiness: None,
            latest: watch::Sender::default(),
            answered: Mutex::new(started),
            started,
        }
    }

    /// With what `/readyz` of this process answers.
    #[must_use]
    pub fn with_readiness(self, readiness: watch::Receiver<Option<Readiness>>) -> Self {
        Self { readiness: Some(readiness), ..self }
    }

    /// The newest snapshot of this process, also while the control plane is away.
    pub(crate) fn latest(&self) -> Option<Snapshot> {
        self.latest.borrow().clone()
    }

    /// The time since the control plane last answered.
    pub(crate) fn unanswered_for(&self) -> Duration {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// The settings of the last exchange; `None` before the first.
    pub fn settings(&self) -> Option<Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the load run inside this process into the snapshots from now on.
    pub fn set_load(&self, load: Option<Value>) {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }

    /// Publishes until it is dropped; never returns. While the control plane is away, the page's curves have a gap.
    // Boxed for the same reason as the feed's.
    pub fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.publish())
    }

    /// Two loops, so that this gateway's own page has its numbers while the control plane keeps it waiting.
    async fn publish(&self) {
        tokio::join!(self.take(), self.exchange());
    }

    async fn take(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.latest.send_replace(Some(self.snapshot()));
        }
    }

    async fn exchange(&self) {
        let (mut latest, mut applied, mut away) = (self.latest.subscribe(), Settings::default(), false);
        while latest.changed().await.is_ok() {
            let Some(snapshot) = latest.borrow_and_update().clone() else { continue };
            match self.control.exchange(&snapshot).await {
                Ok(settings) => {
                    away = false;
                    *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    if settings != applied {
                        if let Some(handler) = &self.handler {
                            handler.apply(&applied, &settings);
                        }
                        applied = settings;
                    }
                    *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Some(applied.clone());
                }
                Err(fault) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(error = %fault, "the dashboard gets no snapshots of this process");
                    }
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let (series, histograms) = scrape(&self.prometheus.render());
        let drain_rate = self.worker.as_ref().and_then(|worker| worker.drain_rate());
        let roles = [(self.is_gateway, Role::Gateway), (drain_rate.is_some(), Role::Worker)];
        Snapshot {
            process: self.identity.process,
            name: self.identity.name.clone(),
            roles: roles.into_iter().filter_map(|(is, role)| is.then_some(role)).collect(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            series,
            histograms,
            drain_rate,
            drain_told: drain_rate.and(self.worker.as_ref()).map(|worker| worker.drain_told()),
            settings_revision: self.settings().map_or(0, |applied| applied.revision),
            faults: self.handler.as_ref().map(|handler| handler.active_faults()).unwrap_or_default(),
            load: self.load.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            readiness: self.readiness.as_ref().and_then(|readiness| readiness.borrow().clone()),
        }
    }
}
