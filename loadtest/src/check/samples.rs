//! The sale over time, during the run and during the drain: orders in the ledger, and orders that still wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::check::shop::{SaleView, Shop};

/// How often the sale is read unless the caller sets another pause: often enough for a line, seldom enough to be no load.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The sale at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When the server read it, where its clock agrees with this machine's; otherwise when the answer came.
    pub at: SystemTime,
    /// Orders in the ledger.
    pub committed: u64,
    /// Orders that the ledger has rejected.
    pub rejected: u64,
    /// Orders that the gate has reserved; `None`: not known.
    pub reserved: Option<u64>,
    /// Units that the gate has not reserved; `None`: not known.
    pub remaining: Option<u64>,
}

/// A server may answer from a read a moment ago. When that read is longer ago than this, the clocks of the two machines differ.
const CLOCKS_AGREE: Duration = Duration::from_secs(1);

impl Sample {
    fn of(view: &SaleView) -> Self {
        let now = SystemTime::now();
        let agrees = now.duration_since(view.as_of).is_ok_and(|age| age < CLOCKS_AGREE);
        Self {
            at: if agrees { view.as_of } else { now },
            committed: view.orders,
            rejected: view.rejected_orders,
            reserved: view.reserved_orders,
            remaining: view.remaining,
        }
    }

    /// Orders with a final row.
    pub fn recorded(&self) -> u64 {
        self.committed + self.rejected
    }

    /// Orders between the gate and the ledger.
    pub fn backlog(&self) -> Option<u64> {
        self.reserved.map(|reserved| reserved.saturating_sub(self.recorded()))
    }

    /// Seconds from `start` to this sample; 0 for a sample from before.
    pub fn seconds_after(&self, start: SystemTime) -> f64 {
        self.at.duration_since(start).unwrap_or_default().as_secs_f64()
    }
}

/// Samples in the order of time. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Samples {
    list: Arc<Mutex<Vec<Sample>>>,
    every: Duration,
}

impl Default for Samples {
    /// The sale is read four times a second.
    fn default() -> Self {
        Self::every(LOOK_EVERY)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Every order that the gate has reserved has a final row.
    Done,
    /// No count has changed for too long.
    Stalled,
    Cancelled,
}

impl Samples {
    /// The sale is read once per `every`, 10 ms or more.
    pub fn every(every: Duration) -> Self {
        Self { list: Arc::default(), every: every.max(Duration::from_millis(10)) }
    }

    /// Reads the sale again and again until `cancel` ends it. A read that fails leaves no sample.
    pub async fn watch(self, mut shop: Shop, sale_id: u64, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let look = shop.sale(sale_id);
            if let Some(Ok(Some(view))) = cancel.run_until_cancelled(look).await {
                self.push(Sample::of(&view));
            }
            cancel.run_until_cancelled(sleep(self.every)).await;
        }
    }

    fn push(&self, sample: Sample) {
        let mut samples = self.lock();
        // The server may send two answers from one read.
        if samples.last().is_none_or(|last| last.at < sample.at) {
            samples.push(sample);
        }
    }

    /// Orders in the ledger at a moment, between two samples by the straight line; `None` without samples on both sides,
    /// except after the last one.
    pub fn committed_at(&self, at: SystemTime) -> Option<f64> {
        let samples = self.lock();
        let after = samples.partition_point(|sample| sample.at <= at);
        let before = samples.get(after.checked_sub(1)?)?;
        let Some(next) = samples.get(after) else { return Some(before.committed as f64) };
        let share = at.duration_since(before.at).ok()?.as_secs_f64()
            / next.at.duration_since(before.at).ok()?.as_secs_f64();
        Some(before.committed as f64 + share * (next.committed as f64 - before.committed as f64))
    }

    pub fn last(&self) -> Option<Sample> {
        self.lock().last().copied()
    }

    pub fn all(&self) -> Vec<Sample> {
        self.lock().clone()
    }

    /// The time of the first sample that has as many recorded orders as the newest one.
    pub fn drained_at(&self) -> Option<SystemTime> {
        let samples = self.lock();
        let all = samples.last()?.recorded();
        samples.iter().find(|sample| sample.recorded() == all).map(|sample| sample.at)
    }

    /// Commits a second over the last few seconds; 0 while there are too few samples.
    pub fn commit_rate(&self) -> f64 {
        const OVER: Duration = Duration::from_secs(3);
        let samples = self.lock();
        let Some(last) = samples.last() else { return 0.0 };
        let recent = |sample: &&Sample| last.at.duration_since(sample.at).unwrap_or_default() <= OVER;
        let Some(first) = samples.iter().rev().take_while(recent).last() else { return 0.0 };
        let took = last.at.duration_since(first.at).unwrap_or_default().as_secs_f64();
        if took > 0.0 { last.recorded().saturating_sub(first.recorded()) as f64 / took } else { 0.0 }
    }

    /// Waits until every order that the gate has reserved has a final row; where that number is not known, until `promised`
    /// orders have one. Ends when no count has changed for `stall`. [`Self::watch`] must be running.
    pub async fn drained(&self, promised: u64, stall: Duration, cancel: &CancellationToken) -> Drain {
        let began = SystemTime::now();
        let mut moved = (Instant::now(), None);
        loop {
            let last = self.last();
            let state = last.map(|sample| (sample.recorded(), sample.reserved));
            if moved.1 != Some(state) {
                moved = (Instant::now(), Some(state));
            }
            // A sample from before the last answer may not know of the last order.
            let done = |sample: &Sample| sample.recorded() >= sample.reserved.unwrap_or(promised);
            if last.is_some_and(|sample| sample.at > began && done(&sample)) {
                return Drain::Done;
            }
            if moved.0.elapsed() > stall {
                return Drain::Stalled;
            }
            if cancel.run_until_cancelled(sleep(LOOK_EVERY / 5)).await.is_none() {
                return Drain::Cancelled;
            }
        }
    }

    /// Seconds from `start` until the ledger first had as many committed orders as it has now; 0 without samples.
    pub fn commit_seconds(&self, start: SystemTime) -> f64 {
        let samples = self.lock();
        let last = samples.last().map_or(0, |last| last.committed);
        samples
            .iter()
            .find(|sample| sample.committed == last)
            .map_or(0.0, |sample| sample.seconds_after(start))
    }

    /// Commits a second from the last sample without a commit (or from `start`) to the last commit; 0 without commits.
    pub fn commit_rate_mean(&self, start: SystemTime) -> f64 {
        let until = self.commit_seconds(start);
        let samples = self.lock();
        let last = samples.last().map_or(0, |last| last.committed);
        let first = samples.iter().rfind(|sample| sample.committed == 0);
        let took = until - first.map_or(0.0, |first| first.seconds_after(start));
        if took > 0.0 { last as f64 / took } else { 0.0 }
    }

    /// Commits a second in the busiest second; where all commits took less than a second, their mean.
    pub fn commit_rate_peak(&self, start: SystemTime) -> f64 {
        let samples = self.all();
        let window = |(at, from): (usize, &Sample)| {
            let seconds = |to: &Sample| to.seconds_after(start) - from.seconds_after(start);
            let to = samples[at..].iter().find(|to| seconds(to) >= 1.0)?;
            Some(to.committed.saturating_sub(from.committed) as f64 / seconds(to))
        };
        let peak = samples.iter().enumerate().filter_map(window).fold(0.0, f64::max);
        if peak > 0.0 { peak } else { self.commit_rate_mean(start) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        // The list is intact after a panic: pushing is the only change.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(committed: &[u64], reserved: Option<u64>) -> Samples {
        let samples = Samples::default();
        let now = SystemTime::now() + Duration::from_secs(1);
        for (at, &committed) in committed.iter().enumerate() {
            let at = now + Duration::from_secs(at as u64);
            samples.lock().push(Sample { at, committed, rejected: 0, reserved, remaining: None });
        }
        samples
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        assert_eq!(samples(&[], None).commit_rate(), 0.0);
        assert_eq!(samples(&[0, 0, 100, 200, 300], None).commit_rate(), 100.0);
    }

    #[test]
    fn between_two_samples_the_ledger_grows_in_a_straight_line() {
        let samples = samples(&[0, 100, 300], None);
        let first = samples.all()[0].at;
        let at = |seconds: f64| samples.committed_at(first + Duration::from_secs_f64(seconds));
        assert_eq!(samples.committed_at(first - Duration::from_secs(1)), None);
        assert_eq!([at(0.0), at(0.5), at(1.5), at(9.0)], [Some(0.0), Some(50.0), Some(200.0), Some(300.0)]);
    }

    /// Committed orders at some seconds after the first of the samples.
    fn committed_at(points: &[(f64, u64)]) -> (SystemTime, Samples) {
        let (start, samples) = (SystemTime::now(), Samples::default());
        for &(seconds, committed) in points {
            let at = start + Duration::from_secs_f64(seconds);
            samples.lock().push(Sample { at, committed, rejected: 0, reserved: Some(100), remaining: None });
        }
        (start, samples)
    }

    #[test]
    fn rates_are_taken_over_whole_seconds() {
        let points = [(0.0, 0), (0.5, 0), (1.0, 20), (1.5, 60), (2.5, 80), (3.0, 80)];
        let (start, samples) = committed_at(&points);
        assert_eq!(samples.commit_seconds(start), 2.5);
        assert_eq!(samples.commit_rate_mean(start), 40.0);
        assert_eq!(samples.commit_rate_peak(start), 60.0);
    }

    #[test]
    fn a_drain_of_less_than_a_second_has_its_mean_for_a_peak() {
        let (start, samples) = committed_at(&[(0.0, 0), (0.25, 50), (0.5, 100)]);
        assert_eq!(samples.commit_rate_peak(start), 200.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_when_all_is_recorded_or_nothing_moves() {
        let (stall, go_on) = (Duration::from_secs(30), CancellationToken::new());
        assert_eq!(samples(&[5], Some(5)).drained(9, stall, &go_on).await, Drain::Done);
        assert_eq!(samples(&[5], None).drained(5, stall, &go_on).await, Drain::Done);
        assert_eq!(samples(&[4], Some(5)).drained(4, stall, &go_on).await, Drain::Stalled);
        assert_eq!(samples(&[], None).drained(0, stall, &go_on).await, Drain::Stalled);
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(samples(&[4], Some(5)).drained(4, stall, &cancel).await, Drain::Cancelled);
    }
}
