//! What a report says of runs that are made up record by record.

use uuid::Uuid;

use super::*;
use crate::report::tests::report;
use crate::{Order, Slot};

fn record(due_us: u64, lag_us: u32, service_us: u32, outcome: Outcome) -> Record {
    Record { slot: Slot { due_us, buyer: 0, repeat: false }, lag_us, service_us, outcome }
}

fn accepted() -> Outcome {
    Outcome::Accepted { order_id: Uuid::nil() }
}

fn weigh(records: Vec<Record>) -> Report {
    weigh_after(0.0, records)
}

fn weigh_after(warmup_seconds: f64, records: Vec<Record>) -> Report {
    let run = Run {
        planned: records.len(),
        started_at: SystemTime::UNIX_EPOCH,
        duration: Duration::from_secs(4),
        records,
        connection_error: None,
        late_after: Duration::from_millis(5),
        connections: 1,
        cpu: Some(Duration::from_secs(2)),
    };
    let Report { target, sale, plan, .. } = report();
    Report::of(&run, Header { target, sale, plan: PlanReport { warmup_seconds, ..plan } })
}

#[test]
fn latency_counts_from_the_schedule_or_from_leaving() {
    let report = weigh(vec![record(0, 90_000, 10_000, Outcome::SoldOut)]);
    let LatencyReport { corrected, uncorrected } = report.latency;
    assert!((99_900..=100_100).contains(&corrected.all.p50_us), "{corrected:?}");
    assert!((9_990..=10_010).contains(&uncorrected.all.max_us), "{uncorrected:?}");
    assert_eq!(corrected.accepted.count, 0);
    assert_eq!((report.generator.late, report.generator.saturated), (1, true));
    assert_eq!(report.generator.cpu_share, Some(0.5));
    assert_eq!(report.started_at, "1970-01-01T00:00:00.000Z");
}

#[test]
fn one_late_request_of_a_hundred_is_not_saturation_and_two_are() {
    let late = |count: u32| {
        let lag = |at| if at < count { 6_000 } else { 0 };
        weigh((0..100).map(|at| record(u64::from(at), lag(at), 1, Outcome::SoldOut)).collect()).generator
    };
    assert_eq!((late(1).saturated, late(2).saturated, late(2).late_share), (false, true, 0.02));
}

#[test]
fn seconds_count_requests_when_they_leave_answers_when_they_come_and_latency_when_it_was_due() {
    let report = weigh(vec![
        record(0, 0, 1_500_000, accepted()),
        record(900_000, 200_000, 10, Outcome::SoldOut),
        record(1_000_000, 0, 10, Outcome::TimedOut),
    ]);
    let seconds: Vec<_> =
        report.series.iter().map(|at| (at.due, at.sent, at.accepted, at.sold_out, at.errors)).collect();
    assert_eq!(seconds, [(2, 1, 0, 0, 0), (1, 2, 1, 1, 1)]);
    assert!(report.series[0].p99_us.unwrap() >= 1_499_000, "{:?}", report.series);
}

#[test]
fn refusals_are_told_apart_by_status_and_problem() {
    let refused = |status, problem: &str| Outcome::Refused { status, problem: problem.into() };
    let outcomes =
        [refused(403, "closed"), refused(403, "closed"), refused(503, "overloaded"), Outcome::SoldOut];
    let report = weigh(outcomes.map(|outcome| record(0, 0, 1, outcome)).into());
    let expected = [("403 closed".to_owned(), 2), ("503 overloaded".to_owned(), 1)];
    assert_eq!(report.refusals, BTreeMap::from(expected));
    assert_eq!((report.counts.refused, report.counts.sold_out), (3, 1));
}

#[test]
fn the_warm_up_is_left_out_of_latency_and_rates_and_not_of_the_counts() {
    let report =
        weigh_after(2.0, vec![record(0, 0, 900_000, accepted()), record(2_000_000, 0, 1_000, accepted())]);
    assert_eq!((report.counts.accepted, report.latency.corrected.all.count), (2, 1));
    assert_eq!((report.rates.accepted, report.latency.corrected.all.max_us), (0.5, 1_000));
}

#[test]
fn the_sale_is_placed_beside_the_requests_and_the_series_grows_by_the_drain() {
    let mut report = weigh(vec![record(0, 0, 1, accepted())]);
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let sample = |ms, committed| Sample {
        at: start + Duration::from_millis(ms),
        committed,
        rejected: 1,
        reserved: Some(10),
        remaining: None,
    };
    let early = Sample { at: start - Duration::from_secs(1), ..sample(0, 77) };
    report.place(&[early, sample(100, 1), sample(900, 3), sample(3_200, 9)], start);
    let placed: Vec<_> = report.series.iter().map(|at| (at.at_ms, at.committed, at.backlog)).collect();
    let expected = [
        (0, Some(3), Some(6)),
        (1_000, Some(3), Some(6)),
        (2_000, Some(3), Some(6)),
        (3_000, Some(9), Some(0)),
    ];
    assert_eq!(placed, expected);
}

#[test]
fn the_verdict_is_the_worst_that_is_true() {
    let missed: [Threshold; 1] = ["p50<1us".parse().unwrap()];
    let judged = |spoil: fn(&mut Report), thresholds: &[Threshold], interrupted| {
        let mut report = report();
        spoil(&mut report);
        report.judge(thresholds, interrupted);
        assert_eq!(report.reasons.is_empty(), report.verdict == Verdict::Pass, "{:?}", report.reasons);
        report.verdict
    };
    fn checked(report: &mut Report) -> &mut VerificationReport {
        report.verification.as_mut().unwrap()
    }
    assert_eq!(judged(|_| {}, &[], false), Verdict::Pass);
    assert_eq!(judged(|_| {}, &missed, false), Verdict::ThresholdMissed);
    assert_eq!(judged(|_| {}, &missed, true), Verdict::Interrupted);
    assert_eq!(judged(|report| report.verification = None, &[], false), Verdict::Unverified);
    let spoiled: [fn(&mut Report); 4] = [
        |report| checked(report).lost = 1,
        |report| checked(report).oversold = 1,
        |report| checked(report).duplicates = 1,
        |report| checked(report).conserved = Some(false),
    ];
    for spoil in spoiled {
        assert_eq!(judged(spoil, &missed, true), Verdict::Violated);
    }
    let unclear: [fn(&mut Report); 5] = [
        |report| checked(report).unclear = 1,
        |report| checked(report).in_flight = 1,
        |report| checked(report).conserved = None,
        |report| (checked(report).lost, checked(report).cancelled) = (5, true),
        |report| (report.counts.accepted, report.counts.sold_out, report.counts.refused) = (0, 0, 2_000),
    ];
    for spoil in unclear {
        assert_eq!(judged(spoil, &missed, false), Verdict::Unclear);
    }
}

#[test]
fn a_sale_without_a_gate_needs_no_audit_of_the_gate() {
    let mut report = report();
    let checked = report.verification.as_mut().unwrap();
    (checked.has_gate, checked.conserved) = (false, None);
    report.judge(&[], false);
    assert_eq!(report.verdict, Verdict::Pass);
}

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
    Check { order: Order { buyer, order_id: Uuid::from_u128(id), promised, due_us: 0 }, end }
}

#[test]
fn the_ledgers_own_list_weighs_more_than_the_servers_audit() {
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
