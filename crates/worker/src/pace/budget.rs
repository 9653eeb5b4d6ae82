//! How a worker leases its share of the drain rate: it asks twice a second, says what it wants and what it uses, and goes on at its
//! safe capacity when its lease has ended and the leases cannot be reached.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use seckill_core::capacity::{Capacity, CapacityGrant, CapacityRequest};
use seckill_core::{CAPACITY_LEASE, CapacityLeases, DrainRate, Fault};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::gradient::AutoBounds;
use super::{LOOK, Pace, takes_share};

/// How often a lease is refreshed. A new drain rate, and what others no longer need, arrive within this time.
const REFRESH: Duration = Duration::from_millis(500);
/// The shortest time between two requests, for a worker that needs more at once, or confirms that it uses less.
const AT_ONCE: Duration = Duration::from_millis(50);
/// The longest wait for an answer: several tries fit into a lease.
const ANSWER: Duration = Duration::from_secs(1);
/// What a worker without orders asks for, so that its first order need not wait: this part of an equal share.
const IDLE_PART: u32 = 20;

/// What a worker has to remember from one request to the next.
#[derive(Default)]
struct Asking {
    /// Orders a second in the last requests; falls slowly.
    recent: f64,
    /// Since when requests have failed, and whether that is logged.
    failing: Option<(Instant, bool)>,
}

impl Asking {
    /// Not at once: at the start of a process the ledger, whose leases these are, may not have been reached yet.
    fn log(&mut self, rate: DrainRate, asked: Instant, fault: Option<&Fault>) {
        let (since, logged) = self.failing.get_or_insert((asked, false));
        if takes_share(rate) && asked - *since >= ANSWER && !std::mem::replace(logged, true) {
            let reason = fault.map_or_else(|| format!("no answer within {ANSWER:?}"), ToString::to_string);
            tracing::warn!(
                reason,
                "the share of the drain rate cannot be leased; when the lease ends this worker goes on at its safe rate"
            );
        }
    }
}

impl Pace {
    /// Keeps this worker's share; never returns. May be dropped at any point: what it leased stays in force until the lease ends.
    pub(crate) async fn keep_share(&self, leases: &dyn CapacityLeases) {
        tokio::join!(self.refresh(leases), self.find_rate());
    }

    /// Gives the share back, once nothing is written any more.
    pub(crate) async fn give_back(&self, leases: &dyn CapacityLeases) {
        {
            let mut state = self.lock();
            (state.share, state.until) = (Capacity::ZERO, None);
            self.apply(&state, true);
        }
        if !matches!(timeout(ANSWER, leases.release(self.worker)).await, Ok(Ok(()))) {
            tracing::debug!("the share of the drain rate was not given back; it is free when its lease ends");
        }
    }

    async fn refresh(&self, leases: &dyn CapacityLeases) {
        let mut told = self.told.subscribe();
        let mut asking = Asking::default();
        let mut last = Instant::now();
        loop {
            let rate = *told.borrow_and_update();
            let asked = Instant::now();
            let request = self.request(&mut asking, rate, asked - last);
            last = asked;
            let answer = timeout(ANSWER, leases.lease(&request)).await;
            let next = match answer {
                Ok(Ok(grant)) => {
                    if let Some((_, true)) = asking.failing.take() {
                        tracing::info!(share = %grant.share, "the share of the drain rate is leased again");
                    }
                    self.take(&grant, rate, asked);
                    // What was taken away is given to others once this worker says that it no longer uses it.
                    if grant.share < request.has { AT_ONCE } else { REFRESH }
                }
                failed => {
                    let fault = failed.map_or(None, Result::err);
                    asking.log(rate, asked, fault.as_ref());
                    self.go_on_without(rate, asked);
                    REFRESH
                }
            };
            tokio::select! {
                () = sleep_until(asked + next) => {}
                changed = told.changed() => changed.expect("this pace holds the sender"),
                () = self.demand.hungry.notified() => sleep_until(asked + AT_ONCE).await,
            }
        }
    }

    fn request(&self, asking: &mut Asking, rate: DrainRate, since: Duration) -> CapacityRequest {
        let admitted = self.demand.admitted.swap(0, Relaxed) as f64;
        asking.recent = (admitted / since.as_secs_f64().max(AT_ONCE.as_secs_f64())).max(asking.recent * 0.8);
        let number = self.number.fetch_add(1, Relaxed) + 1;
        let (total, now) = (rate.total(self.bounds.max), Instant::now());
        let waited = self.demand.take(&self.demand.waited);
        let state = self.lock();
        let has = if takes_share(rate) && state.in_force(now) { state.share } else { Capacity::ZERO };
        let most = if rate == DrainRate::Auto { total.min(state.gradient.rate()) } else { total };
        let wants = if !takes_share(rate) {
            Capacity::ZERO
        } else if waited {
            most
        } else {
            let idle = total.part(IDLE_PART.saturating_mul(state.workers));
            // Twice as much, so that arrivals may double before anybody waits.
            Capacity::from_thousandths((asking.recent * 2_000.0) as u64).clamp(idle.min(most), most)
        };
        self.demand.all_wanted.store(wants == most, Relaxed);
        CapacityRequest { worker: self.worker, number, total, wants, has }
    }

    pub(super) fn take(&self, grant: &CapacityGrant, rate: DrainRate, asked: Instant) {
        let mut state = self.lock();
        if rate != self.told() || !takes_share(rate) {
            // The rate was changed while the request was under way. What is in force now is no more than what the request named.
            state.workers = grant.workers;
            return;
        }
        let lapsed = !state.in_force(Instant::now());
        (state.share, state.until) = (grant.share, Some(asked + CAPACITY_LEASE));
        state.workers = grant.workers;
        // A worker whose turn never came, because the others had not yet given up anything, knows no more than its operator says.
        state.had_share |= grant.share > Capacity::ZERO;
        if state.had_share {
            state.safe = grant.safe;
        }
        state.gradient.begin_at(self.bounds.min.part(grant.workers));
        self.apply(&state, lapsed);
    }

    /// The leases cannot be reached. What was leased holds until its end. Then the safe capacity does, if a request that was made *after*
    /// the end failed, too: a process that was frozen finds the leases where they were, and may not go on without asking.
    fn go_on_without(&self, rate: DrainRate, asked: Instant) {
        let mut state = self.lock();
        let never_had = state.until.is_none() && state.share == Capacity::ZERO;
        if takes_share(rate) && (never_had || state.until.is_some_and(|until| until <= asked)) {
            state.share = state.safe_of(rate.total(self.bounds.max));
            state.until = None;
            self.apply(&state, true);
        }
    }

    /// Looks at the commits, and moves the rate `auto`.
    async fn find_rate(&self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let waited = self.demand.take(&self.demand.waited_since_look);
            let latency = self.commits.take_latency(Instant::now());
            if self.told() != DrainRate::Auto {
                continue;
            }
            let Some(latency) = latency else { continue };
            let mut state = self.lock();
            let min = self.bounds.min.part(state.workers);
            // Far above its share, it would have to fall for long before that has an effect.
            let most = Capacity::from_thousandths(state.share.thousandths().saturating_mul(5) / 4);
            state.gradient.look(latency, waited, AutoBounds { min, max: self.bounds.max.min(most) });
            self.apply(&state, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_BATCH;
    use super::*;

    fn capacity(pace: &Pace) -> f64 {
        pace.lock().share.orders()
    }

    #[test]
    fn the_safe_capacity_is_for_who_has_asked_in_vain_after_the_end_of_the_lease() {
        let rate: DrainRate = "1000".parse().unwrap();
        let (pace, begin) = (Pace::new(rate, MAX_BATCH), Instant::now());
        let grant = |share: u32, safe: u32| CapacityGrant {
            share: Capacity::per_second(share),
            safe: Capacity::per_second(safe),
            workers: 2,
            learning: false,
        };
        pace.take(&grant(800, 500), rate, begin);
        let end = begin + CAPACITY_LEASE;
        pace.go_on_without(rate, end - Duration::from_millis(1));
        assert_eq!(capacity(&pace), 800.0, "others may have been given it while this process was frozen");
        assert!(!pace.lock().in_force(end));
        pace.go_on_without(rate, end);
        assert_eq!(capacity(&pace), 500.0);
        pace.go_on_without(rate, end + CAPACITY_LEASE);
        assert_eq!(capacity(&pace), 500.0, "for as long as it takes");
        let asking = &mut Asking::default();
        assert_eq!(pace.request(asking, rate, REFRESH).has.orders(), 500.0, "it says so when it can");
        // What was safe of a rate is not safe of a lower one, of which the other worker takes its part, too.
        pace.set("100".parse().unwrap());
        assert_eq!(capacity(&pace), 50.0);
    }

    #[test]
    fn of_a_lower_rate_an_equal_part_is_safe_after_the_lease() {
        let rate: DrainRate = "1000".parse().unwrap();
        let (pace, begin) = (Pace::new(rate, MAX_BATCH), Instant::now());
        let (share, safe) = (Capacity::per_second(800), Capacity::per_second(500));
        pace.take(&CapacityGrant { share, safe, workers: 2, learning: false }, rate, begin);
        let lower: DrainRate = "100".parse().unwrap();
        pace.set(lower);
        pace.go_on_without(lower, begin + CAPACITY_LEASE);
        assert_eq!(capacity(&pace), 50.0);
    }

    #[test]
    fn what_the_operator_says_holds_until_a_lease_has_given_a_share() {
        let rate: DrainRate = "1000".parse().unwrap();
        let (pace, begin) = (Pace::new(rate, MAX_BATCH).with_safe_rate(50), Instant::now());
        let grant = |share| {
            let share = Capacity::per_second(share);
            CapacityGrant { share, safe: share, workers: 2, learning: false }
        };
        // The other worker has not given up anything yet.
        pace.take(&grant(0), rate, begin);
        assert_eq!(capacity(&pace), 0.0);
        pace.go_on_without(rate, begin + CAPACITY_LEASE);
        assert_eq!(capacity(&pace), 50.0);
        // From then on the leases are right, also with nothing.
        for share in [300, 0] {
            pace.take(&grant(share), rate, begin);
            pace.go_on_without(rate, begin + CAPACITY_LEASE);
            assert_eq!(capacity(&pace), f64::from(share));
        }
    }

    #[test]
    fn workers_begin_to_look_for_the_rate_at_the_lowest_one_together() {
        let bounds = AutoBounds { min: Capacity::per_second(100), max: Capacity::per_second(1_000) };
        let pace = Pace::new(DrainRate::Auto, MAX_BATCH).with_auto_bounds(bounds);
        let share = Capacity::per_second(250);
        let grant = CapacityGrant { share, safe: share, workers: 4, learning: false };
        pace.take(&grant, DrainRate::Auto, Instant::now());
        assert_eq!(pace.rate(), "25".parse().unwrap());
    }

    #[test]
    fn a_worker_that_never_had_a_share_writes_what_its_operator_says() {
        let rate: DrainRate = "1000".parse().unwrap();
        for (safe, expected) in [(0, 0.0), (50, 50.0), (5_000, 1_000.0)] {
            let pace = Pace::new(rate, MAX_BATCH).with_safe_rate(safe);
            pace.go_on_without(rate, Instant::now());
            assert_eq!(capacity(&pace), expected);
        }
    }

    #[test]
    fn a_worker_wants_all_while_a_lane_waits_and_little_otherwise() {
        let rate: DrainRate = "1000".parse().unwrap();
        let (pace, asking) = (Pace::new(rate, MAX_BATCH), &mut Asking::default());
        let mut wants = || pace.request(asking, rate, REFRESH).wants.orders();
        assert_eq!(wants(), 50.0);
        let waiting = pace.demand.wait();
        assert_eq!([wants(), wants()], [1_000.0; 2], "also a lane that has waited for long");
        drop(waiting);
        assert_eq!(wants(), 50.0);
        pace.demand.admitted.store(100, Relaxed);
        assert_eq!(wants(), 400.0, "twice what came, 100 in half a second");
        pace.set(DrainRate::Paused);
        assert_eq!(pace.request(&mut Asking::default(), DrainRate::Paused, REFRESH).wants, Capacity::ZERO);
    }
}
