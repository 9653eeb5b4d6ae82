//! Switches on the abort point that the environment names, so that a test can kill this process between two steps.

use rustix::process::{Signal, getpid, kill_process};

/// The variable that names an abort point.
const VARIABLE: &str = "SECKILL_ABORT_AT";

/// Switches on what `SECKILL_ABORT_AT` names.
///
/// # Errors
/// A sentence, where there is no such point.
pub(crate) fn arm() -> Result<(), String> {
    match std::env::var(VARIABLE) {
        Ok(point) if !point.is_empty() => {
            seckill_core::arm_abort_point(&point, kill).map_err(|error| format!("{VARIABLE}: {error}"))
        }
        _ => Ok(()),
    }
}

/// SIGKILL: nothing is flushed, nobody says goodbye.
fn kill() {
    let _ = kill_process(getpid(), Signal::KILL);
    // The signal is on its way; this thread must not take one more step.
    loop {
        std::thread::park();
    }
}
