//! The check that anyone may run while the system works: is every unit of stock in exactly one place?

use serde::{Deserialize, Serialize};

use crate::{Backend, Fault, GateLevel, LedgerTotals, QueueDepth, Sale, SaleId};

/// One sale, counted at the gate, the queue and the ledger: stock = remaining + in flight + sold + rejected units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The sale.
    pub sale_id: SaleId,
    /// Units on sale.
    pub stock: u32,
    /// Units that the gate has not set aside; `None` when the gate has no data for the sale.
    pub remaining: Option<u32>,
    /// Orders that the gate has set aside since it was filled.
    pub reserved_orders: Option<u64>,
    /// Of these, orders that the queue has yet to confirm.
    pub pending_orders: Option<u64>,
    /// Batches of any sale that wait in the queue.
    pub queued_batches: u64,
    /// Orders in the ledger.
    pub committed_orders: u64,
    /// Units of the orders in the ledger.
    pub sold: u64,
    /// Orders that the ledger has rejected.
    pub rejected_orders: u64,
    /// Units of those orders.
    pub rejected_units: u64,
    /// Units that the gate has set aside and the ledger has not recorded: pending, queued, or in a worker's hands.
    pub in_flight: Option<i64>,
    /// Units in the ledger above the stock.
    pub oversold: u64,
    /// Users with two active orders, and order ids with two rows.
    pub duplicates: u64,
    /// Whether the ledger's rows and its running totals agree, every unit set aside is accounted for, and none is
    /// missing once nothing is pending or queued.
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
    /// Every invariant holds; orders are in flight.
    InFlight,
    /// The gate has no data for the sale, so conservation cannot be told; the ledger's own invariants hold.
    GateMissing,
    /// An invariant does not hold.
    Violated,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::InFlight => "in flight",
            Self::GateMissing => "gate missing",
            Self::Violated => "violated",
        })
    }
}

impl AuditReport {
    /// Reads a sale's counts from a back end, in the order that [`Self::from_counts`] asks for, and audits them; `None`: there
    /// is no such sale. The ledger counts rows, so the cost grows with the number of orders.
    ///
    /// # Errors
    /// A fault of the first part that could not be read.
    pub async fn read(backend: &Backend, id: SaleId) -> Result<Option<Self>, Fault> {
        let Some(before) = backend.ledger.sale(id).await? else { return Ok(None) };
        let gate = backend.gate.level(id).await?;
        let queue = backend.queue.depth().await?;
        let totals = backend.ledger.totals(id).await?;
        let Some(after) = backend.ledger.sale(id).await? else { return Ok(None) };
        Ok(Some(Self::from_counts(&before, gate, queue, totals, &after)))
    }

    /// Audits counts that were read in this order: `before`, the sale as the ledger had it; the gate; the queue;
    /// `totals` and `after`, the ledger again. Orders move from the gate through the queue to the ledger. So the gate can
    /// only be ahead of `before`; and where the ledger did not move from `before` to `after`, every order that the gate
    /// had set aside is in `totals`, was pending in the gate, or was in the queue when that was read next.
    pub fn from_counts(
        before: &Sale,
        gate: Option<GateLevel>,
        queue: QueueDepth,
        totals: LedgerTotals,
        after: &Sale,
    ) -> Self {
        let mut findings = Vec::new();
        let stock = u64::from(before.stock);
        let oversold = totals.units.saturating_sub(stock);
        if oversold > 0 {
            findings.push(format!("{oversold} units are sold above the stock of {stock}"));
        }
        if totals.duplicates > 0 {
            findings.push(format!("{} users or order ids have two rows", totals.duplicates));
        }
        // The totals are one read, between two reads of the sale; where the sale did not move, they must agree.
        let still = before.orders == after.orders && before.rejected_orders == after.rejected_orders;
        let mut conserved =
            !still || (totals.units == u64::from(after.sold) && totals.orders == after.orders);
        if !conserved {
            findings.push(format!(
                "the sale says {} units sold in {} orders, its rows say {} in {}",
                after.sold, after.orders, totals.units, totals.orders
            ));
        }
        let in_flight = gate.map(|gate| {
            let set_aside = i64::from(before.stock) - i64::from(gate.remaining);
            let recorded = if still { totals.units + totals.rejected_units } else { u64::from(before.sold) };
            let in_flight = set_aside - i64::try_from(recorded).unwrap_or(i64::MAX);
            if in_flight < 0 {
                conserved = false;
                findings.push(format!(
                    "the ledger has recorded {recorded} units, but the gate has set aside only {set_aside}: the gate \
                     has lost data"
                ));
            }
            // Where the queue can tell what is unacknowledged, every order in flight must be in one of the two places.
            // Duplicates of a message may make them look like more, never like fewer.
            let orders_in_flight =
                gate.orders.saturating_sub(totals.orders + totals.rejected_orders);
            let seen = queue.orders.map(|queued| queued + gate.pending_orders);
            if still && seen.is_some_and(|seen| orders_in_flight > seen) {
                conserved = false;
                findings.push(format!(
                    "{orders_in_flight} orders are set aside and not recorded, but only {} are pending or queued",
                    seen.unwrap_or_default()
                ));
            }
            in_flight
        });
        let violated = oversold > 0 || totals.duplicates > 0 || !conserved;
        let verdict = match in_flight {
            _ if violated => Verdict::Violated,
            None => Verdict::GateMissing,
            Some(0) => Verdict::Clean,
            Some(_) => Verdict::InFlight,
        };
        Self {
            sale_id: before.id,
            stock: before.stock,
            remaining: gate.map(|gate| gate.remaining),
            reserved_orders: gate.map(|gate| gate.orders),
            pending_orders: gate.map(|gate| gate.pending_orders),
            queued_batches: queue.ready_batches,
            committed_orders: totals.orders,
            sold: totals.units,
            rejected_orders: totals.rejected_orders,
            rejected_units: totals.rejected_units,
            in_flight,
            oversold,
            duplicates: totals.duplicates,
            conserved: conserved && in_flight.is_some(),
            verdict,
            findings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            price_cents: 1,
            currency: "USD".into(),
            per_user_limit: 1,
            starts_at: crate::now(),
            ends_at: crate::now(),
            mode: crate::Mode::Queue,
            epoch: 1,
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
        let report = AuditReport::from_counts(&sale(4), gate(4, 0), queue(0), rows(4), &sale(4));
        assert_eq!((report.verdict, report.in_flight, report.conserved), (Verdict::Clean, Some(0), true));
    }

    #[test]
    fn what_is_pending_or_queued_is_in_flight() {
        let report = AuditReport::from_counts(&sale(4), gate(8, 1), queue(3), rows(4), &sale(4));
        assert_eq!((report.verdict, report.in_flight), (Verdict::InFlight, Some(4)));
    }

    #[test]
    fn an_order_that_is_nowhere_is_found() {
        let report = AuditReport::from_counts(&sale(4), gate(8, 1), queue(2), rows(4), &sale(4));
        assert_eq!((report.verdict, report.conserved), (Verdict::Violated, false));
    }

    #[test]
    fn a_gate_that_lost_orders_is_found() {
        let report = AuditReport::from_counts(&sale(4), gate(2, 0), queue(0), rows(4), &sale(4));
        assert_eq!((report.verdict, report.in_flight), (Verdict::Violated, Some(-2)));
        let report = AuditReport::from_counts(&sale(4), None, queue(0), rows(4), &sale(4));
        assert_eq!((report.verdict, report.conserved), (Verdict::GateMissing, false));
    }

    #[test]
    fn overselling_duplicates_and_a_wrong_running_total_are_found() {
        let report = AuditReport::from_counts(&sale(4), gate(10, 0), queue(7), rows(11), &sale(4));
        assert_eq!((report.oversold, report.conserved), (1, false));
        let twice = LedgerTotals { duplicates: 1, ..rows(4) };
        assert_eq!(
            AuditReport::from_counts(&sale(4), gate(4, 0), queue(0), twice, &sale(4)).verdict,
            Verdict::Violated
        );
    }
}
