//! One step with the broker, and what a failure of it says.

use std::time::Duration;

use seckill_core::{Dependency, Fault};

/// The longest wait for the broker's answer to anything but connecting and publishing.
pub(crate) const STEP: Duration = Duration::from_secs(3);

pub(crate) const BLOCKED: &str = "RabbitMQ takes no messages at the moment: it is short of memory or disk";

/// Runs one step with the broker that changes nothing that matters, or that may be done twice.
pub(crate) async fn step<T>(what: &str, work: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(unavailable(format!("RabbitMQ did not {what}: {error}"))),
        Err(_) => Err(unavailable(format!("RabbitMQ did not {what} within {STEP:?}"))),
    }
}

pub(crate) fn unavailable(reason: impl std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::Queue, reason)
}

pub(crate) fn unknown(reason: impl std::fmt::Display) -> Fault {
    Fault::unknown(Dependency::Queue, reason)
}
