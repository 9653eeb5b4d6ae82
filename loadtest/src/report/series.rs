//! A run over time. Counts what the records say; reads no clock.

use std::time::Duration;

use crate::send::latency::Latency;
use crate::send::outcome::{Kind, Outcome};
use crate::send::progress::{Counts, Progress};
use crate::send::run::{Record, Run};

/// The width of one bucket of the fine series.
const BUCKET: Duration = Duration::from_millis(100);

/// What happened in 100 ms of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// When it begins, in milliseconds from the start of the run.
    pub at_ms: u64,
    /// Requests that left.
    pub sent: u64,
    /// Orders that were accepted (202).
    pub accepted: u64,
}

impl Bucket {
    /// Accepted orders a second in the busiest second (ten buckets in a row); a shorter run is scaled to one second.
    pub fn accepted_rate_peak(series: &[Self]) -> f64 {
        const SECOND: usize = 10;
        let accepted = |some: &[Self]| some.iter().map(|bucket| bucket.accepted).sum::<u64>();
        if series.len() < SECOND {
            return accepted(series) as f64 * SECOND as f64 / series.len().max(1) as f64;
        }
        series.windows(SECOND).map(accepted).max().unwrap_or_default() as f64
    }
}

impl Run {
    /// How the requests ended.
    pub fn counts(&self) -> Counts {
        let progress = Progress::default();
        progress.plan(self.planned);
        for record in &self.records {
            progress.sent(Duration::from_micros(u64::from(record.lag_us)) > self.late_after);
            progress.ended(record.outcome.kind());
        }
        progress.counts()
    }

    /// From the intended start until the end, over all requests that were answered or timed out: what buyers waited.
    pub fn latency(&self) -> Latency {
        Latency::of(self.answered().map(Record::latency_us))
    }

    /// From leaving until the end, over the same: what the server took.
    pub fn service(&self) -> Latency {
        Latency::of(self.answered().map(|record| u64::from(record.service_us)))
    }

    fn answered(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.outcome != Outcome::ConnectionError)
    }

    /// Requests over time, in steps of 100 ms from the start to the last answer.
    pub fn series(&self) -> Vec<Bucket> {
        let width = BUCKET.as_micros() as u64;
        let last = self.records.iter().map(Record::ended_us).max();
        let count = last.map_or(0, |last| last / width + 1);
        let mut series: Vec<Bucket> =
            (0..count).map(|at| Bucket { at_ms: at * width / 1_000, ..Bucket::default() }).collect();
        for record in &self.records {
            series[(record.sent_us() / width) as usize].sent += 1;
            if record.outcome.kind() == Kind::Accepted {
                series[(record.ended_us() / width) as usize].accepted += 1;
            }
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(accepted: &[u64]) -> Vec<Bucket> {
        accepted.iter().map(|&accepted| Bucket { accepted, ..Bucket::default() }).collect()
    }

    #[test]
    fn the_peak_is_of_a_whole_second() {
        let mut steps = [0_u64; 30];
        steps[14] = 50;
        steps[20] = 30;
        steps[26] = 100;
        assert_eq!(Bucket::accepted_rate_peak(&series(&steps)), 130.0);
        assert_eq!(Bucket::accepted_rate_peak(&series(&[5, 5])), 50.0);
        assert_eq!(Bucket::accepted_rate_peak(&[]), 0.0);
    }
}
