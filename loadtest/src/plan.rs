//! What is sent when: an open model, in which a request leaves at its time whether or not earlier ones were answered.
//! Nothing here sends anything.

use std::time::Duration;

use crate::Error;

/// The longest time from a buyer's first request to their second.
const RETRY_WITHIN: Duration = Duration::from_millis(50);

/// How many buyers come, and when. The same plan always makes the same schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Buyers: 1 to 4,294,967,295. Each wants the product once.
    pub buyers: u64,
    /// The user id of buyer 0; the others follow, one by one.
    pub first_user: u64,
    /// The time over which the buyers arrive, evenly spaced. 0: all at once, as fast as the connections carry them.
    pub arrival: Duration,
    /// The share of buyers, 0 to 1, that sends the same request a second time 0 to 50 ms after the first.
    pub retry_ratio: f64,
    /// Decides who sends twice, and after how long.
    pub seed: u64,
}

/// One request of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// When it is meant to leave, in microseconds from the start of the run.
    pub due_us: u64,
    /// Whose it is, counted from 0.
    pub buyer: u32,
    /// Whether it is the buyer's second request.
    pub second: bool,
}

impl Slot {
    /// When it is meant to leave, from the start of the run.
    pub fn due(&self) -> Duration {
        Duration::from_micros(self.due_us)
    }
}

impl Plan {
    /// Every request, in the order in which they leave.
    ///
    /// # Errors
    /// [`Error::Plan`] when a field is outside its range.
    pub fn schedule(&self) -> Result<Vec<Slot>, Error> {
        let buyers = self.check()?;
        let span = self.arrival.as_micros();
        let mut random = SplitMix(self.seed);
        let seconds = self.seconds();
        let mut wanted = seconds;
        let mut slots = Vec::with_capacity(buyers as usize + seconds as usize);
        for buyer in 0..buyers {
            let due = span * u128::from(buyer) / u128::from(buyers);
            let due_us = u64::try_from(due).unwrap_or(u64::MAX);
            slots.push(Slot { due_us, buyer, second: false });
            // Selection sampling (Knuth, TAOCP 3.4.2, algorithm S): exactly `seconds` buyers, each as likely as any other.
            if random.below(u64::from(buyers - buyer)) < wanted {
                wanted -= 1;
                let after = random.below(RETRY_WITHIN.as_micros() as u64 + 1);
                slots.push(Slot { due_us: due_us.saturating_add(after), buyer, second: true });
            }
        }
        slots.sort_unstable_by_key(|slot| (slot.due_us, slot.buyer, slot.second));
        Ok(slots)
    }

    /// How many buyers send twice: the nearest whole number to their share.
    pub fn seconds(&self) -> u64 {
        (self.buyers as f64 * self.retry_ratio).round() as u64
    }

    /// The user id of one buyer.
    pub fn user(&self, buyer: u32) -> u64 {
        self.first_user + u64::from(buyer)
    }

    /// Checks every field; gives the number of buyers.
    fn check(&self) -> Result<u32, Error> {
        let wrong = |field, value: String, allowed| Err(Error::Plan { field, value, allowed });
        let Ok(buyers @ 1..) = u32::try_from(self.buyers) else {
            return wrong("buyers", self.buyers.to_string(), "1 to 4294967295");
        };
        if !(0.0..=1.0).contains(&self.retry_ratio) {
            return wrong("retry_ratio", self.retry_ratio.to_string(), "a share from 0 to 1");
        }
        if self.first_user.checked_add(self.buyers).is_none() {
            return wrong("first_user", self.first_user.to_string(), "an id that leaves room for all buyers");
        }
        Ok(buyers)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): written out here, so that a seed means the same schedule in every version.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, not including, `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { buyers: 10_000, first_user: 1, arrival: Duration::from_secs(1), retry_ratio: 0.25, seed: 7 }
    }

    #[test]
    fn the_same_seed_makes_the_same_schedule() {
        assert_eq!(plan().schedule().unwrap(), plan().schedule().unwrap());
        assert_ne!(plan().schedule().unwrap(), Plan { seed: 8, ..plan() }.schedule().unwrap());
    }

    #[test]
    fn every_buyer_comes_once_and_the_exact_share_twice_shortly_after() {
        let slots = plan().schedule().unwrap();
        assert!(slots.is_sorted_by_key(|slot| slot.due_us));
        let firsts: Vec<_> = slots.iter().filter(|slot| !slot.second).collect();
        assert_eq!(firsts.len(), 10_000);
        assert!(firsts.iter().all(|slot| slot.due_us == u64::from(slot.buyer) * 100));
        let seconds: Vec<_> = slots.iter().filter(|slot| slot.second).collect();
        assert_eq!(seconds.len(), 2_500);
        assert!(seconds.iter().all(|slot| slot.due_us - u64::from(slot.buyer) * 100 <= 50_000));
        let early = seconds.iter().filter(|slot| slot.buyer < 5_000).count();
        assert!((1_150..1_350).contains(&early), "{early} of 2,500 in the first half");
    }

    #[test]
    fn all_or_none_may_send_twice() {
        let count = |retry_ratio| Plan { retry_ratio, ..plan() }.schedule().unwrap().len();
        assert_eq!((count(0.0), count(1.0)), (10_000, 20_000));
    }

    #[test]
    fn a_field_outside_its_range_is_named() {
        for bad in [
            Plan { buyers: 0, ..plan() },
            Plan { buyers: 1 << 32, ..plan() },
            Plan { retry_ratio: 1.1, ..plan() },
            Plan { retry_ratio: f64::NAN, ..plan() },
            Plan { first_user: u64::MAX, ..plan() },
        ] {
            assert!(matches!(bad.schedule(), Err(Error::Plan { .. })), "{bad:?}");
        }
    }
}
