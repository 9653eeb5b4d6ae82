//! The drain rate that the ledger is safe with, found by how long commits take. The rule is that of `Gradient2Limit` in Netflix's
//! concurrency-limits: where a commit now takes much longer than it usually does, the ledger has more to do than it can, and the rate
//! falls by the ratio of the two; else it grows a little. It works on a rate here, and on a number of requests under way there; so it
//! grows by a part of itself, and not by a queue of four requests.
//!
//! A commit holds a tenth of a second's worth of orders, so commits grow with the rate, and a larger one takes longer on any ledger.
//! Therefore a commit is as usual if it has twice as many orders as usual and takes up to twice as long, or has fewer and takes as
//! long.

use seckill_core::capacity::Capacity;

use super::commits::Latency;

/// How much longer than usual a commit may take: 1.5 times, as there.
const TOLERANCE: f64 = 1.5;
/// The part of the way to the new rate that each look goes, as there.
const SMOOTHING: f64 = 0.2;
/// Looks in the long average, as there; the first ten are averaged plainly.
const LONG: f64 = 600.0;
const WARM_UP: u32 = 10;
/// What a look counts that finds commits slower than usual while orders wait. Otherwise, in a peak of some minutes, what the rate
/// itself causes would become what is usual, and the rate would grow without end.
const UNDER_LOAD: f64 = 0.05;
/// By which part the rate grows at a look, before smoothing: until the first sign that it is too high, and afterwards.
const FIRST_GROWTH: f64 = 1.0;
const GROWTH: f64 = 0.2;

/// The bounds of the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoBounds {
    /// Never less, all workers together.
    pub min: Capacity,
    /// Never more, all workers together.
    pub max: Capacity,
}

impl Default for AutoBounds {
    fn default() -> Self {
        Self { min: Capacity::per_second(100), max: Capacity::per_second(20_000) }
    }
}

#[derive(Debug)]
pub(super) struct Gradient {
    /// Thousandths of an order a second.
    rate: f64,
    /// How long a commit usually takes, and its usual orders: averages with the same weights.
    long: Latency,
    looks: u32,
    growth: f64,
}

impl Gradient {
    /// Begins at the lower bound.
    pub(super) fn new(bounds: AutoBounds) -> Self {
        let long = Latency { seconds: 0.0, orders: 1.0 };
        Self { rate: thousandths(bounds.min), long, looks: 0, growth: FIRST_GROWTH }
    }

    /// Before the first look: begins at this lower bound, which is that of this worker.
    pub(super) fn begin_at(&mut self, min: Capacity) {
        if self.looks == 0 {
            self.rate = thousandths(min);
        }
    }

    pub(super) fn rate(&self) -> Capacity {
        Capacity::from_thousandths(self.rate as u64)
    }

    /// A look: what a commit is like just now, whether the rate kept orders waiting since the last look, and the bounds for this
    /// worker.
    pub(super) fn look(&mut self, short: Latency, kept_waiting: bool, bounds: AutoBounds) {
        let short = Latency { seconds: short.seconds.max(1e-6), orders: short.orders.max(1.0) };
        self.looks = self.looks.saturating_add(1);
        let weight = if self.looks <= WARM_UP {
            1.0 / f64::from(self.looks)
        } else if kept_waiting && short.seconds > self.usual(short.orders).1 {
            UNDER_LOAD * 2.0 / (LONG + 1.0)
        } else {
            2.0 / (LONG + 1.0)
        };
        self.long.seconds += (short.seconds - self.long.seconds) * weight;
        self.long.orders += (short.orders - self.long.orders) * weight;
        if self.usual(short.orders).0 / short.seconds > 2.0 {
            // The ledger was slow for a long time and has recovered: what is usual has to come down faster.
            self.long.seconds *= 0.95;
        }
        let gradient = (TOLERANCE * self.usual(short.orders).1 / short.seconds).clamp(0.5, 1.0);
        if gradient < 1.0 {
            self.growth = GROWTH;
        }
        // A rate that nobody waits for says nothing about a higher one.
        let growth = if kept_waiting && gradient == 1.0 { self.growth } else { 0.0 };
        let wanted = self.rate * (gradient + growth);
        self.rate += (wanted - self.rate) * SMOOTHING;
        self.rate = self.rate.clamp(thousandths(bounds.min), thousandths(bounds.max.max(bounds.min)));
    }

    /// The fewest and the most seconds that a commit of so many orders usually takes.
    fn usual(&self, orders: f64) -> (f64, f64) {
        let times = orders / self.long.orders;
        (self.long.seconds * times.min(1.0), self.long.seconds * times.max(1.0))
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 2^52")]
fn thousandths(capacity: Capacity) -> f64 {
    capacity.thousandths() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_BATCH;

    const BOUNDS: AutoBounds =
        AutoBounds { min: Capacity::per_second(100), max: Capacity::per_second(10_000) };
    /// Looks within two seconds.
    const TWO_SECONDS: usize = 10;

    /// Of a commit of always the same size.
    fn took(seconds: f64) -> Latency {
        Latency { seconds, orders: 100.0 }
    }

    fn look(gradient: &mut Gradient, looks: usize, seconds: f64) -> f64 {
        for _ in 0..looks {
            gradient.look(took(seconds), true, BOUNDS);
        }
        gradient.rate().orders()
    }

    /// Looks at a ledger that takes 2 ms for a commit and 40 µs for each order in it, times `slower`; commits are as large as the
    /// rate makes them.
    fn look_at_commits_that_grow(gradient: &mut Gradient, looks: usize, slower: impl Fn(f64) -> f64) -> f64 {
        for _ in 0..looks {
            let rate = gradient.rate().orders();
            let orders = (rate / 10.0).floor().min(f64::from(MAX_BATCH.get()));
            let seconds = (0.002 + 0.000_04 * orders) * slower(rate);
            gradient.look(Latency { seconds, orders }, true, BOUNDS);
        }
        gradient.rate().orders()
    }

    #[test]
    fn it_grows_to_the_upper_bound_while_commits_take_as_long_as_ever() {
        let mut gradient = Gradient::new(BOUNDS);
        assert_eq!(gradient.rate().orders(), 100.0);
        assert!(look(&mut gradient, TWO_SECONDS, 0.005) > 500.0);
        assert_eq!(look(&mut gradient, 100, 0.005), 10_000.0);
    }

    #[test]
    fn within_two_seconds_of_a_slow_ledger_it_has_fallen_by_half_and_it_recovers() {
        let mut gradient = Gradient::new(BOUNDS);
        look(&mut gradient, 100, 0.005);
        assert!(look(&mut gradient, TWO_SECONDS, 0.3) < 5_000.0);
        assert!(look(&mut gradient, 40, 0.3) < 1_000.0);
        assert_eq!(look(&mut gradient, 300, 0.005), 10_000.0);
    }

    #[test]
    fn a_little_slower_is_not_too_slow() {
        let mut gradient = Gradient::new(BOUNDS);
        look(&mut gradient, 100, 0.005);
        assert_eq!(look(&mut gradient, 100, 0.007), 10_000.0);
    }

    #[test]
    fn it_settles_where_more_makes_commits_slow() {
        let mut gradient = Gradient::new(BOUNDS);
        // A ledger that does 2,000 orders a second with ease, and no more than 4,000.
        let mut rates = Vec::new();
        for _ in 0..3_000 {
            let load = gradient.rate().orders() / 4_000.0;
            gradient.look(took(0.005 / (1.0 - load).max(0.02)), true, BOUNDS);
            rates.push(gradient.rate().orders());
        }
        // Ten minutes of it.
        let later = &rates[100..];
        assert!(later.iter().all(|rate| (1_000.0..3_500.0).contains(rate)), "{later:?}");
    }

    #[test]
    fn a_commit_that_takes_longer_because_it_is_larger_is_not_slow() {
        let mut gradient = Gradient::new(BOUNDS);
        assert_eq!(look_at_commits_that_grow(&mut gradient, 100, |_| 1.0), 10_000.0);
        // Ten minutes later it takes a slow ledger as before, and the small commits of a low rate are as usual.
        look_at_commits_that_grow(&mut gradient, 3_000, |_| 1.0);
        assert!(look_at_commits_that_grow(&mut gradient, TWO_SECONDS, |_| 12.0) < 5_000.0);
        assert!(look_at_commits_that_grow(&mut gradient, 40, |_| 12.0) < 1_000.0);
        assert_eq!(look_at_commits_that_grow(&mut gradient, 300, |_| 1.0), 10_000.0);
    }

    #[test]
    fn it_settles_below_what_the_ledger_can_do_though_commits_grow() {
        let mut gradient = Gradient::new(BOUNDS);
        let slower = |rate: f64| 1.0 / (1.0 - rate / 4_000.0).max(0.02);
        look_at_commits_that_grow(&mut gradient, 100, slower);
        for _ in 0..2_900 {
            let rate = look_at_commits_that_grow(&mut gradient, 1, slower);
            assert!((2_000.0..4_000.0).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn without_orders_that_wait_it_does_not_grow_and_it_stays_within_its_bounds() {
        let mut gradient = Gradient::new(BOUNDS);
        for _ in 0..100 {
            gradient.look(took(0.005), false, BOUNDS);
        }
        assert_eq!(gradient.rate().orders(), 100.0);
        look(&mut gradient, 100, 0.005);
        look(&mut gradient, 20, 0.005);
        for _ in 0..100 {
            gradient.look(took(60.0), true, BOUNDS);
        }
        assert!(gradient.rate() >= BOUNDS.min);
        // Commits that end at once are no division by zero.
        gradient.look(took(0.0), true, BOUNDS);
        assert!(gradient.rate() >= BOUNDS.min && gradient.rate() <= BOUNDS.max);
    }
}
