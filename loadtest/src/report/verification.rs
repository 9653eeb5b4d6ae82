//! What became of the orders: which are committed, still in flight, or lost, by the rows that were found and by the audit.

use std::time::SystemTime;

use crate::check::bulk::Recorded;
use crate::check::shop::{Audit, AuditState};
use crate::check::verify::{Check, End, Verification};
use crate::report::schema::{Method, UnknownReport, VerificationReport};

/// What is known beside the look-up of the orders.
#[derive(Debug, Clone, Copy)]
pub struct Aftermath<'a> {
    /// Units on sale; `None`: not known.
    pub stock: Option<u64>,
    /// Units of each order.
    pub quantity: u32,
    /// The list of all recorded orders; `None`: each order was asked for by itself.
    pub recorded: Option<Recorded>,
    /// The sale's audit; `None`: the server has none, or did not answer.
    pub audit: Option<&'a Audit>,
    /// Whether the sale has a gate; a direct sale has none.
    pub has_gate: bool,
    /// Whether the sale's gate is being rebuilt.
    pub rebuilding: bool,
    /// When the last answer of the run came.
    pub run_ended_at: SystemTime,
    /// When the drain was done; `None`: it was not.
    pub drained_at: Option<SystemTime>,
}

/// Promised orders without a final row, by what is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Unrecorded {
    lost: u64,
    in_flight: u64,
    not_known: u64,
}

impl Unrecorded {
    /// An order is lost only if the audit says so, or if the audit has fewer orders in flight than rows are missing.
    fn of(orders: u64, aftermath: &Aftermath<'_>) -> Self {
        let lost = Self { lost: orders, ..Self::default() };
        let in_flight = Self { in_flight: orders, ..Self::default() };
        let Some(audit) = aftermath.audit else {
            return if aftermath.rebuilding {
                in_flight
            } else {
                Self { not_known: orders, ..Self::default() }
            };
        };
        match audit.state() {
            AuditState::Broken => lost,
            _ if aftermath.rebuilding => in_flight,
            AuditState::Rebuilding => in_flight,
            AuditState::Clean => lost,
            AuditState::InFlight => {
                let units = audit.in_flight_units().map(|units| u64::try_from(units).unwrap_or_default());
                let quantity = u64::from(aftermath.quantity.max(1));
                let in_flight = units.map_or(orders, |units| units.div_ceil(quantity).min(orders));
                Self { in_flight, lost: orders - in_flight, not_known: 0 }
            }
            // Without a gate there is no queue either: an order is in the ledger before it is promised.
            AuditState::NotKnown if !aftermath.has_gate => lost,
            AuditState::NotKnown => Self { not_known: orders, ..Self::default() },
        }
    }
}

/// Whether the audit found every unit in one place; `None`: not known, for example without a gate.
fn conserved(aftermath: &Aftermath<'_>) -> Option<bool> {
    let audit = aftermath.audit?;
    match audit.state() {
        AuditState::Broken => Some(audit.conserved),
        AuditState::Clean | AuditState::InFlight if !aftermath.rebuilding => Some(audit.conserved),
        _ => None,
    }
}

impl VerificationReport {
    /// Reports what became of the orders.
    pub fn of(checked: &Verification, aftermath: &Aftermath<'_>) -> Self {
        let (promised, unknown): (Vec<&Check>, Vec<&Check>) =
            checked.checks.iter().partition(|check| check.order.promised);
        let count = |checks: &[&Check], end| checks.iter().filter(|check| check.end == end).count() as u64;
        let open = promised.iter().filter(|check| check.is_unrecorded()).count() as u64;
        let Unrecorded { lost, in_flight, not_known } = Unrecorded::of(open, aftermath);
        let audit = aftermath.audit;
        let units = checked.active() * u64::from(aftermath.quantity);
        let units = units.max(aftermath.recorded.map_or(0, |recorded| recorded.committed_units));
        let oversold = aftermath.stock.map_or(0, |stock| units.saturating_sub(stock));
        let twice = aftermath.recorded.map_or(0, |recorded| recorded.users_sold_twice);
        let drained_at = checked.last_recorded_at.or(aftermath.drained_at).filter(|_| open == 0);
        Self {
            method: if aftermath.recorded.is_some() { Method::Bulk } else { Method::Each },
            promised: promised.len() as u64,
            committed: count(&promised, End::Committed),
            rejected: count(&promised, End::Rejected),
            lost,
            in_flight,
            unclear: count(&promised, End::Unclear) + not_known,
            unknown: UnknownReport {
                orders: unknown.len() as u64,
                committed: count(&unknown, End::Committed),
                rejected: count(&unknown, End::Rejected),
                absent: count(&unknown, End::Missing),
                open: count(&unknown, End::Queued) + count(&unknown, End::Unclear),
            },
            oversold: oversold.max(audit.map_or(0, |audit| audit.oversold)),
            duplicates: checked
                .buyers_with_two_orders()
                .max(twice)
                .max(audit.map_or(0, |audit| audit.duplicates)),
            conserved: conserved(aftermath),
            has_gate: aftermath.has_gate,
            rebuilding: aftermath.rebuilding
                || audit.is_some_and(|audit| audit.state() == AuditState::Rebuilding),
            audit_verdict: audit.map(|audit| audit.verdict.clone()),
            audit_findings: audit.map(|audit| audit.findings.clone()).unwrap_or_default(),
            end_to_end: checked.end_to_end,
            drain_seconds: drained_at
                .map(|at| at.duration_since(aftermath.run_ended_at).unwrap_or_default().as_secs_f64()),
            cancelled: checked.cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::check::verify::Status;
    use crate::send::latency::Latency;
    use crate::send::run::Order;

    #[test]
    fn orders_without_a_row_are_lost_only_where_the_audit_or_the_rows_say_so() {
        let audit = |verdict: &str, in_flight: Option<i64>| Audit {
            verdict: verdict.to_owned(),
            others: serde_json::Map::from_iter(in_flight.map(|units| ("in_flight".to_owned(), units.into()))),
            ..Audit::default()
        };
        // Ten orders of two units have no row: what is known of them, as lost, in flight and not known.
        let split = |audit: Option<&Audit>, has_gate, rebuilding| {
            let aftermath = Aftermath {
                stock: None,
                quantity: 2,
                recorded: None,
                audit,
                has_gate,
                rebuilding,
                run_ended_at: SystemTime::UNIX_EPOCH,
                drained_at: None,
            };
            let Unrecorded { lost, in_flight, not_known } = Unrecorded::of(10, &aftermath);
            (lost, in_flight, not_known)
        };
        for (verdict, in_flight, expected) in [
            ("clean", Some(0), (10, 0, 0)),
            ("violated", Some(20), (10, 0, 0)),
            ("lost", Some(20), (10, 0, 0)),
            ("in_flight", None, (0, 10, 0)),
            ("in_flight", Some(20), (0, 10, 0)),
            ("in_flight", Some(100), (0, 10, 0)),
            ("in_flight", Some(7), (6, 4, 0)),
            ("in_flight", Some(-3), (10, 0, 0)),
            ("rebuilding", None, (0, 10, 0)),
            ("gate_missing", None, (0, 0, 10)),
            ("a_new_word", None, (0, 0, 10)),
        ] {
            let audit = audit(verdict, in_flight);
            assert_eq!(split(Some(&audit), true, false), expected, "{verdict} {in_flight:?}");
        }
        let gate_missing = audit("gate_missing", None);
        assert_eq!(split(Some(&gate_missing), false, false), (10, 0, 0), "a direct sale has no queue");
        assert_eq!(split(Some(&gate_missing), true, true), (0, 10, 0));
        assert_eq!(split(None, true, true), (0, 10, 0));
        assert_eq!(split(None, true, false), (0, 0, 10));
    }

    fn check(buyer: u32, id: u128, promised: bool, end: End) -> Check {
        Check {
            order: Order { buyer, order_id: Uuid::from_u128(id), promised, due_us: 0 },
            end,
            status: None,
        }
    }

    #[test]
    fn units_that_were_given_back_may_be_sold_again() {
        let with = |check: Check, status| Check { status: Some(status), ..check };
        let checks = vec![
            with(check(0, 1, true, End::Committed), Status::Cancelled),
            with(check(0, 2, true, End::Committed), Status::Paid),
            with(check(1, 3, true, End::Committed), Status::Refunded),
            with(check(2, 4, true, End::Committed), Status::Refunding),
        ];
        let end_to_end = Latency::default();
        let mut checked = Verification { checks, cancelled: false, end_to_end, last_recorded_at: None };
        let aftermath = Aftermath {
            stock: Some(2),
            quantity: 1,
            recorded: None,
            audit: None,
            has_gate: true,
            rebuilding: false,
            run_ended_at: SystemTime::UNIX_EPOCH,
            drained_at: None,
        };
        let report = VerificationReport::of(&checked, &aftermath);
        assert_eq!((report.committed, report.oversold, report.duplicates), (4, 0, 0));
        checked.checks[0].status = Some(Status::Committed);
        let report = VerificationReport::of(&checked, &aftermath);
        assert_eq!((report.committed, report.oversold, report.duplicates), (4, 1, 1));
    }

    #[test]
    fn the_list_of_recorded_orders_counts_more_than_the_audit() {
        let checks = vec![
            check(0, 1, true, End::Committed),
            check(1, 2, true, End::Rejected),
            check(2, 3, true, End::Missing),
            check(3, 4, true, End::Queued),
            check(4, 5, true, End::Unclear),
            check(5, 6, false, End::Committed),
            check(6, 7, false, End::Missing),
            check(7, 8, false, End::Unclear),
        ];
        let end_to_end = Latency::default();
        let checked = Verification { checks, cancelled: false, end_to_end, last_recorded_at: None };
        let clean = Audit { conserved: true, verdict: "clean".to_owned(), ..Audit::default() };
        let aftermath = Aftermath {
            stock: Some(5),
            quantity: 1,
            recorded: Some(Recorded { orders: 9, committed_units: 8, users_sold_twice: 2 }),
            audit: Some(&clean),
            has_gate: true,
            rebuilding: false,
            run_ended_at: SystemTime::UNIX_EPOCH,
            drained_at: None,
        };
        let report = VerificationReport::of(&checked, &aftermath);
        let VerificationReport { promised, committed, rejected, lost, unclear, .. } = report;
        assert_eq!((promised, committed, rejected, lost, unclear), (5, 1, 1, 2, 1));
        let unknown = UnknownReport { orders: 3, committed: 1, rejected: 0, absent: 1, open: 1 };
        assert_eq!((report.unknown, report.oversold, report.duplicates), (unknown, 3, 2));
        let lost_gate = Audit { conserved: false, verdict: "gate_missing".to_owned(), ..clean.clone() };
        let blind = Aftermath { audit: Some(&lost_gate), recorded: None, stock: None, ..aftermath };
        let report = VerificationReport::of(&checked, &blind);
        assert_eq!((report.conserved, report.oversold, report.method), (None, 0, Method::Each));
    }
}
