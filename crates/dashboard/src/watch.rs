//! Follows the newest sale that has a gate: reads its numbers, and audits it. Every other sale that has not ended is audited in
//! turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_core::{
    AuditReport, Backend, Fault, GateLevel, Mode, Phase, Sale, SaleId, SaleState, Timestamp, Verdict, now,
};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::refunds::{self, RefundsView};
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
/// The shortest pause between two audits of the sales that are not followed.
const OTHERS_EVERY: Duration = Duration::from_secs(5);

/// The shortest pause between two looks at the refunds; it grows as that between audits does.
const REFUNDS_EVERY: Duration = Duration::from_secs(1);

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
    pub(crate) state: SaleState,
    paused: bool,
    phase: Phase,
    starts_at: Timestamp,
    ends_at: Timestamp,
    /// `None`: the sale's orders need not be paid here.
    payment_window_ms: Option<u64>,
    has_waiting_room: bool,
}

impl SaleView {
    /// Orders that the gate holds and the ledger has not recorded. The gate lets go of an order that the ledger rejects.
    pub(crate) fn backlog(&self) -> Option<u64> {
        self.reserved_orders.map(|reserved| reserved.saturating_sub(self.orders))
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
            state: sale.state,
            paused: sale.paused,
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
            payment_window_ms: sale.payment_window_ms,
            has_waiting_room: sale.admission.waiting_room.is_some(),
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

/// The sale that is followed, its last audit, and the refunds of all sales.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    pub(crate) sale: Option<SaleView>,
    pub(crate) invariants: Option<Invariants>,
    /// `None` until a page was open for the first time.
    pub(crate) refunds: Option<RefundsView>,
}

/// Follows the newest sale.
pub(crate) struct Watch {
    backend: Backend,
    /// Held only to read or swap.
    watched: Mutex<Watched>,
    /// What the last audit of each sale found. Held only to read or change.
    violations: Mutex<BTreeMap<SaleId, Violations>>,
    /// Whether a page is open. The feed keeps it up to date.
    page_open: AtomicBool,
}

impl Watch {
    pub(crate) fn new(backend: Backend) -> Arc<Self> {
        Arc::new(Self {
            backend,
            watched: Mutex::default(),
            violations: Mutex::default(),
            page_open: false.into(),
        })
    }

    pub(crate) fn watched(&self) -> Watched {
        self.lock(|watched| watched.clone())
    }

    /// Takes in what the feed knows: whether a page is open.
    pub(crate) fn update(&self, page_open: bool) {
        self.page_open.store(page_open, Relaxed);
    }

    /// Follows the sale; never returns. When something cannot be read, the last state stays, and the page shows its age.
    pub(crate) async fn run(&self) {
        tokio::join!(self.follow(), self.audit(), self.audit_others(), self.follow_refunds());
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
                self.count(&report);
                self.lock(|watched| watched.invariants = Some(Invariants::from(report)));
                pause = (began.elapsed() * AUDIT_SHARE).clamp(AUDIT_EVERY, LONGEST_PAUSE);
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

    /// Reads the refunds while a page is open, once for all pages of this gateway.
    async fn follow_refunds(&self) {
        loop {
            if !self.page_open.load(Relaxed) {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let began = Instant::now();
            match self.backend.lifecycle.open_refunds(refunds::SHOWN).await {
                Ok(open) => self.lock(|watched| watched.refunds = Some(open.into())),
                Err(fault) => tracing::debug!(error = %fault, "the refunds cannot be read"),
            }
            sleep((began.elapsed() * AUDIT_SHARE).clamp(REFUNDS_EVERY, LONGEST_PAUSE)).await;
        }
    }

    /// Audits the sales that have not ended, one after another, at a pace that costs the ledger one part in 20.
    async fn audit_others(&self) {
        let mut last = None;
        loop {
            let began = Instant::now();
            let followed = self.lock(|watched| watched.sale.as_ref().map(|sale| sale.id));
            match self.backend.ledger.unfinished_sales(last, 1).await {
                Ok(next) => {
                    last = next.first().map(|sale| sale.id);
                    match last {
                        Some(id) if Some(id) != followed => self.audit_other(id).await,
                        Some(_) => {}
                        None => self.forget_clean_sales(),
                    }
                }
                Err(fault) => tracing::debug!(error = %fault, "the sales that have not ended cannot be read"),
            }
            sleep((began.elapsed() * AUDIT_SHARE).clamp(OTHERS_EVERY, UNWATCHED_AUDIT_EVERY)).await;
        }
    }

    async fn audit_other(&self, id: SaleId) {
        match AuditReport::read(&self.backend, id).await {
            Ok(Some(report)) => {
                if report.verdict.is_bad() {
                    tracing::error!(sale_id = %id, verdict = %report.verdict, findings = ?report.findings, "an audit failed");
                }
                self.count(&report);
            }
            Ok(None) => {}
            Err(fault) => tracing::debug!(sale_id = %id, error = %fault, "the sale cannot be audited"),
        }
    }

    /// Exports the sum over all sales for Prometheus. A series for each sale would grow without a limit.
    fn count(&self, report: &AuditReport) {
        let mut all = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(report.sale_id, Violations::from(report));
        for (at, kind) in Violations::KINDS.into_iter().enumerate() {
            let sum: u64 = all.values().map(|violations| violations.0[at]).sum();
            metrics::gauge!("seckill_invariant_violations", "kind" => kind).set(sum as f64);
        }
    }

    /// A clean sale adds nothing to the sum. One that is not clean stays in it, even after it ends.
    fn forget_clean_sales(&self) {
        let mut all = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, violations| *violations != Violations::default());
    }

    fn lock<T>(&self, with: impl FnOnce(&mut Watched) -> T) -> T {
        // Fields are only swapped: they are whole even after a panic.
        with(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one audit found, a number for each of the kinds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Violations([u64; 5]);

impl Violations {
    const KINDS: [&'static str; 5] = ["oversold", "lost", "duplicate", "not_conserved", "money"];
}

/// `None` while the gate has no data or is being rebuilt: then nobody can tell.
fn adds_up(report: &AuditReport) -> Option<bool> {
    (!matches!(report.verdict, Verdict::GateMissing | Verdict::Rebuilding)).then_some(report.conserved)
}

impl From<&AuditReport> for Violations {
    fn from(report: &AuditReport) -> Self {
        let not_conserved = u64::from(adds_up(report) == Some(false));
        let money = report.money.map_or(0, |money| money.findings().len() as u64);
        Self([report.oversold, report.lost, report.duplicates, not_conserved, money])
    }
}

impl From<AuditReport> for Invariants {
    fn from(report: AuditReport) -> Self {
        Self {
            sale: report.sale_id,
            oversold: report.oversold,
            lost: report.lost,
            duplicates: report.duplicates,
            conserved: adds_up(&report),
            verdict: report.verdict,
            findings: report.findings,
            audited_at: crate::log::seconds(),
        }
    }
}
