//! How long commits take, and how many orders they hold: those that have ended since the last look, and those that are under way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Commits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// When each began, and its orders.
    under_way: BTreeMap<u64, (Instant, usize)>,
    ended: u32,
    took: Duration,
    orders: usize,
}

/// What a commit is like just now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) seconds: f64,
    /// The orders in it; a mean, too.
    pub(super) orders: f64,
}

impl Commits {
    /// A commit of so many orders begins at `now`. It ends when the answer is dropped, and counts if it succeeded.
    pub(super) fn begin(&self, orders: usize, now: Instant) -> UnderWay<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, (now, orders));
        UnderWay { commits: self, number }
    }

    /// What a commit is like: the mean of those that ended since the last call, or so far the one that has been under way the
    /// longest, whichever takes longer. A ledger that does not answer at all has to be noticed, too. `None`: there was none.
    pub(super) fn take_latency(&self, now: Instant) -> Option<Latency> {
        let mut state = self.lock();
        let (ended, took) = (std::mem::take(&mut state.ended), std::mem::take(&mut state.took));
        let orders = std::mem::take(&mut state.orders);
        let mean = (ended > 0).then(|| {
            let ended = f64::from(ended);
            Latency { seconds: took.as_secs_f64() / ended, orders: orders as f64 / ended }
        });
        let oldest = state.under_way.values().min_by_key(|(begin, _)| *begin);
        let oldest = oldest
            .map(|&(begin, orders)| Latency { seconds: (now - begin).as_secs_f64(), orders: orders as f64 });
        // One that has just begun says nothing yet.
        let least = mean.map_or(super::LOOK.as_secs_f64(), |mean| mean.seconds);
        oldest.filter(|oldest| oldest.seconds > least).or(mean)
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
        if let Some((begin, orders)) = state.under_way.remove(&self.number) {
            state.ended += 1;
            state.took += now - begin;
            state.orders += orders;
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
        let latency = |seconds, orders| Some(Latency { seconds, orders });
        let [a, b, c] = [10, 20, 40].map(|orders| commits.begin(orders, begin));
        assert_eq!(commits.take_latency(after(100)), None, "too early to tell");
        a.succeeded(after(100));
        c.succeeded(after(300));
        assert_eq!(commits.take_latency(after(150)), latency(0.2, 25.0));
        assert_eq!(commits.take_latency(after(4_000)), latency(4.0, 20.0), "one hangs");
        drop(b);
        assert_eq!(commits.take_latency(after(5_000)), None, "it failed");
    }
}
