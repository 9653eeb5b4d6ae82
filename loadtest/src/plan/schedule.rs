//! The plan and its schedule: which buyer sends a request at which time. In the open model a request leaves at its time,
//! whether or not earlier ones were answered.

use std::time::Duration;

use crate::error::Error;
use crate::plan::stages::Stages;

/// The longest time from a buyer's first request to their second.
const RETRY_WITHIN: Duration = Duration::from_millis(50);
/// The time from one request of a bot to its next.
const BOT_EVERY: Duration = Duration::from_millis(20);
/// The most requests of one plan: a schedule that large, with its tokens and records, takes about 2.5 GB.
pub const MAX_REQUESTS: u64 = 10_000_000;

/// How many buyers come, when, and what they send. The same plan always makes the same schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// When buyers come.
    pub arrivals: Arrivals,
    /// The user id of buyer 0; the others follow, one by one.
    pub first_user: u64,
    /// The seed of the random choices: who sends again, after how long, and who is a bot.
    pub seed: u64,
    /// Requests that every buyer sends at once: 1 to 100.
    pub copies: u32,
    /// The share of buyers, 0 to 1, that sends the same request once more 0 to 50 ms after the first.
    pub retry_ratio: f64,
    /// The share of buyers, 0 to 1, that are bots: they send the same request every 20 ms.
    pub bots: f64,
    /// Requests of one bot: 1 to 10,000.
    pub bot_requests: u32,
    /// The plan ends after so many requests; `None`: when all buyers have come.
    pub requests: Option<u64>,
}

/// When buyers come.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrivals {
    /// Open: evenly spaced over a time. With 0 all come at once, and leave as fast as the connections allow.
    Spread {
        /// 1 to 10,000,000.
        buyers: u64,
        /// The time from the first to the last.
        over: Duration,
    },
    /// Open: at a rate that changes over time.
    Stages(Stages),
    /// Closed: each connection sends the next request as soon as the one before was answered. When all buyers have come, they
    /// come again, and the server answers with their first order.
    Closed {
        /// 1 to 10,000,000.
        buyers: u64,
        /// No request leaves after this time; `None`: the plan's `requests` end it.
        lasts: Option<Duration>,
    },
}

/// One request of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// When it is meant to leave, in microseconds from the start of the run.
    pub due_us: u64,
    /// The buyer who sends it, counted from 0.
    pub buyer: u32,
    /// Whether it is not the buyer's first request.
    pub repeat: bool,
}

impl Slot {
    /// When it is meant to leave, from the start of the run.
    pub fn due(&self) -> Duration {
        Duration::from_micros(self.due_us)
    }
}

impl Plan {
    /// Buyers `first_user` and on, evenly spaced, each with one request.
    pub fn spread(buyers: u64, first_user: u64, over: Duration) -> Self {
        Self::new(Arrivals::Spread { buyers, over }, first_user)
    }

    /// Each buyer sends one request; seed 1.
    pub fn new(arrivals: Arrivals, first_user: u64) -> Self {
        let (copies, retry_ratio, bots, bot_requests) = (1, 0.0, 0.0, 50);
        Self { arrivals, first_user, seed: 1, copies, retry_ratio, bots, bot_requests, requests: None }
    }

    /// How many different buyers there are.
    pub fn buyers(&self) -> u64 {
        match &self.arrivals {
            Arrivals::Spread { buyers, .. } | Arrivals::Closed { buyers, .. } => *buyers,
            Arrivals::Stages(stages) => stages.buyers(),
        }
    }

    /// How many different buyers the schedule may need: the plan may end before all of them have come.
    pub fn comers(&self) -> u64 {
        // Every buyer who comes sends a request.
        self.requests.map_or(self.buyers(), |requests| requests.min(self.buyers()))
    }

    /// How long requests leave; 0 where only the number of requests ends the run.
    pub fn lasts(&self) -> Duration {
        match &self.arrivals {
            Arrivals::Spread { over, .. } => *over,
            Arrivals::Stages(stages) => stages.duration(),
            Arrivals::Closed { lasts, .. } => lasts.unwrap_or_default(),
        }
    }

    /// How many buyers send again: the nearest whole number to their share.
    pub fn retries(&self) -> u64 {
        share(self.buyers(), self.retry_ratio)
    }

    /// How many requests will leave; `None` in the closed model when only time ends it.
    pub fn total(&self) -> Option<u64> {
        if matches!(self.arrivals, Arrivals::Closed { .. }) {
            return self.requests;
        }
        let buyers = self.buyers();
        let bots = share(buyers, self.bots).saturating_mul(u64::from(self.bot_requests.saturating_sub(1)));
        let all =
            buyers.saturating_mul(self.copies.into()).saturating_add(self.retries()).saturating_add(bots);
        Some(self.requests.map_or(all, |limit| all.min(limit)))
    }

    pub fn user(&self, buyer: u32) -> u64 {
        self.first_user + u64::from(buyer)
    }

    /// Every request, in the order in which they leave. Empty in the closed model, which has no schedule.
    ///
    /// # Errors
    /// [`Error::Plan`] when a field is outside its range.
    pub fn schedule(&self) -> Result<Vec<Slot>, Error> {
        self.check()?;
        let buyers = self.buyers();
        let mut crowd = Crowd::new(self);
        let mut slots = Vec::with_capacity(self.total().unwrap_or_default() as usize);
        match &self.arrivals {
            Arrivals::Spread { over, .. } => {
                let due = |buyer| over.as_micros() * u128::from(buyer) / u128::from(buyers);
                (0..buyers).for_each(|buyer| {
                    crowd.come(&mut slots, buyer as u32, u64::try_from(due(buyer)).unwrap_or(u64::MAX));
                });
            }
            Arrivals::Stages(stages) => {
                let times = stages.arrivals().enumerate();
                times.for_each(|(buyer, due_us)| crowd.come(&mut slots, buyer as u32, due_us));
            }
            Arrivals::Closed { .. } => {}
        }
        slots.sort_unstable_by_key(|slot| (slot.due_us, slot.buyer, slot.repeat));
        slots.truncate(self.requests.map_or(usize::MAX, |limit| limit as usize));
        Ok(slots)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Plan`] for the first that is outside its range.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field, value: String, allowed| Err(Error::Plan { field, value, allowed });
        let buyers = self.buyers();
        if !(1..=MAX_REQUESTS).contains(&buyers) {
            return wrong("the number of buyers", buyers.to_string(), "1 to 10000000");
        }
        for (field, share) in [("retry_ratio", self.retry_ratio), ("bots", self.bots)] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(field, share.to_string(), "a share from 0 to 1, such as 0.05");
            }
        }
        if !(1..=100).contains(&self.copies) {
            return wrong("copies", self.copies.to_string(), "1 to 100");
        }
        if !(1..=10_000).contains(&self.bot_requests) {
            return wrong("bot_requests", self.bot_requests.to_string(), "1 to 10000");
        }
        if self.first_user.checked_add(buyers).is_none() {
            return wrong("first_user", self.first_user.to_string(), "an id that leaves room for all buyers");
        }
        match (self.total(), &self.arrivals) {
            (Some(total), _) if !(1..=MAX_REQUESTS).contains(&total) => {
                wrong("the number of requests", total.to_string(), "1 to 10000000")
            }
            (None, Arrivals::Closed { lasts: None, .. }) => wrong(
                "the end of a closed run",
                "not given".to_owned(),
                "a number of requests, a duration, or both",
            ),
            _ => Ok(()),
        }
    }
}

fn share(of: u64, ratio: f64) -> u64 {
    (of as f64 * ratio).round() as u64
}

/// Decides for each buyer, in the order in which they come, what they send.
struct Crowd<'a> {
    plan: &'a Plan,
    random: SplitMix,
    /// Buyers yet to come.
    left: u64,
    /// How many of them will send again, and how many are bots.
    retries: u64,
    bots: u64,
    bot_random: SplitMix,
}

impl<'a> Crowd<'a> {
    fn new(plan: &'a Plan) -> Self {
        let left = plan.buyers();
        let (retries, bots) = (plan.retries(), share(left, plan.bots));
        let bot_random = SplitMix(plan.seed ^ 0x626f_7473);
        Self { plan, random: SplitMix(plan.seed), left, retries, bots, bot_random }
    }

    fn come(&mut self, slots: &mut Vec<Slot>, buyer: u32, due_us: u64) {
        for copy in 0..self.plan.copies {
            slots.push(Slot { due_us, buyer, repeat: copy > 0 });
        }
        // Selection sampling (Knuth, TAOCP 3.4.2, algorithm S): exactly so many buyers, each as likely as any other.
        if self.random.below(self.left) < self.retries {
            self.retries -= 1;
            let after = self.random.below(RETRY_WITHIN.as_micros() as u64 + 1);
            slots.push(Slot { due_us: due_us.saturating_add(after), buyer, repeat: true });
        }
        if self.bot_random.below(self.left) < self.bots {
            self.bots -= 1;
            let again = |time| due_us.saturating_add(u64::from(time) * BOT_EVERY.as_micros() as u64);
            slots.extend((1..self.plan.bot_requests).map(|time| Slot {
                due_us: again(time),
                buyer,
                repeat: true,
            }));
        }
        self.left -= 1;
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
        Plan { retry_ratio: 0.25, seed: 7, ..Plan::spread(10_000, 1, Duration::from_secs(1)) }
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
        let firsts: Vec<_> = slots.iter().filter(|slot| !slot.repeat).collect();
        assert_eq!(firsts.len(), 10_000);
        assert!(firsts.iter().all(|slot| slot.due_us == u64::from(slot.buyer) * 100));
        let seconds: Vec<_> = slots.iter().filter(|slot| slot.repeat).collect();
        assert_eq!(seconds.len(), 2_500);
        assert!(seconds.iter().all(|slot| slot.due_us - u64::from(slot.buyer) * 100 <= 50_000));
        let early = seconds.iter().filter(|slot| slot.buyer < 5_000).count();
        assert!((1_150..1_350).contains(&early), "{early} of 2,500 in the first half");
        assert_eq!(plan().total(), Some(12_500));
    }

    #[test]
    fn all_or_none_may_send_twice() {
        let count = |retry_ratio| Plan { retry_ratio, ..plan() }.schedule().unwrap().len();
        assert_eq!((count(0.0), count(1.0)), (10_000, 20_000));
    }

    #[test]
    fn duplicates_leave_at_the_same_moment() {
        let plan = Plan { copies: 3, ..Plan::spread(100, 1, Duration::from_secs(1)) };
        let slots = plan.schedule().unwrap();
        assert_eq!(slots.len(), 300);
        for three in slots.chunks(3) {
            assert!(three.iter().all(|slot| (slot.buyer, slot.due_us) == (three[0].buyer, three[0].due_us)));
            assert_eq!(three.iter().filter(|slot| slot.repeat).count(), 2);
        }
    }

    #[test]
    fn the_exact_share_of_buyers_are_bots() {
        let plan = Plan { bots: 0.05, bot_requests: 40, ..Plan::spread(1_000, 1, Duration::from_secs(1)) };
        let slots = plan.schedule().unwrap();
        assert_eq!(slots.len() as u64, plan.total().unwrap());
        assert_eq!(slots.len(), 1_000 + 50 * 39);
        let mut times = vec![0; 1_000];
        slots.iter().for_each(|slot| times[slot.buyer as usize] += 1);
        assert_eq!(times.iter().filter(|&&count| count == 40).count(), 50);
    }

    #[test]
    fn a_number_of_requests_cuts_the_schedule_off() {
        let slots = Plan { requests: Some(500), ..plan() }.schedule().unwrap();
        assert_eq!(slots, plan().schedule().unwrap()[..500]);
    }

    #[test]
    fn a_field_outside_its_range_is_named() {
        let closed = |lasts| Plan::new(Arrivals::Closed { buyers: 5, lasts }, 1);
        for bad in [
            Plan::spread(0, 1, Duration::ZERO),
            Plan::spread(MAX_REQUESTS + 1, 1, Duration::ZERO),
            Plan { retry_ratio: 1.1, ..plan() },
            Plan { retry_ratio: f64::NAN, ..plan() },
            Plan { bots: -0.1, ..plan() },
            Plan { copies: 0, ..plan() },
            Plan { bot_requests: 0, ..plan() },
            Plan { first_user: u64::MAX, ..plan() },
            Plan { requests: Some(0), ..plan() },
            Plan { bots: 1.0, bot_requests: 10_000, ..plan() },
            closed(None),
        ] {
            assert!(matches!(bad.schedule(), Err(Error::Plan { .. })), "{bad:?}");
        }
        assert!(closed(Some(Duration::from_secs(1))).check().is_ok());
    }
}
