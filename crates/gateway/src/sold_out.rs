//! "Sold out" from memory: answers buyers of a sale without units with no claim, no lane and no call to the gate, and lets
//! everyone through who holds an order there. Why nobody is told a lie is written at [`seckill_core::RETURN_HOLD`].
//!
//! A lane that is told "nothing left" begins it. From then on one task looks after the sale: it reads who holds an order, asks
//! the gate again and again whether still nothing has come back, and ends when nobody asks for the sale any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use seckill_core::{Epoch, Fault, SOLD_OUT_LEASE, SaleId, SoldOutSince, StockGate, UserId};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the gate is asked whether still nothing is left: twice within a lease, so that one slow answer changes nothing.
const POLL: Duration = Duration::from_millis(15);
/// The pause after a question that the gate did not answer.
const AFTER_FAULT: Duration = Duration::from_millis(250);
/// After so long without a claim the gate is not asked any more.
const IDLE: Duration = Duration::from_secs(5);
/// Holders that one call reads.
const PAGE: usize = 1_000;
/// Where units come back often, the holders are read again and again. The pause after it is so many times as long as the
/// reading took, within these bounds: reading takes a fifth of one connection's time at the most.
const PAUSE_FACTOR: u32 = 4;
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Sales of this process that are answered from memory at the same time: each costs 1 s / [`POLL`] questions a second.
static SALES: Semaphore = Semaphore::const_new(64);
/// Holders of all these sales together: 8 bytes each, and twice as much while they are read. A sale that has no room left is
/// answered by the gate.
static HOLDERS: Semaphore = Semaphore::const_new(4_000_000);

/// Whether one sale, in one epoch, is sold out, and for whom not.
pub(crate) struct SoldOut {
    sale: SaleId,
    epoch: Epoch,
    gate: Arc<dyn StockGate>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// What lease ends count from.
    origin: Instant,
    /// Held for one lookup, or to put something in its place; never across an await.
    known: RwLock<Option<Known>>,
    /// Whether there was a claim since the task looked last.
    asked: AtomicBool,
    /// Whether the task is there.
    watched: AtomicBool,
}

/// Everyone who holds an order of a sale without units.
struct Known {
    /// [`SoldOutSince::returns`] before the first holder was read.
    returns: u64,
    /// Sorted.
    holders: Box<[u64]>,
    /// Until when it may be used, in microseconds since [`SoldOut::origin`].
    lease_end: AtomicU64,
    _room: [SemaphorePermit<'static>; 2],
}

impl SoldOut {
    pub(crate) fn new(
        sale: SaleId,
        epoch: Epoch,
        gate: Arc<dyn StockGate>,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            sale,
            epoch,
            gate,
            tracker,
            shutdown,
            origin: Instant::now(),
            known: RwLock::default(),
            asked: AtomicBool::new(false),
            watched: AtomicBool::new(false),
        })
    }

    /// Whether nothing is left for this user, who holds no order in the sale. False: only the gate knows.
    pub(crate) fn is_for(&self, user: UserId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &*known else { return false };
        let within_lease = micros(self.origin.elapsed()) < known.lease_end.load(Ordering::Acquire);
        if !within_lease || known.holders.binary_search(&user.0).is_ok() {
            return false;
        }
        // Thousands ask at once: most of them only read.
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
        true
    }

    /// The gate has told a lane that nothing is left.
    pub(crate) fn notice(self: &Arc<Self>) {
        self.asked.store(true, Ordering::Relaxed);
        if !self.watched.swap(true, Ordering::AcqRel) {
            self.tracker.spawn(Arc::clone(self).watch());
        }
    }

    /// Answers from memory as long as that may be done and somebody asks.
    async fn watch(self: Arc<Self>) {
        let rounds = async {
            while self.asked.swap(false, Ordering::Relaxed) {
                let begin = Instant::now();
                let learned = self.learn().await;
                let pause = (begin.elapsed() * PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE);
                match learned {
                    Ok(Some(known)) => self.keep(known).await,
                    Ok(None) => {}
                    // The lanes need the same gate, and report that it is away.
                    Err(fault) => {
                        tracing::debug!(sale_id = %self.sale, error = %fault, "who holds an order cannot be read");
                    }
                }
                sleep(pause).await;
            }
        };
        let _ = self.shutdown.run_until_cancelled(rounds).await;
        self.replace(None);
        self.watched.store(false, Ordering::Release);
    }

    /// Reads everyone who holds an order, for [`keep`](Self::keep). `None`: units are left, or there is no room.
    ///
    /// The pages show everyone who holds an order all the time from the first to the last. That is everyone, if the gate says
    /// the same number of returns before the first and after the last: nothing was left to be reserved in between, so nobody
    /// became a holder, through whichever gateway. A claim that is still on its way to the gate finds nothing left either; one
    /// that was reserved before is among the holders, whether the queue has confirmed it or not.
    async fn learn(&self) -> Result<Option<Known>, Fault> {
        let Some(before) = self.ask().await? else { return Ok(None) };
        let Some(room) = room(before.holders) else { return Ok(None) };
        let expected = usize::try_from(before.holders).unwrap_or(usize::MAX);
        let (mut holders, mut cursor) = (Vec::with_capacity(expected), None);
        loop {
            let page = self.gate.holders(self.sale, cursor, PAGE).await?;
            holders.extend(page.holders.iter().map(|holder| holder.claim.user_id.0));
            // Some may be seen twice. Many more than that are those of another filling.
            if holders.len() > 2 * expected + PAGE {
                return Ok(None);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            // A gate in memory never waits, and a million holders are many pages.
            yield_now().await;
        }
        let sorted = spawn_blocking(move || {
            holders.sort_unstable();
            holders.dedup();
            holders.into_boxed_slice()
        });
        let Ok(holders) = sorted.await else { return Ok(None) };
        // Not to be used before `keep` has asked again.
        Ok(Some(Known { returns: before.returns, holders, lease_end: AtomicU64::new(0), _room: room }))
    }

    /// Answers from memory until units come back, the gate cannot be trusted, or nobody asks any more.
    async fn keep(&self, known: Known) {
        let returns = known.returns;
        let holders = known.holders.len() as u64;
        self.replace(Some(known));
        let mut idle_since = Instant::now();
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            polls.tick().await;
            // Before the question is sent: what comes back after the gate has answered is sold after the lease.
            let sent = self.origin.elapsed();
            match self.ask().await {
                // Orders that end without returning a unit make the holders fewer, and nothing makes them more.
                Ok(Some(now)) if now.returns == returns && now.holders <= holders => {
                    self.extend(sent + SOLD_OUT_LEASE);
                }
                Ok(_) => break,
                // The lease ends by itself. The holders stay right as long as nothing came back.
                Err(_) => sleep(AFTER_FAULT).await,
            }
            if idle_since.elapsed() >= IDLE {
                if !self.asked.swap(false, Ordering::Relaxed) {
                    break;
                }
                idle_since = Instant::now();
            }
        }
        self.replace(None);
    }

    async fn ask(&self) -> Result<Option<SoldOutSince>, Fault> {
        self.gate.sold_out(self.sale, self.epoch).await
    }

    fn extend(&self, lease_end: Duration) {
        if let Some(known) = &*self.known.read().unwrap_or_else(PoisonError::into_inner) {
            known.lease_end.store(micros(lease_end), Ordering::Release);
        }
    }

    fn replace(&self, known: Option<Known>) {
        let mut place = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, known);
        // Megabytes are given back after buyers can go on.
        drop(place);
        drop(before);
    }
}

/// Room for one sale and its holders.
fn room(holders: u64) -> Option<[SemaphorePermit<'static>; 2]> {
    let holders = u32::try_from(holders).ok()?;
    Some([SALES.try_acquire().ok()?, HOLDERS.try_acquire_many(holders).ok()?])
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
