//! Follows the newest sale that has a gate: reads its numbers, and audits it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_core::{
    AuditReport, Backend, Fault, GateLevel, Mode, Phase, Sale, SaleId, Timestamp, Verdict, now,
};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::report::EVERY;

/// The newest sales, among which the one to follow is looked for.
const NEWEST: u32 = 8;
/// The audit counts rows, so it is expensive. The pause after it is 20 times as long as the audit took: 1 s at the least,
/// 10 s at the most.
const AUDIT_EVERY: Duration = Duration::from_secs(1);
const AUDIT_SHARE: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// While no page is open the sale is read and audited less often, to leave the database to the orders.
const UNWATCHED_FOLLOW_EVERY: Duration = Duration::from_secs(1);
const UNWATCHED_AUDIT_EVERY: Duration = Duration::from_secs(30);
/// A sale that was found clean and has not changed since is audited less often, too.
const AT_REST_AUDIT_EVERY: Duration = Duration::from_secs(10);
/// How often a pause is checked for a page that was opened, or a sale that changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Orders that are missing for so long, while no order is in flight, are lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// The sale as the page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SaleView {
    pub(crate) id: SaleId,
    name: String,
    stock: u32,
    pub(crate) remaining: Option<u32>,
    pub(crate) reserved_orders: Option<u64>,
    pub(crate) pending_orders: Option<u64>,
    orders: u64,
    pub(crate) sold: u32,
    rejected_orders: u64,
    phase: Phase,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl SaleView {
    /// Orders that the gate has reserved and the ledger has not recorded.
    pub(crate) fn backlog(&self) -> Option<u64> {
        self.reserved_orders.map(|reserved| reserved.saturating_sub(self.orders + self.rejected_orders))
    }

    /// `level` is `None` if the gate has no data for the sale or did not answer.
    pub fn new(sale: Sale, level: Option<GateLevel>) -> Self {
        Self {
            id: sale.id,
            phase: sale.phase(now()),
            name: sale.name,
            stock: sale.stock,
            remaining: level.map(|level| level.remaining),
            reserved_orders: level.map(|level| level.orders),
            pending_orders: level.map(|level| level.pending_orders),
            orders: sale.orders,
            sold: sale.sold,
            rejected_orders: sale.rejected_orders,
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
        }
    }
}

/// What the last audit of a sale found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Invariants {
    pub(crate) sale: SaleId,
    oversold: u64,
    lost: u64,
    duplicates: u64,
    /// `None` if the gate has no data for the sale.
    conserved: Option<bool>,
    verdict: Verdict,
    pub(crate) findings: Vec<String>,
    audited_at: f64,
}

/// The sale that is followed, and its last audit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    pub(crate) sale: Option<SaleView>,
    pub(crate) invariants: Option<Invariants>,
}

/// Follows the newest sale.
pub(crate) struct Watch {
    backend: Backend,
    /// Held only to read or swap.
    watched: Mutex<Watched>,
    /// Whether the workers are alive, not paused, and hold no orders. The feed keeps it up to date.
    workers_idle: AtomicBool,
    /// Whether a page is open. The feed keeps it up to date.
    page_open: AtomicBool,
}

impl Watch {
    pub(crate) fn new(backend: Backend) -> Arc<Self> {
        let (workers_idle, page_open) = (false.into(), false.into());
        Arc::new(Self { backend, watched: Mutex::default(), workers_idle, page_open })
    }

    pub(crate) fn watched(&self) -> Watched {
        self.lock(|watched| watched.clone())
    }

    /// Takes in what the feed knows: whether the workers are idle, and whether a page is open.
    pub(crate) fn update(&self, workers_idle: bool, page_open: bool) {
        self.workers_idle.store(workers_idle, Relaxed);
        self.page_open.store(page_open, Relaxed);
    }

    /// Follows the sale; never returns. When something cannot be read, the last state stays, and the page shows its age.
    pub(crate) async fn run(&self) {
        tokio::join!(self.follow(), self.audit());
    }

    async fn follow(&self) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Ok(Some(view)) = self.newest().await {
                self.lock(|watched| watched.sale = Some(view));
            }
            if !self.page_open.load(Relaxed) {
                sleep(UNWATCHED_FOLLOW_EVERY - EVERY).await;
            }
        }
    }

    /// The newest sale that has a gate, or else the one that was followed before. Sales in direct mode have no gate.
    async fn newest(&self) -> Result<Option<SaleView>, Fault> {
        let followed = self.lock(|watched| watched.sale.as_ref().map(|sale| sale.id));
        let newest = self.backend.ledger.sales(NEWEST).await?;
        let older = match followed.filter(|id| newest.iter().all(|sale| sale.id != *id)) {
            Some(id) => self.backend.ledger.sale(id).await?,
            None => None,
        };
        for sale in newest.into_iter().filter(|sale| sale.mode == Mode::Queue).chain(older) {
            // The ledger was read before the gate, so no order is seen in the ledger that is not seen at the gate.
            let level = self.backend.gate.level(sale.id).await;
            if matches!(level, Ok(Some(_))) || Some(sale.id) == followed {
                return Ok(Some(SaleView::new(sale, level.ok().flatten())));
            }
        }
        Ok(None)
    }

    async fn audit(&self) {
        let mut missing = Missing::default();
        loop {
            let began = Instant::now();
            let seen = self.lock(|watched| watched.sale.clone());
            let report = match &seen {
                Some(sale) => AuditReport::read(&self.backend, sale.id).await.ok().flatten(),
                None => None,
            };
            let (mut pause, mut at_rest) = (AUDIT_EVERY, false);
            if let Some(report) = report {
                at_rest = report.verdict == Verdict::Clean;
                let lost = missing.lost(&report, self.workers_idle.load(Relaxed));
                export_gauges(&report, lost);
                let invariants = invariants_of(report, lost);
                self.lock(|watched| watched.invariants = Some(invariants));
                pause = (began.elapsed() * AUDIT_SHARE).clamp(AUDIT_EVERY, LONGEST_PAUSE);
            } else {
                missing = Missing::default();
            }
            sleep(pause).await;
            // The pause ends early when a page is opened or the sale changes.
            loop {
                let unchanged = self.lock(|watched| watched.sale == seen) && at_rest;
                let every = match self.page_open.load(Relaxed) {
                    false if seen.is_some() => UNWATCHED_AUDIT_EVERY,
                    true if unchanged => AT_REST_AUDIT_EVERY,
                    _ => break,
                };
                if began.elapsed() >= every {
                    break;
                }
                sleep(LOOK_EVERY).await;
            }
        }
    }

    fn lock<T>(&self, with: impl FnOnce(&mut Watched) -> T) -> T {
        // Fields are only swapped: they are whole even after a panic.
        with(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Orders that were reserved and are in no place that an order can be in.
#[derive(Default)]
struct Missing {
    /// The sale, how many of its orders are missing, and since when it is this number.
    since: Option<(SaleId, u64, Instant)>,
}

impl Missing {
    /// How many orders are lost. An order is missing if it was reserved and is neither pending, nor queued, nor held by a
    /// worker, nor in the ledger. It is lost once the same number of orders has been missing for 10 s.
    fn lost(&mut self, report: &AuditReport, workers_idle: bool) -> u64 {
        let recorded = report.committed_orders + report.rejected_orders;
        let missing = report.reserved_orders.map_or(0, |reserved| reserved.saturating_sub(recorded));
        let at_rest = workers_idle && report.pending_orders == Some(0) && report.queued_batches == 0;
        if missing == 0 || !at_rest {
            self.since = None;
            return 0;
        }
        match self.since {
            Some((sale, count, since)) if (sale, count) == (report.sale_id, missing) => {
                if since.elapsed() >= LOST_AFTER { missing } else { 0 }
            }
            _ => {
                self.since = Some((report.sale_id, missing, Instant::now()));
                0
            }
        }
    }
}

fn invariants_of(report: AuditReport, lost: u64) -> Invariants {
    let mut findings = report.findings;
    if lost > 0 {
        findings.push(format!("{lost} orders were set aside and are neither queued nor in the ledger"));
    }
    let known = report.remaining.is_some();
    Invariants {
        sale: report.sale_id,
        oversold: report.oversold,
        lost,
        duplicates: report.duplicates,
        conserved: known.then_some(report.conserved && lost == 0),
        verdict: if lost > 0 { Verdict::Violated } else { report.verdict },
        findings,
        audited_at: crate::log::seconds(),
    }
}

/// The same for Prometheus, of the sale that is followed only: a series for each sale would grow without a limit.
fn export_gauges(report: &AuditReport, lost: u64) {
    let gauge = |kind: &'static str, count: u64| {
        metrics::gauge!("seckill_invariant_violations", "kind" => kind).set(count as f64);
    };
    gauge("oversold", report.oversold);
    gauge("lost", lost);
    gauge("duplicate", report.duplicates);
    gauge("not_conserved", u64::from(report.remaining.is_some() && !report.conserved));
}
