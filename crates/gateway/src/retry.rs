//! Calls that are made again: how often, and after which pauses.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use seckill_core::Fault;

/// The attempts at one idempotent call. It is made again while nobody knows how the last attempt ended.
pub(crate) struct Attempts {
    delays: std::iter::Take<ExponentialBackoff>,
    unknown: Option<Fault>,
}

impl Attempts {
    /// `retries` more attempts after the first.
    pub(crate) fn new(retries: usize) -> Self {
        Self { delays: backoff().take(retries), unknown: None }
    }

    /// How long to wait after `fault` before the call is made again.
    ///
    /// # Errors
    /// The fault of the call as a whole: another attempt would not help, or there were enough.
    pub(crate) fn pause_after(&mut self, fault: Fault) -> Result<Duration, Fault> {
        // A later attempt that had no effect does not undo an earlier one that may have had its effect.
        let fault = self.unknown.take().unwrap_or(fault);
        if !fault.may_have_happened() {
            return Err(fault);
        }
        let Some(delay) = self.delays.next() else { return Err(fault) };
        self.unknown = Some(fault);
        Ok(delay)
    }
}

/// Pauses from 50 ms up to 2 s, jittered, without an end.
pub(crate) fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
        .build()
}
