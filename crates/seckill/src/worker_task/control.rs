//! How a demonstration changes the drain rate of a worker, and crashes it.

use seckill_lab::WorkerControl;
use seckill_worker::DrainRate;

use super::{WorkerProcess, WorkerTask};

/// The exit code of a worker's process that was ordered to crash (EX_SOFTWARE of sysexits.h).
const CRASHED: i32 = 70;

impl WorkerControl for WorkerTask {
    fn set_drain_rate(&self, rate: DrainRate) {
        self.pace.set(rate);
    }

    fn crash(&self) {
        // Has no effect on a worker that has crashed and is not back yet.
        self.crash.notify_waiters();
    }
}

impl WorkerControl for WorkerProcess {
    fn set_drain_rate(&self, rate: DrainRate) {
        self.pace.set(rate);
    }

    /// Waits for no commit and acknowledges nothing. A supervisor has to start the process again.
    fn crash(&self) {
        std::process::exit(CRASHED);
    }
}
