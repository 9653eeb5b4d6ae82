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
    /// Whether the last request failed; a row of failures is logged once.
    failed: bool,
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
                    if std::mem::take(&mut asking.failed) {
                        tracing::info!(share = %grant.share, "the share of the drain rate is leased again");
                    }
                    self.take(&grant, rate, asked);
                    // What was taken away is given to others once this worker says that it no longer uses it.
                    if grant.share < request.has { AT_ONCE } else { REFRESH }
                }
                failed => {
                    let fault = failed.map_or(None, Result::err);
                    self.go_on_without(&mut asking, rate, asked, fault.as_ref());
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
        (state.safe, state.workers) = (grant.safe, grant.workers);
        self.apply(&state, lapsed);
    }

    /// The leases cannot be reached. What was leased holds until its end. Then the safe capacity does, if a request that was made *after*
    /// the end failed, too: a process that was frozen finds the leases where they were, and may not go on without asking.
    fn go_on_without(&self, asking: &mut Asking, rate: DrainRate, asked: Instant, fault: Option<&Fault>) {
        let mut state = self.lock();
        if !std::mem::replace(&mut asking.failed, true) && takes_share(rate) {
            let reason = fault.map_or_else(|| format!("no answer within {ANSWER:?}"), ToString::to_string);
            tracing::warn!(reason, safe = %state.safe, "the share of the drain rate cannot be leased; this worker goes on at its safe rate");
        }
        let never_had = state.until.is_none() && state.share == Capacity::ZERO;
        if takes_share(rate) && (never_had || state.until.is_some_and(|until| until <= asked)) {
            state.share = state.safe.min(rate.total(self.bounds.max));
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
