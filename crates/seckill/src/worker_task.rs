//! The two places of a worker: a task in a gateway's process, which starts again after a crash, and a process of its own.

#[cfg(feature = "lab")]
mod control;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use seckill_core::Backend;
use seckill_dashboard::WorkerState;
use seckill_worker::{DrainRate, Pace};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use settings::DrainSettings;

/// The time between a crash and the new start, which is what a supervisor might take.
const AWAY: Duration = Duration::from_secs(2);

/// A worker inside a gateway's process.
pub(crate) struct WorkerTask {
    pace: Arc<Pace>,
    running: AtomicBool,
    crash: Notify,
}

impl WorkerTask {
    /// Starts it. It runs until `stop`, and starts again after a crash.
    pub(crate) fn start(
        backend: Backend,
        config: seckill_worker::Config,
        pace: Pace,
        stop: CancellationToken,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let task = Arc::new(Self { pace: Arc::new(pace), running: true.into(), crash: Notify::new() });
        (Arc::clone(&task), tokio::spawn(task.run_through_crashes(backend, config, stop)))
    }

    /// What it works by.
    pub(crate) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    async fn run_through_crashes(
        self: Arc<Self>,
        backend: Backend,
        config: seckill_worker::Config,
        stop: CancellationToken,
    ) {
        loop {
            let worker = seckill_worker::run(backend.clone(), config, Arc::clone(&self.pace), stop.clone());
            tokio::select! {
                () = worker => return,
                // The worker is dropped in the middle of its work: the queue delivers its orders again, and a transaction
                // under way may have been committed.
                () = self.crash.notified() => {}
            }
            self.running.store(false, Relaxed);
            if stop.run_until_cancelled(tokio::time::sleep(AWAY)).await.is_none() {
                return;
            }
            self.running.store(true, Relaxed);
        }
    }
}

impl WorkerState for WorkerTask {
    fn drain_rate(&self) -> Option<DrainRate> {
        self.running.load(Relaxed).then(|| self.pace.rate())
    }

    fn drain_told(&self) -> DrainRate {
        self.pace.told()
    }
}

pub(crate) struct WorkerProcess {
    pace: Arc<Pace>,
}

impl WorkerProcess {
    pub(crate) fn new(pace: Arc<Pace>) -> Self {
        Self { pace }
    }
}

impl WorkerState for WorkerProcess {
    fn drain_rate(&self) -> Option<DrainRate> {
        Some(self.pace.rate())
    }

    fn drain_told(&self) -> DrainRate {
        self.pace.told()
    }
}
