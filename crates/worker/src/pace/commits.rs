//! How long commits take: those that have ended since the last look, and those that are under way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Commits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    under_way: BTreeMap<u64, Instant>,
    ended: u32,
    took: Duration,
}

impl Commits {
    /// A commit begins at `now`. It ends when the answer is dropped, and counts if it succeeded.
    pub(super) fn begin(&self, now: Instant) -> UnderWay<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, now);
        UnderWay { commits: self, number }
    }

    /// Seconds that a commit takes: the mean of those that ended since the last call, or so far that of the one that has been under
    /// way the longest, whichever is more. A ledger that does not answer at all has to be noticed, too. `None`: there was none.
    pub(super) fn take_latency(&self, now: Instant) -> Option<f64> {
        let mut state = self.lock();
        let (ended, took) = (std::mem::take(&mut state.ended), std::mem::take(&mut state.took));
        let mean = (ended > 0).then(|| took.as_secs_f64() / f64::from(ended));
        let oldest = state.under_way.values().map(|begin| (now - *begin).as_secs_f64()).reduce(f64::max);
        // One that has just begun says nothing yet.
        match (mean, oldest) {
            (Some(mean), oldest) => Some(oldest.map_or(mean, |oldest| oldest.max(mean))),
            (None, Some(oldest)) if oldest > super::LOOK.as_secs_f64() => Some(oldest),
            (None, _) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit under way. How long one took that failed says little: a ledger that is away may refuse at once.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    commits: &'a Commits,
    number: u64,
}

impl UnderWay<'_> {
    pub(crate) fn succeeded(self, now: Instant) {
        let mut state = self.commits.lock();
        if let Some(begin) = state.under_way.remove(&self.number) {
            state.ended += 1;
            state.took += now - begin;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.commits.lock().under_way.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_those_that_ended_or_the_age_of_the_oldest() {
        let (commits, begin) = (Commits::default(), Instant::now());
        let after = |millis| begin + Duration::from_millis(millis);
        assert_eq!(commits.take_latency(begin), None);
        let [a, b, c] = [(); 3].map(|()| commits.begin(begin));
        assert_eq!(commits.take_latency(after(100)), None, "too early to tell");
        a.succeeded(after(100));
        c.succeeded(after(300));
        assert_eq!(commits.take_latency(after(150)), Some(0.2));
        assert_eq!(commits.take_latency(after(4_000)), Some(4.0), "one hangs");
        drop(b);
        assert_eq!(commits.take_latency(after(5_000)), None, "it failed");
    }
}
