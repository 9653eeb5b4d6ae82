//! A worker as the dashboard can reach it: one that runs in a gateway's process and is started again after a crash, and one
//! that has a process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use seckill_core::Backend;
use seckill_dashboard::WorkerHandle;
use seckill_worker::{DrainRate, Pace};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a worker that has crashed stays away, as a supervisor would have it.
const AWAY: Duration = Duration::from_secs(2);
/// What a worker's process ends with when it is told to crash (EX_SOFTWARE of sysexits.h).
const CRASHED: i32 = 70;

/// A worker inside a gateway's process.
pub(crate) struct WorkerTask {
    pace: Arc<Pace>,
    started_with: DrainRate,
    running: AtomicBool,
    crash: Notify,
}

impl WorkerTask {
    /// Starts it; it runs until `stop`, through crashes.
    pub(crate) fn start(
        backend: Backend,
        config: seckill_worker::Config,
        pace: Pace,
        stop: CancellationToken,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let started_with = pace.rate();
        let task = Self { pace: Arc::new(pace), started_with, running: true.into(), crash: Notify::new() };
        let task = Arc::new(task);
        (Arc::clone(&task), tokio::spawn(task.run_through_crashes(backend, config, stop)))
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
                // Dropped in the middle of whatever it was at: what it held goes back to the queue, and a transaction
                // that was under way may have been committed.
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

impl WorkerHandle for WorkerTask {
    fn drain_rate(&self) -> Option<DrainRate> {
        self.running.load(Relaxed).then(|| self.pace.rate())
    }

    fn set_drain_rate(&self, rate: Option<DrainRate>) {
        self.pace.set(rate.unwrap_or(self.started_with));
    }

    fn crash(&self) {
        // A worker that is away already is not told, so that it does not crash again when it comes back.
        self.crash.notify_waiters();
    }
}

/// A worker that is the whole process.
pub(crate) struct WorkerProcess {
    pace: Arc<Pace>,
    started_with: DrainRate,
}

impl WorkerProcess {
    pub(crate) fn new(pace: Arc<Pace>) -> Self {
        Self { started_with: pace.rate(), pace }
    }
}

impl WorkerHandle for WorkerProcess {
    fn drain_rate(&self) -> Option<DrainRate> {
        Some(self.pace.rate())
    }

    fn set_drain_rate(&self, rate: Option<DrainRate>) {
        self.pace.set(rate.unwrap_or(self.started_with));
    }

    /// No commit is waited for, nothing is acknowledged. Whoever supervises the process starts it again.
    fn crash(&self) {
        std::process::exit(CRASHED);
    }
}
