//! Keeps the log short while a server is away: each batch of each lane fails then, hundreds a second.

use std::time::Duration;

use seckill_core::{Fault, SaleId};
use tokio::time::Instant;

/// At least so long between two lines about the same outage.
const PAUSE: Duration = Duration::from_secs(10);

/// The batches of one lane that failed at one step, one after the other.
#[derive(Default)]
pub(crate) struct Outage(Option<Failing>);

struct Failing {
    logged: Instant,
    /// Since the last line.
    batches: u64,
}

impl Outage {
    /// A batch has failed: logged where it is the first one, and then every ten seconds with their number.
    pub(crate) fn failed(&mut self, sale: SaleId, fault: &Fault, what: &'static str) {
        if let Some(batches) = self.due(Instant::now()) {
            tracing::warn!(sale_id = %sale, error = %fault, batches, "{what}");
        }
    }

    /// A batch has passed: the next one that fails is logged again.
    pub(crate) fn over(&mut self) {
        self.0 = None;
    }

    /// The batches that a line tells of, if there is to be one.
    fn due(&mut self, now: Instant) -> Option<u64> {
        let failing = self.0.get_or_insert(Failing { logged: now - PAUSE, batches: 0 });
        failing.batches += 1;
        if now.duration_since(failing.logged) < PAUSE {
            return None;
        }
        failing.logged = now;
        Some(std::mem::take(&mut failing.batches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_when_it_begins_one_every_ten_seconds_and_one_when_it_begins_again() {
        let (mut outage, begin) = (Outage::default(), Instant::now() + Duration::from_secs(60));
        assert_eq!(outage.due(begin), Some(1));
        for millis in 1..10_000 {
            assert_eq!(outage.due(begin + Duration::from_millis(millis)), None);
        }
        assert_eq!(outage.due(begin + PAUSE), Some(10_000));
        outage.over();
        assert_eq!(outage.due(begin + PAUSE), Some(1));
    }
}
