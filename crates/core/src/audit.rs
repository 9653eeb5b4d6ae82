//! The check that anyone may run while the system works: is every unit of stock in exactly one place?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::money::Money;
use crate::{
    Backend, Fault, GateLevel, LedgerTotals, Mode, QueueDepth, QueueProgress, Sale, SaleId, SaleState,
};

/// One sale, counted at the gate, the queue and the ledger: stock = remaining + in flight + sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditReport {
    /// The sale.
    pub sale_id: SaleId,
    /// Units on sale.
    pub stock: u32,
    /// Units that the gate has not set aside; `None` when the gate has no data for the sale.
    pub remaining: Option<u32>,
    /// Orders that the gate holds for their buyers.
    pub reserved_orders: Option<u64>,
    /// Of these, orders that the queue has yet to confirm.
    pub pending_orders: Option<u64>,
    /// Batches of any sale that wait in the queue.
    pub queued_batches: u64,
    /// Messages of any sale that are parked and wait for a human.
    #[serde(default)]
    pub parked_messages: u64,
    /// Messages of any sale that no queue was bound for.
    #[serde(default)]
    pub unrouted_messages: u64,
    /// Messages of any sale that are set aside and wait for a newer worker.
    #[serde(default)]
    pub newer_messages: u64,
    /// Orders in the ledger.
    pub committed_orders: u64,
    /// Units of the orders in the ledger.
    pub sold: u64,
    /// Orders that the ledger has rejected.
    pub rejected_orders: u64,
    /// Units of those orders.
    pub rejected_units: u64,
    /// Units that the gate has set aside and the ledger has not recorded: pending, queued, in a worker's hands, or lost.
    pub in_flight: Option<i64>,
    /// Units of orders that have ended, cancelled or refunded, and that are not on sale again yet. Not part of `in_flight`.
    #[serde(default)]
    pub returning: u64,
    /// Orders that the gate holds, the ledger lacks, and that cannot arrive any more. They are sent again by themselves.
    #[serde(default)]
    pub lost: u64,
    /// Units in the ledger above the stock.
    pub oversold: u64,
    /// Users with two active orders, and order ids with two rows.
    pub duplicates: u64,
    /// The money of a sale that has payments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// Whether the ledger's rows and its running totals agree, every unit set aside is accounted for, and none is lost.
    pub conserved: bool,
    /// What all of it means.
    pub verdict: Verdict,
    /// What is wrong, in sentences; empty when nothing is.
    pub findings: Vec<String>,
}

/// The audit in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every invariant holds, and nothing is in flight.
    Clean,
    /// Every invariant holds; orders are in flight and can still arrive.
    InFlight,
    /// The gate is being rebuilt; the ledger's own invariants hold.
    Rebuilding,
    /// The gate has no data for the sale, so conservation cannot be checked; the ledger's own invariants hold.
    GateMissing,
    /// Orders were lost between gate and ledger, and have not arrived yet after being sent again.
    Lost,
    /// An invariant does not hold.
    Violated,
}

impl Verdict {
    /// Whether a promise is broken as things stand.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Lost | Self::Violated)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::InFlight => "in flight",
            Self::Rebuilding => "rebuilding",
            Self::GateMissing => "gate missing",
            Self::Lost => "lost",
            Self::Violated => "violated",
        })
    }
}

/// What an audit counts, read in the order of the fields. Orders move from the gate through the queue to the ledger. So the gate
/// can only be ahead of `before`; and where the ledger did not move from `before` to `after`, every order that the gate had set
/// aside is in `totals`, was pending in the gate, or was in the queue when that was read next.
#[derive(Debug, Clone)]
pub struct AuditCounts {
    /// The sale as the ledger had it first.
    pub before: Sale,
    /// The gate.
    pub gate: Option<GateLevel>,
    /// How far the queue has got, as the gate knows it.
    pub progress: Option<QueueProgress>,
    /// The queue.
    pub queue: QueueDepth,
    /// The ledger's rows.
    pub totals: LedgerTotals,
    /// The sale as the ledger had it last.
    pub after: Sale,
}

impl AuditCounts {
    /// Whether the ledger moved while it was read. If not, its rows and running totals must agree.
    fn is_still(&self) -> bool {
        let moved = |sale: &Sale| (sale.orders, sale.rejected_orders, sale.ended, sale.epoch);
        moved(&self.before) == moved(&self.after)
    }

    /// Units that the gate has set aside and the ledger does not count as sold. Those of orders that have ended are among
    /// them until the gate has taken them back. Below 0 only where the gate has lost data.
    fn unsold(&self) -> Option<i64> {
        let gate = self.gate?;
        // The ledger raises the stock first and the gate second. So the stock as it was last is never less than what the gate
        // was given; where the gate has not got the new units yet, they look as if they were in flight.
        let set_aside = i64::from(self.after.stock) - i64::from(gate.remaining);
        let sold = if self.is_still() {
            self.totals.units
        } else {
            // What ended since the first read may have left the gate before that was read.
            let ended = self.after.ended.units.saturating_sub(self.before.ended.units);
            u64::from(self.before.sold).saturating_sub(ended)
        };
        Some(set_aside - i64::try_from(sold).unwrap_or(i64::MAX))
    }

    /// Units that are on their way from the gate to the ledger. Of the returning ones nobody knows which the gate has taken back
    /// already, so there may be more of them in flight than this, and never fewer.
    fn in_flight(&self) -> Option<i64> {
        let returning = i64::try_from(self.after.ended.returning_units()).unwrap_or(i64::MAX);
        self.unsold().map(|unsold| if unsold < 0 { unsold } else { (unsold - returning).max(0) })
    }

    /// Orders that the gate holds and the ledger lacks, where none of them can arrive any more.
    fn lost(&self) -> u64 {
        let settled = self.progress.is_some_and(|progress| progress.nothing_can_arrive());
        match self.gate {
            Some(gate) if settled && self.is_still() => {
                let returning = self.after.ended.returning_orders();
                gate.orders.saturating_sub(self.totals.orders + gate.pending_orders + returning)
            }
            _ => 0,
        }
    }
}

impl AuditReport {
    /// Reads a sale's counts from a back end and audits them; `None`: there is no such sale. The ledger counts rows, so the cost
    /// grows with the number of orders.
    ///
    /// # Errors
    /// A fault of the first part that could not be read.
    pub async fn read(backend: &Backend, id: SaleId) -> Result<Option<Self>, Fault> {
        let Some(before) = backend.ledger.sale(id).await? else { return Ok(None) };
        let gate = backend.gate.level(id).await?;
        let progress = backend.gate.progress(id).await?;
        let queue = backend.queue.depth().await?;
        let totals = backend.ledger.totals(id).await?;
        let Some(after) = backend.ledger.sale(id).await? else { return Ok(None) };
        let parked = backend.queue.parked_depth().await?;
        let money = match before.payment_window_ms {
            Some(_) => Some(backend.lifecycle.money(id).await?),
            None => None,
        };
        let counts = AuditCounts { before, gate, progress, queue, totals, after };
        let report = Self {
            parked_messages: parked.parked,
            unrouted_messages: parked.unrouted,
            newer_messages: parked.newer,
            ..Self::from_counts(&counts)
        };
        Ok(Some(report.with_money(money)))
    }

    /// Adds what the money of the sale says.
    fn with_money(mut self, money: Option<Money>) -> Self {
        let wrong = money.map(|money| money.findings()).unwrap_or_default();
        if !wrong.is_empty() {
            (self.verdict, self.conserved) = (Verdict::Violated, false);
            self.findings.extend(wrong);
        }
        Self { money, ..self }
    }

    /// Audits counts that were read in the order of their fields.
    pub fn from_counts(counts: &AuditCounts) -> Self {
        let AuditCounts { before, gate, queue, totals, after, .. } = counts;
        let mut findings = Vec::new();
        // As it was last: an order that the rows count may have taken a unit that was added since the first read.
        let stock = u64::from(after.stock);
        let oversold = totals.units.saturating_sub(stock);
        if oversold > 0 {
            findings.push(format!("{oversold} units are sold above the stock of {stock}"));
        }
        if totals.duplicates > 0 {
            findings.push(format!("{} users or order ids have two rows", totals.duplicates));
        }
        let mut conserved = true;
        if counts.is_still() && (totals.units, totals.orders) != (u64::from(after.sold), after.orders) {
            conserved = false;
            findings.push(format!(
                "the sale says {} units sold in {} orders, its rows say {} in {}",
                after.sold, after.orders, totals.units, totals.orders
            ));
        }
        let rebuilding = [before, after].iter().any(|sale| sale.state == SaleState::Rebuilding);
        let closed_out = after.state == SaleState::ClosedOut;
        let in_flight = counts.in_flight();
        if !rebuilding && in_flight.is_some_and(|units| units < 0) {
            conserved = false;
            findings.push(format!(
                "the ledger has {} units more than the gate has set aside: the gate has lost data",
                in_flight.unwrap_or_default().unsigned_abs()
            ));
        }
        if let Some(finding) = unaccounted(counts).filter(|_| !rebuilding) {
            conserved = false;
            findings.push(finding);
        }
        if gate.is_none() && is_lost_gate(after) {
            findings.push(
                "the gate had data for the sale and has lost it: a worker rebuilds it from ledger and queue"
                    .into(),
            );
        }
        let lost = if rebuilding { 0 } else { counts.lost() };
        if lost > 0 {
            findings.push(format!(
                "{lost} orders are at the gate and not in the ledger, and nothing can bring them any more: they are sent again"
            ));
        }
        let returning = after.ended.returning_units();
        let violated = oversold > 0 || totals.duplicates > 0 || !conserved;
        let verdict = match in_flight {
            _ if violated => Verdict::Violated,
            _ if rebuilding => Verdict::Rebuilding,
            _ if lost > 0 => Verdict::Lost,
            None if closed_out => Verdict::Clean,
            None => Verdict::GateMissing,
            Some(0) if returning == 0 => Verdict::Clean,
            Some(_) => Verdict::InFlight,
        };
        Self {
            sale_id: before.id,
            stock: after.stock,
            remaining: gate.map(|gate| gate.remaining),
            reserved_orders: gate.map(|gate| gate.orders),
            pending_orders: gate.map(|gate| gate.pending_orders),
            queued_batches: queue.ready_batches,
            parked_messages: 0,
            unrouted_messages: 0,
            newer_messages: 0,
            committed_orders: totals.orders,
            sold: totals.units,
            rejected_orders: totals.rejected_orders,
            rejected_units: totals.rejected_units,
            in_flight,
            returning,
            lost,
            oversold,
            duplicates: totals.duplicates,
            money: None,
            conserved: conserved && lost == 0 && !rebuilding && (in_flight.is_some() || closed_out),
            verdict,
            findings,
        }
    }
}

/// Whether a gate without data is one that was filled before.
fn is_lost_gate(sale: &Sale) -> bool {
    sale.mode == Mode::Queue && sale.state == SaleState::Open && sale.epoch > 0
}

/// Where the queue knows what is unacknowledged, every order in flight must be pending or queued. A message that is in the queue
/// twice makes them look like more, never like fewer.
fn unaccounted(counts: &AuditCounts) -> Option<String> {
    let gate = counts.gate?;
    let seen = counts.queue.orders? + gate.pending_orders;
    let in_flight = gate.orders.saturating_sub(counts.totals.orders);
    let known = counts.totals.rejected_orders + counts.after.ended.returning_orders();
    (counts.is_still() && in_flight > seen + known).then(|| {
        format!("{in_flight} orders are set aside and not recorded, but only {seen} are pending or queued")
    })
}

#[cfg(test)]
mod tests;
