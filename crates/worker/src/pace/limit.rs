//! The rate limiter of one worker under its share. A share that changes brings a new limiter, which takes over what the old one has
//! saved up: neither does a change give anything away, nor does a worker whose share changes often starve.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use seckill_core::capacity::Capacity;

/// What a worker may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// As fast as the ledger commits.
    Everything,
    /// So much.
    Share(Capacity),
    /// Nothing.
    Nothing,
}

impl Allowed {
    /// Orders in one commit: a tenth of a second's worth, so that the line is flat, and `max` at the most.
    fn batch(self, max: NonZeroU32) -> NonZeroU32 {
        match self {
            Self::Everything | Self::Nothing => max,
            Self::Share(share) => {
                let tenth = u32::try_from(share.thousandths() / 10_000).unwrap_or(u32::MAX);
                NonZeroU32::new(tenth).unwrap_or(NonZeroU32::MIN).min(max)
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Limit<C: Clock> {
    pub(super) allowed: Allowed,
    pub(super) batch: NonZeroU32,
    /// `None` unless there is a share.
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>>,
}

impl<C: Clock> Limit<C> {
    /// A limiter that has saved up `saved` orders, and a batch at the most.
    pub(super) fn new(allowed: Allowed, max_batch: NonZeroU32, saved: u32, clock: C) -> Self {
        let batch = allowed.batch(max_batch);
        let limiter = match allowed {
            Allowed::Share(share) => quota(share, batch).map(|quota| {
                let limiter = RateLimiter::direct_with_clock(quota, clock);
                // A new limiter starts full.
                if let Some(missing) = NonZeroU32::new(batch.get().saturating_sub(saved)) {
                    let _ = limiter.check_n(missing);
                }
                limiter
            }),
            Allowed::Everything | Allowed::Nothing => None,
        };
        Self { allowed, batch, limiter }
    }

    /// Takes what is saved up: who waits at this limiter gets none of it any more.
    pub(super) fn take_saved(&self) -> u32 {
        let Some(limiter) = &self.limiter else { return 0 };
        let steps = (0..=self.batch.ilog2()).rev().filter_map(|bit| NonZeroU32::new(1 << bit));
        steps.filter(|orders| matches!(limiter.check_n(*orders), Ok(Ok(())))).map(NonZeroU32::get).sum()
    }

    /// Whether `orders` more may be written now: one batch at the most. If so, they count as written.
    pub(super) fn admits(&self, orders: NonZeroU32) -> bool {
        match (&self.allowed, &self.limiter) {
            (Allowed::Everything, _) => true,
            (Allowed::Share(_), Some(limiter)) => matches!(limiter.check_n(orders), Ok(Ok(()))),
            (Allowed::Share(_) | Allowed::Nothing, _) => false,
        }
    }
}

impl Limit<DefaultClock> {
    /// Waits until `orders` more may be written: one batch at the most.
    pub(super) async fn wait(&self, orders: NonZeroU32) {
        match (&self.allowed, &self.limiter) {
            (Allowed::Everything, _) => {}
            (Allowed::Share(_), Some(limiter)) => {
                limiter.until_n_ready(orders).await.expect("a batch is no larger than the burst");
            }
            (Allowed::Share(_) | Allowed::Nothing, _) => std::future::pending().await,
        }
    }
}

/// `None` for a share of nothing. The time from one order to the next is rounded up, so that the share is not exceeded.
fn quota(share: Capacity, batch: NonZeroU32) -> Option<Quota> {
    const THOUSANDTHS: u64 = 1_000 * 1_000_000_000;
    if share == Capacity::ZERO {
        return None;
    }
    let every = Duration::from_nanos(THOUSANDTHS.div_ceil(share.thousandths()));
    Quota::with_period(every).map(|quota| quota.allow_burst(batch))
}

#[cfg(test)]
mod tests {
    use governor::clock::{FakeRelativeClock, Reference};

    use super::*;

    const MAX: NonZeroU32 = NonZeroU32::new(500).unwrap();

    fn limit(orders: u32, saved: u32, clock: &FakeRelativeClock) -> Limit<FakeRelativeClock> {
        Limit::new(Allowed::Share(Capacity::per_second(orders)), MAX, saved, clock.clone())
    }

    #[test]
    fn a_commit_holds_a_tenth_of_a_second_at_low_rates_and_never_more_than_the_most() {
        let batch = |orders| Allowed::Share(Capacity::per_second(orders)).batch(MAX).get();
        assert_eq!([5, 2_000, 100_000].map(batch), [1, 200, 500]);
        assert_eq!(Allowed::Everything.batch(MAX), MAX);
    }

    /// On a clock of the test's own. Once with a share that changes often, and a limiter that does: what has been saved up is neither
    /// doubled nor lost, but for less than one order at each change.
    #[test]
    fn in_any_second_at_most_the_rate_and_one_batch_are_admitted() {
        for changes in [false, true] {
            let clock = FakeRelativeClock::default();
            let begin = clock.now();
            let elapsed = || Duration::from(clock.now().duration_since(begin));
            let mut limit = limit(1_000, 0, &clock);
            let mut admitted = Vec::new();
            for millis in 1..=60_000 {
                while limit.admits(limit.batch) {
                    admitted.push((elapsed(), limit.batch.get()));
                }
                clock.advance(Duration::from_millis(1));
                if changes && millis % 50 == 0 {
                    let share = Capacity::from_thousandths(1_000_000 - millis / 50 % 2);
                    limit = Limit::new(Allowed::Share(share), MAX, limit.take_saved(), clock.clone());
                }
            }
            let all: u32 = admitted.iter().map(|(_, orders)| orders).sum();
            assert!((58_000..=60_000).contains(&all), "{all} orders in a minute");
            for (at, &(start, _)) in admitted.iter().enumerate() {
                let window =
                    admitted[at..].iter().take_while(|(time, _)| *time < start + Duration::from_secs(1));
                let orders: u32 = window.map(|(_, orders)| orders).sum();
                assert!(
                    orders <= 1_000 + limit.batch.get(),
                    "{orders} orders within one second from {start:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_saved_up_is_taken_over_and_less_than_a_batch_of_it() {
        let clock = FakeRelativeClock::default();
        let old = limit(1_000, 0, &clock);
        assert!(!old.admits(NonZeroU32::MIN), "a new one has nothing");
        clock.advance(Duration::from_millis(70));
        let new = limit(100, old.take_saved(), &clock);
        assert!(!old.admits(NonZeroU32::MIN));
        assert!(new.admits(new.batch) && !new.admits(NonZeroU32::MIN), "10 of the 70, a batch");
    }

    #[test]
    fn a_share_of_nothing_admits_nothing_and_less_than_one_a_second_is_kept() {
        let clock = FakeRelativeClock::default();
        let none = limit(0, 5, &clock);
        clock.advance(Duration::from_secs(100));
        assert!(!none.admits(NonZeroU32::MIN));
        let slow = Limit::new(Allowed::Share(Capacity::from_thousandths(250)), MAX, 0, clock.clone());
        clock.advance(Duration::from_millis(3_900));
        assert!(!slow.admits(NonZeroU32::MIN));
        clock.advance(Duration::from_millis(200));
        assert!(slow.admits(NonZeroU32::MIN));
    }
}
