//! What a report says of runs that are made up record by record.

use uuid::Uuid;

use super::*;
use crate::plan::schedule::Slot;
use crate::report::sample::report;

fn record(due_us: u64, lag_us: u32, service_us: u32, outcome: Outcome) -> Record {
    Record { slot: Slot { due_us, buyer: 0, repeat: false }, lag_us, service_us, outcome }
}

fn accepted() -> Outcome {
    Outcome::Accepted { order_id: Uuid::nil() }
}

fn measured(records: Vec<Record>) -> Report {
    measured_after(0.0, records)
}

fn measured_after(warmup_seconds: f64, records: Vec<Record>) -> Report {
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
    let report = measured(vec![record(0, 90_000, 10_000, Outcome::SoldOut)]);
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
        measured((0..100).map(|at| record(u64::from(at), lag(at), 1, Outcome::SoldOut)).collect()).generator
    };
    assert_eq!((late(1).saturated, late(2).saturated, late(2).late_share), (false, true, 0.02));
}

#[test]
fn seconds_count_requests_when_they_leave_answers_when_they_come_and_latency_when_it_was_due() {
    let report = measured(vec![
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
    let report = measured(outcomes.map(|outcome| record(0, 0, 1, outcome)).into());
    let expected = [("403 closed".to_owned(), 2), ("503 overloaded".to_owned(), 1)];
    assert_eq!(report.refusals, BTreeMap::from(expected));
    assert_eq!((report.counts.refused, report.counts.sold_out), (3, 1));
}

#[test]
fn the_warm_up_is_left_out_of_latency_and_rates_and_not_of_the_counts() {
    let report =
        measured_after(2.0, vec![record(0, 0, 900_000, accepted()), record(2_000_000, 0, 1_000, accepted())]);
    assert_eq!((report.counts.accepted, report.latency.corrected.all.count), (2, 1));
    assert_eq!((report.rates.accepted, report.latency.corrected.all.max_us), (0.5, 1_000));
}

#[test]
fn the_sale_is_placed_beside_the_requests_and_the_series_grows_by_the_drain() {
    let mut report = measured(vec![record(0, 0, 1, accepted())]);
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
