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
    let new = r#"{"name":"phone","stock":10,"ends_at":"2999-01-01T00:00:00Z"}"#;
    let new = Sale::new(SaleId(1), serde_json::from_str(new).unwrap());
    Sale { sold: u32::try_from(orders).unwrap(), orders, epoch: 1, open_epoch: 1, ..new }
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
    let settled =
        QueueProgress { now_ms: 100_000, last_set_aside_ms: 1, marker: Some((2, 3)), ..Default::default() };
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

#[test]
fn a_raise_in_progress_is_no_violation() {
    let raised = || Sale { stock: 15, revision: 1, ..sale(4) };
    // The ledger has it, the gate has not: the new units are not lost, and nobody can buy them yet.
    let report = audit(raised(), gate(4, 0), queue(0), rows(4), raised());
    assert_eq!((report.verdict, report.in_flight, report.stock), (Verdict::InFlight, Some(5), 15));
    // Both got it between the first read and the gate's.
    let level = gate(4, 0).map(|gate| GateLevel { remaining: gate.remaining + 5, ..gate });
    let report = audit(sale(4), level, queue(0), rows(4), raised());
    assert_eq!((report.verdict, report.in_flight), (Verdict::Clean, Some(0)));
    // New units were sold before the rows were counted.
    let sold_out = GateLevel { epoch: 1, remaining: 0, orders: 15, pending_orders: 0 };
    let after = Sale { sold: 15, orders: 15, ..raised() };
    let report = audit(sale(10), Some(sold_out), queue(0), rows(15), after);
    assert_eq!((report.oversold, report.findings.len()), (0, 0), "{report:?}");
}
