//! Over how many of a sale's lanes its claims are spread. One lane makes the largest batches, and a batch costs the gate and the queue hardly
//! more than an order does. More lanes are only of use where one cannot take all that waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use seckill_core::UserId;
use tokio::time::Instant;

/// Batches in a row of less than a quarter, after which one lane less is used.
const CALM: usize = 256;

pub(super) struct Spread {
    lanes: usize,
    /// Orders that a batch can have.
    full: usize,
    used: AtomicUsize,
    calm: AtomicUsize,
    /// When each lane began its batch, in milliseconds since `since` and one more; 0: it waits for claims.
    begun: Box<[AtomicU64]>,
    since: Instant,
    /// A lane that is with one batch for so long holds up whoever waits in it.
    slow: Duration,
}

impl Spread {
    pub(super) fn new(lanes: usize, full: usize, slow: Duration) -> Self {
        let begun = std::iter::repeat_with(AtomicU64::default).take(lanes).collect();
        let (used, calm) = (AtomicUsize::new(1), AtomicUsize::new(0));
        Self { lanes, full, used, calm, begun, since: Instant::now(), slow }
    }

    /// The lane for a claim of this user that comes `now`. While that one is slow and there are lanes that are not used, one more is used.
    pub(super) fn lane_for(&self, user: UserId, now: Instant) -> usize {
        let mut lane = self.lane_of(user);
        while self.is_slow(lane, now) && self.widen() {
            lane = self.lane_of(user);
        }
        lane
    }

    fn is_slow(&self, lane: usize, now: Instant) -> bool {
        match self.begun[lane].load(Ordering::Relaxed) {
            0 => false,
            begun => self.millis(now).saturating_sub(begun) >= self.slow.as_millis() as u64,
        }
    }

    /// 1 or more.
    fn millis(&self, now: Instant) -> u64 {
        now.duration_since(self.since).as_millis() as u64 + 1
    }

    /// The lane of this user, another one for a moment when their number changes. Then the gate may find the first click's order pending when
    /// the second click comes, and the lane publishes it once more, as it does for every pending order.
    fn lane_of(&self, user: UserId) -> usize {
        // A multiplicative hash (Knuth, TAOCP 6.4), so that user ids with a common stride still spread over the lanes.
        let hash = user.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        hash as usize % self.used.load(Ordering::Relaxed)
    }

    /// A lane begins a batch of so many orders.
    pub(super) fn begin(&self, lane: usize, orders: usize) {
        self.begun[lane].store(self.millis(Instant::now()), Ordering::Relaxed);
        if orders >= self.full {
            let _ = self.widen();
        } else if orders * 4 >= self.full {
            self.calm.store(0, Ordering::Relaxed);
        } else if self.calm.fetch_add(1, Ordering::Relaxed) >= CALM {
            let _ = self.change(|used| (used > 1).then_some(used - 1));
        }
    }

    /// The lane is done with its batch.
    pub(super) fn end(&self, lane: usize) {
        self.begun[lane].store(0, Ordering::Relaxed);
    }

    /// Uses one lane more; false: there is none.
    pub(super) fn widen(&self) -> bool {
        self.change(|used| (used < self.lanes).then_some(used + 1))
    }

    fn change(&self, change: impl Fn(usize) -> Option<usize>) -> bool {
        self.calm.store(0, Ordering::Relaxed);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn full_batches_open_lanes_and_small_ones_close_them() {
        let spread = Spread::new(3, 100, Duration::from_secs(1));
        let lanes = || (0..1_000).map(|user| spread.lane_of(UserId(user))).collect::<BTreeSet<_>>();
        for batch in [1, 24, 25, 99] {
            spread.begin(0, batch);
        }
        assert_eq!(lanes(), [0].into());
        for used in [[0, 1].as_slice(), &[0, 1, 2], &[0, 1, 2]] {
            spread.begin(0, 100);
            assert_eq!(lanes(), used.iter().copied().collect());
        }
        for _ in 0..10 * CALM {
            spread.begin(0, 25);
        }
        assert_eq!(lanes(), [0, 1, 2].into(), "a quarter is not small");
        for _ in 0..=CALM {
            spread.begin(0, 24);
        }
        assert_eq!(lanes(), [0, 1].into());
        for _ in 0..10 * CALM {
            spread.begin(0, 1);
        }
        assert_eq!(lanes(), [0].into());
    }

    #[test]
    fn a_lane_that_is_slow_holds_up_only_its_own_users() {
        let (spread, begin) = (Spread::new(4, 100, Duration::from_millis(25)), Instant::now());
        let lanes = |millis| {
            let now = begin + Duration::from_millis(millis);
            (0..1_000).map(|user| spread.lane_for(UserId(user), now)).collect::<Vec<_>>()
        };
        spread.begin(0, 1);
        assert!(lanes(20).iter().all(|lane| *lane == 0));
        let spread_out = lanes(60);
        let held_up = spread_out.iter().filter(|lane| **lane == 0).count();
        assert!((1..300).contains(&held_up), "{held_up}");
        spread.end(0);
        assert_eq!(lanes(90).iter().max(), Some(&3));
    }
}
