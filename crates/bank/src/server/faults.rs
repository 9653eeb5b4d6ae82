//! Faults on purpose: what a bank does on its bad days.

use std::sync::{Mutex, PoisonError};

use seckill_core::FieldError;
use serde::{Deserialize, Serialize};

/// The longest `slow_ms`.
const MAX_SLOW_MS: u64 = 60_000;

/// What goes wrong. A request meets at most one of the first three, so together they are 1 at the most.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The share, 0 to 1, of charges and refunds that are never answered and have no effect.
    pub timeout_before: f64,
    /// The share that is never answered after the effect.
    pub timeout_after: f64,
    /// The share that is answered with 500 and has no effect.
    pub errors: f64,
    /// Milliseconds by which every answer is late.
    pub slow_ms: u64,
    /// Each webhook is sent twice.
    pub webhooks_doubled: bool,
    /// Each webhook lets the next one pass, if that comes within half a second.
    pub webhooks_reordered: bool,
    /// The same seed and the same number of requests meet the same faults.
    pub seed: u64,
}

impl Faults {
    /// # Errors
    /// The first field with a value that is not allowed.
    pub fn check(&self) -> Result<(), FieldError> {
        let shares = [
            ("timeout_before", self.timeout_before),
            ("timeout_after", self.timeout_after),
            ("errors", self.errors),
        ];
        for (field, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(FieldError::new(field, format!("is {share}; allowed are 0 to 1")));
            }
        }
        let together = self.timeout_before + self.timeout_after + self.errors;
        // Ten tenths are a little more than 1 in binary.
        if together > 1.0 + 1e-9 {
            let message = format!(
                "is, with timeout_after and errors, {together}; a request meets one fault, so they are 1 at the most together"
            );
            return Err(FieldError::new("timeout_before", message));
        }
        if self.slow_ms > MAX_SLOW_MS {
            let message = format!("is {}; allowed are 0 to {MAX_SLOW_MS}", self.slow_ms);
            return Err(FieldError::new("slow_ms", message));
        }
        Ok(())
    }
}

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    None,
    NoAnswerBefore,
    NoAnswerAfter,
    Error,
}

/// The faults as they are now. They can be changed while the service runs.
pub(super) struct FaultSwitch(Mutex<(Faults, SplitMix)>);

impl FaultSwitch {
    pub(super) fn new(faults: Faults) -> Self {
        let random = SplitMix(faults.seed);
        Self(Mutex::new((faults, random)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Faults, SplitMix)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Faults {
        self.lock().0
    }

    /// New faults, from the start of their seed.
    pub(super) fn set(&self, faults: Faults) {
        *self.lock() = (faults, SplitMix(faults.seed));
    }

    /// Draws what the next charge or refund meets.
    pub(super) fn draw(&self) -> Mishap {
        let (faults, random) = &mut *self.lock();
        let drawn = random.share();
        let (before, after) = (faults.timeout_before, faults.timeout_before + faults.timeout_after);
        if drawn < before {
            Mishap::NoAnswerBefore
        } else if drawn < after {
            Mishap::NoAnswerAfter
        } else if drawn < after + faults.errors {
            Mishap::Error
        } else {
            Mishap::None
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): written out here, so that a seed means the same faults in every version.
struct SplitMix(u64);

impl SplitMix {
    /// From 0 to just below 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 53 bits are what a double holds exactly.
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(faults: &Faults, count: usize) -> Vec<Mishap> {
        let switch = FaultSwitch::new(*faults);
        (0..count).map(|_| switch.draw()).collect()
    }

    #[test]
    fn a_seed_repeats_its_faults_and_another_does_not() {
        let faults = Faults { timeout_before: 0.3, errors: 0.2, seed: 7, ..Faults::default() };
        assert_eq!(drawn(&faults, 200), drawn(&faults, 200));
        let other = Faults { seed: 8, ..faults };
        assert_ne!(drawn(&faults, 200), drawn(&other, 200));
    }

    #[test]
    fn each_fault_has_its_share() {
        let faults =
            Faults { timeout_before: 0.1, timeout_after: 0.2, errors: 0.3, seed: 1, ..Faults::default() };
        let drawn = drawn(&faults, 10_000);
        for (mishap, share) in
            [(Mishap::NoAnswerBefore, 1_000), (Mishap::NoAnswerAfter, 2_000), (Mishap::Error, 3_000)]
        {
            let count = drawn.iter().filter(|met| **met == mishap).count();
            assert!(count.abs_diff(share) < 200, "{mishap:?}: {count}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let none = Faults::default();
        assert_eq!(none.check(), Ok(()));
        let tenths = Faults { timeout_before: 0.1, timeout_after: 0.2, errors: 0.7, ..none };
        assert_eq!(tenths.check(), Ok(()));
        for (wrong, field) in [
            (Faults { timeout_before: -0.1, ..none }, "timeout_before"),
            (Faults { timeout_after: f64::NAN, ..none }, "timeout_after"),
            (Faults { errors: 1.1, ..none }, "errors"),
            (Faults { timeout_before: 0.6, errors: 0.6, ..none }, "timeout_before"),
            (Faults { slow_ms: MAX_SLOW_MS + 1, ..none }, "slow_ms"),
        ] {
            assert_eq!(wrong.check().unwrap_err().field, field);
        }
    }
}
