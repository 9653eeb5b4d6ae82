//! The check that anyone may run while the system works: is every unit of stock in exactly one place?

use serde::{Deserialize, Serialize};

use crate::money::Money;
use crate::{
    Backend, Fault, GateLevel, LedgerTotals, Mode, QueueDepth, QueueProgress, Sale, SaleId, SaleState,
};

/// One sale, counted at the gate, the queue and the ledger: stock = remaining + in flight + sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
        let set_aside = i64::from(self.before.stock) - i64::from(gate.remaining);
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
        let stock = u64::from(before.stock);
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
            stock: before.stock,
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
mod tests {
    use super::*;
    use crate::Ended;

    fn audit(
        before: Sale,
        gate: Option<GateLevel>,
        queue: QueueDepth,
        totals: LedgerTotals,
        after: Sale,
    ) -> AuditReport {
        AuditReport::from_counts(&AuditCounts { before, gate, progress: None, queue, totals, after })
    }

    fn sale(orders: u64) -> Sale {
        let sold = u32::try_from(orders).unwrap();
        Sale {
            id: SaleId(1),
            name: "phone".into(),
            product: "phone".into(),
            stock: 10,
            sold,
            orders,
            rejected_orders: 0,
            payment_window_ms: None,
            ended: Ended::default(),
            price_cents: 1,
            currency: "USD".into(),
            per_user_limit: 1,
            starts_at: crate::now(),
            ends_at: crate::now(),
            mode: Mode::Queue,
            epoch: 1,
            state: SaleState::Open,
            rebuild: None,
            open_epoch: 1,
            created_at: crate::now(),
        }
    }

    fn gate(orders: u64, pending_orders: u64) -> Option<GateLevel> {
        let remaining = 10 - u32::try_from(orders).unwrap();
        Some(GateLevel { epoch: 1, remaining, orders, pending_orders })
    }

    fn queue(orders: u64) -> QueueDepth {
        QueueDepth { ready_batches: orders, orders: Some(orders) }
    }

    fn rows(orders: u64) -> LedgerTotals {
        LedgerTotals { orders, units: orders, ..LedgerTotals::default() }
    }

    #[test]
    fn at_rest_every_unit_is_in_one_place() {
        let report = audit(sale(4), gate(4, 0), queue(0), rows(4), sale(4));
        assert_eq!((report.verdict, report.in_flight, report.conserved), (Verdict::Clean, Some(0), true));
    }

    #[test]
    fn what_is_pending_or_queued_is_in_flight() {
        let report = audit(sale(4), gate(8, 1), queue(3), rows(4), sale(4));
        assert_eq!((report.verdict, report.in_flight), (Verdict::InFlight, Some(4)));
    }

    #[test]
    fn an_order_that_is_nowhere_is_found() {
        let report = audit(sale(4), gate(8, 1), queue(2), rows(4), sale(4));
        assert_eq!((report.verdict, report.conserved), (Verdict::Violated, false));
    }

    #[test]
    fn a_gate_that_lost_orders_is_found() {
        let report = audit(sale(4), gate(2, 0), queue(0), rows(4), sale(4));
        assert_eq!((report.verdict, report.in_flight), (Verdict::Violated, Some(-2)));
        let report = audit(sale(4), None, queue(0), rows(4), sale(4));
        assert_eq!((report.verdict, report.conserved), (Verdict::GateMissing, false));
        assert!(report.findings[0].contains("has lost it"), "{report:?}");
        // One that was never filled has lost nothing.
        let new = || Sale { epoch: 0, open_epoch: 0, ..sale(0) };
        let report = audit(new(), None, queue(0), rows(0), new());
        assert_eq!((report.verdict, report.findings.len()), (Verdict::GateMissing, 0));
    }

    #[test]
    fn overselling_duplicates_and_a_wrong_running_total_are_found() {
        let report = audit(sale(4), gate(10, 0), queue(7), rows(11), sale(4));
        assert_eq!((report.oversold, report.conserved), (1, false));
        assert!(report.findings[0].starts_with("1 units are sold above the stock of 10"), "{report:?}");
        let twice = LedgerTotals { duplicates: 1, ..rows(4) };
        let report = audit(sale(4), gate(4, 0), queue(0), twice, sale(4));
        assert_eq!((report.verdict, report.findings.len()), (Verdict::Violated, 1));
        assert!(report.findings[0].starts_with("1 users or order ids have two rows"), "{report:?}");
        // As many units as there are is no overselling, and the sale's own total is right.
        let full = audit(sale(10), gate(10, 0), queue(0), rows(10), sale(10));
        assert_eq!((full.verdict, full.oversold, full.findings.len()), (Verdict::Clean, 0, 0));
        // Overselling alone, with every other number in order.
        let oversold = || Sale { sold: 11, orders: 11, state: SaleState::ClosedOut, ..sale(4) };
        let report = audit(oversold(), None, queue(0), rows(11), oversold());
        assert_eq!((report.verdict, report.oversold, report.conserved), (Verdict::Violated, 1, true));
    }

    #[test]
    fn money_that_does_not_add_up_violates_what_is_clean_otherwise() {
        let clean = || audit(sale(4), gate(4, 0), queue(0), rows(4), sale(4));
        let right = Money { charged_cents: 4, paid_cents: 4, ..Money::default() };
        let report = clean().with_money(Some(right));
        assert_eq!((report.verdict, report.conserved, report.money), (Verdict::Clean, true, Some(right)));
        let report = clean().with_money(Some(Money { entries_sum: 1, ..right }));
        assert_eq!((report.verdict, report.conserved, report.findings.len()), (Verdict::Violated, false, 1));
    }

    #[test]
    fn a_verdict_has_a_word_and_may_be_bad() {
        use Verdict::{Clean, GateMissing, InFlight, Lost, Rebuilding, Violated};
        let all = [Clean, InFlight, Rebuilding, GateMissing, Lost, Violated];
        let words = ["clean", "in flight", "rebuilding", "gate missing", "lost", "violated"];
        assert_eq!(all.map(|verdict| verdict.to_string()), words);
        assert_eq!(all.map(Verdict::is_bad), [false, false, false, false, true, true]);
    }

    #[test]
    fn orders_that_cannot_arrive_any_more_are_lost() {
        let settled = QueueProgress {
            now_ms: 100_000,
            last_set_aside_ms: 1,
            marker: Some((2, 3)),
            ..Default::default()
        };
        let queue = QueueDepth { ready_batches: 0, orders: None };
        let counts = |progress| AuditCounts {
            before: sale(4),
            gate: gate(8, 1),
            progress: Some(progress),
            queue,
            totals: rows(4),
            after: sale(4),
        };
        let report = AuditReport::from_counts(&counts(settled));
        assert_eq!((report.verdict, report.lost, report.conserved), (Verdict::Lost, 3, false));
        let report = AuditReport::from_counts(&counts(QueueProgress { oldest_held_ms: Some(1), ..settled }));
        assert_eq!((report.verdict, report.lost), (Verdict::InFlight, 0));
        // An order that is cancelled and still at the gate is not lost: the ledger has it.
        let cancelled = || Sale { ended: ended(1, 0), ..sale(4) };
        let counts = AuditCounts { before: cancelled(), after: cancelled(), ..counts(settled) };
        let report = AuditReport::from_counts(&counts);
        assert_eq!((report.lost, report.findings.len()), (2, 1));
    }

    fn ended(orders: u64, returned: u64) -> Ended {
        Ended { orders, units: orders, returned_orders: returned, returned_units: returned }
    }

    #[test]
    fn units_of_cancelled_orders_are_returning_until_the_gate_has_taken_them_back() {
        let cancelled = |active, returned| Sale { ended: ended(2, returned), ..sale(active) };
        // Cancelled in the ledger, still held at the gate.
        let report = audit(cancelled(2, 0), gate(4, 0), queue(0), rows(2), cancelled(2, 0));
        assert_eq!((report.verdict, report.in_flight, report.returning), (Verdict::InFlight, Some(0), 2));
        assert!(report.conserved, "{report:?}");
        // The gate has taken one back, and the ledger does not know that yet.
        let report = audit(cancelled(2, 0), gate(3, 0), queue(0), rows(2), cancelled(2, 0));
        assert_eq!((report.verdict, report.conserved), (Verdict::InFlight, true));
        // All is done.
        let report = audit(cancelled(2, 2), gate(2, 0), queue(0), rows(2), cancelled(2, 2));
        assert_eq!((report.verdict, report.returning), (Verdict::Clean, 0));
        // An order that is at the gate and nowhere else is found beside them.
        let report = audit(cancelled(2, 0), gate(5, 0), queue(0), rows(2), cancelled(2, 0));
        assert_eq!((report.verdict, report.conserved), (Verdict::Violated, false));
    }

    #[test]
    fn orders_that_end_while_they_are_counted_are_no_lost_data() {
        // Between the two reads of the sale two orders were cancelled and taken back, and two others committed.
        let before = Sale { ended: ended(0, 0), ..sale(4) };
        let after = Sale { ended: ended(2, 2), ..sale(4) };
        let report = audit(before, gate(2, 0), queue(0), rows(4), after);
        assert_eq!((report.verdict, report.conserved), (Verdict::Clean, true));
    }

    #[test]
    fn a_sale_that_is_rebuilt_is_neither_clean_nor_violated() {
        let rebuilding = Sale { state: SaleState::Rebuilding, ..sale(4) };
        let report = audit(rebuilding.clone(), gate(2, 0), queue(0), rows(4), rebuilding);
        assert_eq!((report.verdict, report.conserved), (Verdict::Rebuilding, false));
        let closed = Sale { state: SaleState::ClosedOut, ..sale(4) };
        let report = audit(closed.clone(), None, queue(0), rows(4), closed);
        assert_eq!((report.verdict, report.conserved), (Verdict::Clean, true));
    }
}
