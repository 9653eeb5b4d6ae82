//! The drain rate: how many orders a second may be written to the ledger. What is told is for all workers together; each leases its
//! share of it ([`budget`]) and keeps it by a rate limiter of its own ([`limit`]). Shared by the lanes of one worker.

mod budget;
mod commits;
mod gradient;
mod limit;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::DefaultClock;
use seckill_core::DrainRate;
use seckill_core::capacity::Capacity;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use self::commits::{Commits, UnderWay};
use self::gradient::Gradient;
use self::limit::{Allowed, Limit};

pub use self::gradient::AutoBounds;

/// Orders in one commit, at the most, unless told otherwise: beyond it a transaction gains little and holds its locks
/// longer. Only commits at 20,000 orders a second and more are as large.
pub const MAX_BATCH: NonZeroU32 = NonZeroU32::new(2_000).expect("2,000 is not zero");

/// How often a worker with the rate `auto` looks at how long commits take.
const LOOK: Duration = Duration::from_millis(200);

/// Admits orders at this worker's share of the drain rate. In any one second it admits at most the share and one batch. A number, or
/// `auto`, admits nothing before [`run`](crate::run) has leased a share.
#[derive(Debug)]
pub struct Pace {
    /// One worker to those who give out shares, also after a crash inside a process that lives on.
    worker: Uuid,
    /// Of the last request for a share.
    number: AtomicU64,
    max_batch: NonZeroU32,
    bounds: AutoBounds,
    /// What to use without ever having had a share.
    unreached: Capacity,
    told: watch::Sender<DrainRate>,
    /// Held only to read or change.
    state: Mutex<State>,
    limit: watch::Sender<Arc<Limit<DefaultClock>>>,
    demand: Demand,
    commits: Commits,
}

/// What this worker may use.
#[derive(Debug)]
struct State {
    /// Of the total, by its lease.
    share: Capacity,
    /// Until when; `None`: no end is set.
    until: Option<Instant>,
    /// What to use when that is over, and the leases cannot be reached: what the operator says, until a lease has given a share.
    safe: Capacity,
    /// Whether a lease has given a share since the rate was told.
    had_share: bool,
    workers: u32,
    gradient: Gradient,
}

impl State {
    fn in_force(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// What to use of this total without a lease. What was safe of a higher one may not be safe of it.
    fn safe_of(&self, total: Capacity) -> Capacity {
        self.safe.min(total.part(self.workers))
    }
}

/// What the lanes want.
#[derive(Debug, Default)]
struct Demand {
    /// Lanes that wait.
    waiting: AtomicUsize,
    /// Whether a lane has waited since the last request for a share, and since the last look at the commits.
    waited: AtomicBool,
    waited_since_look: AtomicBool,
    /// Whether the last request was for as much as there is.
    all_wanted: AtomicBool,
    /// Orders that were admitted since the last request.
    admitted: AtomicU64,
    /// A lane waits, and the last request was for less than there is.
    hungry: Notify,
}

/// A lane that waits.
struct WaitingLane<'a>(&'a Demand);

impl Demand {
    fn wait(&self) -> WaitingLane<'_> {
        self.waiting.fetch_add(1, Relaxed);
        self.waited_since_look.store(true, Relaxed);
        if !self.waited.swap(true, Relaxed) && !self.all_wanted.load(Relaxed) {
            self.hungry.notify_one();
        }
        WaitingLane(self)
    }

    /// Whether a lane waits, or has since `flag` was taken last.
    fn take(&self, flag: &AtomicBool) -> bool {
        flag.swap(false, Relaxed) || self.waiting.load(Relaxed) > 0
    }
}

impl Drop for WaitingLane<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Pace {
    /// `rate` is for all workers together. Commits hold at most `max_batch` orders, whatever the rate.
    pub fn new(rate: DrainRate, max_batch: NonZeroU32) -> Self {
        let bounds = AutoBounds::default();
        let state = State {
            share: Capacity::ZERO,
            until: None,
            safe: Capacity::ZERO,
            had_share: false,
            workers: 1,
            gradient: Gradient::new(bounds),
        };
        let allowed = allowed(rate, &state);
        show(allowed);
        Self {
            worker: Uuid::now_v7(),
            number: AtomicU64::default(),
            max_batch,
            bounds,
            unreached: Capacity::ZERO,
            told: watch::Sender::new(rate),
            state: Mutex::new(state),
            limit: watch::Sender::new(Arc::new(Limit::new(allowed, max_batch, 0, DefaultClock::default()))),
            demand: Demand::default(),
            commits: Commits::default(),
        }
    }

    /// With the bounds between which the rate `auto` is found; for all workers together.
    #[must_use]
    pub fn with_auto_bounds(self, bounds: AutoBounds) -> Self {
        self.lock().gradient = Gradient::new(bounds);
        Self { bounds, ..self }
    }

    /// With the orders a second that this worker may write as long as it has never reached those who give out shares. By default none.
    /// The drain rate holds if it is at most the rate divided by the number of workers.
    #[must_use]
    pub fn with_safe_rate(self, safe: u32) -> Self {
        let safe = Capacity::per_second(safe);
        self.lock().safe = safe;
        Self { unreached: safe, ..self }
    }

    /// Changes the rate for all workers, for waiting lanes too. A lower one holds at once; of a higher one this worker gets more when it
    /// has asked for it.
    pub fn set(&self, rate: DrainRate) {
        let before = self.told.send_replace(rate);
        let mut state = self.lock();
        if takes_share(before) && takes_share(rate) {
            let total = rate.total(self.bounds.max);
            // Without an end it is what is safe: others use as much, and nobody can be asked.
            let most = if state.until.is_none() { state.safe_of(total) } else { total };
            state.share = state.share.min(most);
        } else {
            // What was safe at an earlier lease says nothing about the next.
            (state.share, state.until) = (Capacity::ZERO, None);
            (state.safe, state.had_share) = (self.unreached, false);
        }
        self.apply(&state, false);
    }

    /// The rate that all workers together were told.
    pub fn told(&self) -> DrainRate {
        *self.told.borrow()
    }

    /// The rate in force at this worker: of a number, or `auto`, its share in orders a second, rounded, and at least 1.
    pub fn rate(&self) -> DrainRate {
        match self.limit.borrow().allowed {
            Allowed::Everything => DrainRate::Unlimited,
            Allowed::Nothing => DrainRate::Paused,
            Allowed::Share(share) => {
                let orders = u32::try_from((share.thousandths() + 500) / 1_000).unwrap_or(u32::MAX);
                DrainRate::PerSecond(NonZeroU32::new(orders).unwrap_or(NonZeroU32::MIN))
            }
        }
    }

    /// Orders that one commit should hold at the share in force.
    pub fn batch(&self) -> usize {
        self.limit.borrow().batch.get() as usize
    }

    /// Waits until orders may be written, and says how many of `held`: all, or one batch. When the share changes meanwhile,
    /// the wait begins anew under the new one, with its batch: one that was gathered at a higher rate, or while paused,
    /// must not reach the ledger in one piece.
    pub async fn admit(&self, held: usize) -> usize {
        let Some(held) = NonZeroU32::new(u32::try_from(held).unwrap_or(u32::MAX)) else { return 0 };
        let mut changes = self.limit.subscribe();
        loop {
            let limit = Arc::clone(&changes.borrow_and_update());
            let orders = held.min(limit.batch);
            // The lease may have ended unnoticed: in a process that was frozen, for one.
            let in_force =
                || !matches!(limit.allowed, Allowed::Share(_)) || self.lock().in_force(Instant::now());
            if in_force() && limit.admits(orders) {
                return self.admitted(orders);
            }
            let _waiting = self.demand.wait();
            tokio::select! {
                biased;
                changed = changes.changed() => changed.expect("this pace holds the sender"),
                () = limit.wait(orders) => {
                    if in_force() {
                        return self.admitted(orders);
                    }
                    changes.changed().await.expect("this pace holds the sender");
                }
            }
        }
    }

    fn admitted(&self, orders: NonZeroU32) -> usize {
        self.demand.admitted.fetch_add(orders.get().into(), Relaxed);
        orders.get() as usize
    }

    /// A commit of so many orders begins.
    pub(crate) fn commit_begins(&self, orders: usize) -> UnderWay<'_> {
        self.commits.begin(orders, Instant::now())
    }

    /// Puts the state in force. A limiter that admits the same is kept, unless `anew`.
    fn apply(&self, state: &State, anew: bool) {
        let allowed = allowed(self.told(), state);
        self.limit.send_if_modified(|limit| {
            if limit.allowed == allowed && !anew {
                return false;
            }
            let saved = if anew { 0 } else { limit.take_saved() };
            *limit = Arc::new(Limit::new(allowed, self.max_batch, saved, DefaultClock::default()));
            true
        });
        show(allowed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Assigning leaves the state whole, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn takes_share(rate: DrainRate) -> bool {
    matches!(rate, DrainRate::PerSecond(_) | DrainRate::Auto)
}

fn allowed(told: DrainRate, state: &State) -> Allowed {
    match told {
        DrainRate::Unlimited => Allowed::Everything,
        DrainRate::Paused => Allowed::Nothing,
        DrainRate::PerSecond(_) => Allowed::Share(state.share),
        DrainRate::Auto => Allowed::Share(state.share.min(state.gradient.rate())),
    }
}

fn show(allowed: Allowed) {
    metrics::gauge!("seckill_drain_rate").set(match allowed {
        Allowed::Everything => f64::INFINITY,
        Allowed::Share(share) => share.orders(),
        Allowed::Nothing => 0.0,
    });
}

#[cfg(test)]
mod tests;
