//! Keeps the log short while a server is away: each batch of each lane fails then, hundreds a second.

use std::time::Duration;

use seckill_core::{Fault, SaleId};
use tokio::time::Instant;

/// At least so long between two lines about the same outage, as long as it has the same reason.
const PAUSE: Duration = Duration::from_secs(10);
/// Reasons of one outage that are logged as soon as they come.
const MAX_REASONS: usize = 8;

/// The batches of one lane that failed at one step, one after the other.
pub(crate) struct Outage {
    /// What failing means here, for the log.
    what: &'static str,
    failing: Option<Failing>,
}

struct Failing {
    logged: Instant,
    /// Since the last line.
    batches: u64,
    /// Those that were logged.
    reasons: Vec<String>,
}

impl Outage {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, failing: None }
    }

    /// A batch has failed: logged where it is the first one or the first for this reason, and else every ten seconds with their number.
    pub(crate) fn failed(&mut self, sale: SaleId, fault: &Fault) {
        let reason = fault.to_string();
        if let Some(batches) = self.due(&reason, Instant::now()) {
            tracing::warn!(sale_id = %sale, error = reason, batches, "{}", self.what);
        }
    }

    /// A batch has passed: those that no line has told of yet are logged now, and the next one that fails as soon as it does.
    pub(crate) fn over(&mut self, sale: SaleId) {
        if let Some(batches) = self.rest() {
            tracing::warn!(sale_id = %sale, batches, "{}; this is over now", self.what);
        }
    }

    /// The batches that a line tells of, if there is to be one.
    fn due(&mut self, reason: &str, now: Instant) -> Option<u64> {
        let failing =
            self.failing.get_or_insert_with(|| Failing { logged: now, batches: 0, reasons: Vec::new() });
        failing.batches += 1;
        let is_new =
            failing.reasons.len() < MAX_REASONS && failing.reasons.iter().all(|known| known != reason);
        if !is_new && now.duration_since(failing.logged) < PAUSE {
            return None;
        }
        if is_new {
            failing.reasons.push(reason.to_owned());
        }
        failing.logged = now;
        Some(std::mem::take(&mut failing.batches))
    }

    /// The outage is over: the batches of it that no line has told of.
    fn rest(&mut self) -> Option<u64> {
        self.failing.take().map(|failing| failing.batches).filter(|batches| *batches > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_when_it_begins_one_every_ten_seconds_and_one_when_it_begins_again() {
        let (mut outage, begin) = (Outage::new("it failed"), Instant::now());
        assert_eq!(outage.due("away", begin), Some(1));
        for millis in 1..10_000 {
            assert_eq!(outage.due("away", begin + Duration::from_millis(millis)), None);
        }
        assert_eq!(outage.due("away", begin + PAUSE), Some(10_000));
        assert_eq!(outage.rest(), None);
        assert_eq!(outage.due("away", begin + PAUSE), Some(1));
    }

    #[test]
    fn another_reason_has_a_line_at_once_and_no_batch_is_left_out() {
        let (mut outage, begin) = (Outage::new("it failed"), Instant::now());
        assert_eq!(outage.due("away", begin), Some(1));
        assert_eq!(outage.due("away", begin), None);
        assert_eq!(outage.due("read-only", begin), Some(2));
        assert_eq!(outage.due("away", begin), None);
        assert_eq!(outage.rest(), Some(1));
        let reasons = (0..100).filter(|reason| outage.due(&reason.to_string(), begin).is_some());
        assert_eq!(reasons.count(), MAX_REASONS, "reasons that differ each time do not fill the log");
    }
}
