//! Over how many of a sale's lanes its claims are spread. One lane makes the largest batches, and a batch costs the gate and the queue hardly
//! more than an order does. More lanes are only of use where one cannot take all that waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use seckill_core::UserId;

/// Batches in a row of less than a quarter, after which one lane less is used.
const CALM: usize = 256;

pub(super) struct Spread {
    lanes: usize,
    /// Orders that a batch can have.
    full: usize,
    used: AtomicUsize,
    calm: AtomicUsize,
}

impl Spread {
    pub(super) fn new(lanes: usize, full: usize) -> Self {
        Self { lanes, full, used: AtomicUsize::new(1), calm: AtomicUsize::new(0) }
    }

    /// The lane of this user, another one for a moment when their number changes. Then the gate may find the first click's order pending when
    /// the second click comes, and the lane publishes it once more, as it does for every pending order.
    pub(super) fn lane_of(&self, user: UserId) -> usize {
        // A multiplicative hash (Knuth, TAOCP 6.4), so that user ids with a common stride still spread over the lanes.
        let hash = user.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        hash as usize % self.used.load(Ordering::Relaxed)
    }

    /// A lane has taken a batch of so many orders.
    pub(super) fn note(&self, orders: usize) {
        if orders >= self.full {
            self.widen();
        } else if orders * 4 >= self.full {
            self.calm.store(0, Ordering::Relaxed);
        } else if self.calm.fetch_add(1, Ordering::Relaxed) >= CALM {
            self.change(|used| (used > 1).then_some(used - 1));
        }
    }

    /// One lane does not take all that comes.
    pub(super) fn widen(&self) {
        self.change(|used| (used < self.lanes).then_some(used + 1));
    }

    fn change(&self, change: impl Fn(usize) -> Option<usize>) {
        self.calm.store(0, Ordering::Relaxed);
        // An error says that there is no lane more, or none less.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn full_batches_open_lanes_and_small_ones_close_them() {
        let spread = Spread::new(3, 100);
        let lanes = || (0..1_000).map(|user| spread.lane_of(UserId(user))).collect::<BTreeSet<_>>();
        for batch in [1, 24, 25, 99] {
            spread.note(batch);
        }
        assert_eq!(lanes(), [0].into());
        for used in [[0, 1].as_slice(), &[0, 1, 2], &[0, 1, 2]] {
            spread.note(100);
            assert_eq!(lanes(), used.iter().copied().collect());
        }
        for _ in 0..10 * CALM {
            spread.note(25);
        }
        assert_eq!(lanes(), [0, 1, 2].into(), "a quarter is not small");
        for _ in 0..=CALM {
            spread.note(24);
        }
        assert_eq!(lanes(), [0, 1].into());
        for _ in 0..10 * CALM {
            spread.note(1);
        }
        assert_eq!(lanes(), [0].into());
    }
}
