//! The drain rate: how many orders a second may be written to the ledger. Shared by the lanes of one worker, changed
//! while they run.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use seckill_core::DrainRate;
use tokio::sync::watch;

/// Orders in one commit, at the most, unless told otherwise: beyond it a transaction gains little and holds its locks
/// longer.
pub const MAX_BATCH: NonZeroU32 = NonZeroU32::new(500).expect("500 is not zero");

/// Orders in one commit at this rate: a tenth of a second's worth, so that the line is flat, and `max` at the most.
fn batch(rate: DrainRate, max: NonZeroU32) -> NonZeroU32 {
    match rate {
        DrainRate::Unlimited | DrainRate::Paused => max,
        DrainRate::PerSecond(rate) => NonZeroU32::new(rate.get() / 10).unwrap_or(NonZeroU32::MIN).min(max),
    }
}

/// Admits orders at the drain rate. In any one second it admits at most the rate and one batch.
#[derive(Debug)]
pub struct Pace {
    max_batch: NonZeroU32,
    limit: watch::Sender<Arc<Limit<DefaultClock>>>,
}

#[derive(Debug)]
struct Limit<C: Clock> {
    rate: DrainRate,
    batch: NonZeroU32,
    /// `None` unless the rate is a number.
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>>,
}

impl<C: Clock> Limit<C> {
    fn new(rate: DrainRate, max_batch: NonZeroU32, clock: C) -> Self {
        let batch = batch(rate, max_batch);
        let limiter = match rate {
            DrainRate::PerSecond(rate) => {
                let limiter =
                    RateLimiter::direct_with_clock(Quota::per_second(rate).allow_burst(batch), clock);
                // A new limiter starts full. Empty it, else changing the rate often would let a batch through each time.
                let _ = limiter.check_n(batch);
                Some(limiter)
            }
            DrainRate::Unlimited | DrainRate::Paused => None,
        };
        Self { rate, batch, limiter }
    }
}

impl Limit<DefaultClock> {
    /// Waits until `orders` more may be written: one batch at the most.
    async fn admit(&self, orders: u32) {
        if self.rate == DrainRate::Paused {
            return std::future::pending().await;
        }
        if let (Some(limiter), Some(orders)) = (&self.limiter, NonZeroU32::new(orders)) {
            limiter.until_n_ready(orders).await.expect("a batch is no larger than the burst");
        }
    }
}

impl Pace {
    /// Commits hold at most `max_batch` orders, whatever the rate.
    pub fn new(rate: DrainRate, max_batch: NonZeroU32) -> Self {
        show(rate);
        Self {
            max_batch,
            limit: watch::Sender::new(Arc::new(Limit::new(rate, max_batch, DefaultClock::default()))),
        }
    }

    /// Changes the rate, for waiting lanes too.
    pub fn set(&self, rate: DrainRate) {
        show(rate);
        self.limit.send_replace(Arc::new(Limit::new(rate, self.max_batch, DefaultClock::default())));
    }

    /// The rate in force.
    pub fn rate(&self) -> DrainRate {
        self.limit.borrow().rate
    }

    /// Orders that one commit should hold at the rate in force.
    pub fn batch(&self) -> usize {
        self.limit.borrow().batch.get() as usize
    }

    /// Waits until orders may be written, and says how many of `held`: all, or one batch. When the rate changes meanwhile,
    /// the wait begins anew under the new rate, with its batch: one that was gathered at a higher rate, or while paused,
    /// must not reach the ledger in one piece.
    pub async fn admit(&self, held: usize) -> usize {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let mut changes = self.limit.subscribe();
        loop {
            let limit = Arc::clone(&changes.borrow_and_update());
            let orders = held.min(limit.batch.get());
            tokio::select! {
                () = limit.admit(orders) => return orders as usize,
                changed = changes.changed() => changed.expect("this pace holds the sender"),
            }
        }
    }
}

fn show(rate: DrainRate) {
    metrics::gauge!("seckill_drain_rate").set(match rate {
        DrainRate::Unlimited => f64::INFINITY,
        DrainRate::PerSecond(rate) => f64::from(rate.get()),
        DrainRate::Paused => 0.0,
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::{FakeRelativeClock, Reference};

    use super::*;

    fn per_second(rate: u32) -> DrainRate {
        DrainRate::PerSecond(NonZeroU32::new(rate).unwrap())
    }

    fn pace(rate: DrainRate) -> Pace {
        Pace::new(rate, NonZeroU32::new(500).unwrap())
    }

    #[test]
    fn a_commit_holds_a_tenth_of_a_second_at_low_rates_and_never_more_than_the_most() {
        assert_eq!(pace(per_second(5)).batch(), 1);
        assert_eq!(pace(per_second(2_000)).batch(), 200);
        assert_eq!(pace(per_second(100_000)).batch(), 500);
        assert_eq!(pace(DrainRate::Unlimited).batch(), 500);
    }

    /// On a clock of the test's own: as if each batch had waited exactly until it may go.
    #[test]
    fn in_any_second_at_most_the_rate_and_one_batch_are_admitted() {
        let pace = pace(per_second(1_000));
        let clock = FakeRelativeClock::default();
        let limit = Limit::new(pace.rate(), pace.max_batch, clock.clone());
        let limiter = limit.limiter.unwrap();
        let begin = clock.now();
        let elapsed = || Duration::from(clock.now().duration_since(begin));
        let mut admitted = Vec::new();
        while elapsed() < Duration::from_secs(60) {
            match limiter.check_n(limit.batch).unwrap() {
                Ok(()) => admitted.push((elapsed(), limit.batch.get() as usize)),
                Err(refused) => clock.advance(refused.wait_time_from(clock.now())),
            }
        }
        let all: usize = admitted.iter().map(|(_, orders)| orders).sum();
        assert!((59_000..=60_000).contains(&all), "{all} orders in a minute");
        for (at, &(start, _)) in admitted.iter().enumerate() {
            let window = admitted[at..].iter().take_while(|(time, _)| *time < start + Duration::from_secs(1));
            let orders: usize = window.map(|(_, orders)| orders).sum();
            assert!(orders <= 1_000 + pace.batch(), "{orders} orders within one second from {start:?}");
        }
    }

    #[tokio::test]
    async fn a_change_reaches_a_lane_that_waits_and_gives_nothing_away() {
        let pace = Arc::new(pace(DrainRate::Paused));
        let waiting = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.admit(500).await }
        });
        // A new limit lets the first batch go after half a second at the earliest; the next change comes before that.
        for rate in (1..=2).cycle().take(50) {
            pace.set(per_second(rate));
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished(), "orders were admitted at once by changing the rate");
        pace.set(DrainRate::Unlimited);
        let admitted = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
        assert_eq!(admitted, 500);
        assert_eq!(pace.admit(10_000).await, 500, "one batch at the most");
    }
}
