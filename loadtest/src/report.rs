//! The numbers of a run, for people and for programs. Measures nothing; weighs only what it is given.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Counts, End, Kind, Outcome, Progress, Record, Run, Verification};

/// The width of one bucket of the time series.
const BUCKET: Duration = Duration::from_millis(100);
/// The longest time that a histogram tells apart, in microseconds: as long as a record can hold, twice.
const MAX_US: u64 = 2 * u32::MAX as u64;

/// Everything worth knowing about a run, in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How the requests ended.
    pub counts: Counts,
    /// Requests by HTTP status and problem, such as `403 not-open`, where the answer was neither a promise nor has a
    /// count of its own.
    pub refusals: BTreeMap<String, u64>,
    /// From the start until the last answer, in seconds.
    pub seconds: f64,
    /// Requests that came to an end, a second.
    pub answers_per_second: f64,
    /// From the time in the schedule until the end, over all that were answered or timed out: what buyers waited.
    pub latency: Latency,
    /// The same, for accepted orders alone.
    pub accepted_latency: Latency,
    /// From leaving until the end: what the server took. Where this is much less than `latency`, requests had to wait for
    /// a free connection.
    pub service: Latency,
    /// From the time in the schedule until leaving: how far the generator itself fell behind.
    pub lag: Latency,
    /// Requests over time.
    pub series: Vec<Bucket>,
    /// What went wrong with the first connection that failed.
    pub connection_error: Option<String>,
    /// What became of the orders, where that was asked.
    pub orders: Option<OrdersReport>,
}

/// A distribution of times, in microseconds, to three significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Latency {
    /// How many requests it is of; where 0, all else is 0 too.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 9 of 10 took no longer.
    pub p90_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// What happened in 100 ms of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Bucket {
    /// When it begins, in milliseconds from the start of the run.
    pub at_ms: u64,
    /// Requests that left.
    pub sent: u64,
    /// Orders that were accepted (202).
    pub accepted: u64,
}

/// What became of the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrdersReport {
    /// Orders that some answer has named.
    pub named: u64,
    /// In the ledger.
    pub committed: u64,
    /// Recorded by the ledger as rejected.
    pub rejected: u64,
    /// Still on their way when the time was up.
    pub queued: u64,
    /// Not known to the server.
    pub missing: u64,
    /// The server gave no answer that says where they stand.
    pub unclear: u64,
    /// Promised, and without a final row.
    pub lost: u64,
    /// Buyers who were given two order ids for the same wish.
    pub buyers_with_two_orders: u64,
    /// Whether the check was cancelled while orders were open, so that `lost` proves nothing.
    pub cancelled: bool,
}

impl From<&Verification> for OrdersReport {
    fn from(verification: &Verification) -> Self {
        Self {
            named: verification.checks.len() as u64,
            committed: verification.count(End::Committed),
            rejected: verification.count(End::Rejected),
            queued: verification.count(End::Queued),
            missing: verification.count(End::Missing),
            unclear: verification.count(End::Unclear),
            lost: verification.lost(),
            buyers_with_two_orders: verification.buyers_with_two_orders(),
            cancelled: verification.cancelled,
        }
    }
}

impl Report {
    /// Weighs a run and, where there is one, its verification.
    pub fn new(run: &Run, verification: Option<&Verification>) -> Self {
        let counts = run.counts();
        let seconds = run.duration.as_secs_f64();
        let answered = || run.records.iter().filter(|record| record.outcome != Outcome::ConnectionError);
        let accepted = answered().filter(|record| record.outcome.kind() == Kind::Accepted);
        Self {
            refusals: refusals(run),
            seconds,
            answers_per_second: if seconds > 0.0 { counts.ended() as f64 / seconds } else { 0.0 },
            latency: Latency::of(answered().map(Record::latency_us)),
            accepted_latency: Latency::of(accepted.map(Record::latency_us)),
            service: Latency::of(answered().map(|record| u64::from(record.service_us))),
            lag: Latency::of(run.records.iter().map(|record| u64::from(record.lag_us))),
            series: run.series(),
            connection_error: run.connection_error.clone(),
            orders: verification.map(Into::into),
            counts,
        }
    }

    /// Promises that the system has broken, in sentences; empty when none is known. A check that was cancelled proves
    /// nothing about lost orders.
    pub fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        if let Some(orders) = self.orders {
            if orders.lost > 0 && !orders.cancelled {
                violations.push(format!("{} promised orders have no final row", orders.lost));
            }
            if orders.buyers_with_two_orders > 0 {
                let buyers = orders.buyers_with_two_orders;
                violations.push(format!("{buyers} buyers were given two orders for the same request"));
            }
        }
        violations
    }
}

impl Run {
    /// How the requests ended.
    pub fn counts(&self) -> Counts {
        let progress = Progress::default();
        progress.plan(self.planned);
        for record in &self.records {
            progress.sent(Duration::from_micros(u64::from(record.lag_us)) > self.late_after);
            progress.ended(record.outcome.kind());
        }
        progress.counts()
    }

    /// Requests over time, in steps of 100 ms from the start to the last answer.
    pub fn series(&self) -> Vec<Bucket> {
        let width = BUCKET.as_micros() as u64;
        let last = self.records.iter().map(Record::ended_us).max();
        let count = last.map_or(0, |last| last / width + 1);
        let mut series: Vec<Bucket> =
            (0..count).map(|at| Bucket { at_ms: at * width / 1_000, ..Bucket::default() }).collect();
        for record in &self.records {
            series[(record.sent_us() / width) as usize].sent += 1;
            if record.outcome.kind() == Kind::Accepted {
                series[(record.ended_us() / width) as usize].accepted += 1;
            }
        }
        series
    }
}

fn refusals(run: &Run) -> BTreeMap<String, u64> {
    let mut by_problem: BTreeMap<(u16, &str), u64> = BTreeMap::new();
    for record in &run.records {
        let problem = match &record.outcome {
            Outcome::Refused { status, problem } => (*status, &**problem),
            Outcome::Malformed { status } => (*status, "malformed"),
            _ => continue,
        };
        *by_problem.entry(problem).or_default() += 1;
    }
    by_problem.into_iter().map(|((status, problem), count)| (format!("{status} {problem}"), count)).collect()
}

impl Latency {
    fn of(times_us: impl Iterator<Item = u64>) -> Self {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, MAX_US, 3)
            .expect("the bounds are in order, the digits below 6");
        times_us.for_each(|time| histogram.saturating_record(time));
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        write!(
            f,
            "p50 {:.1}   p90 {:.1}   p99 {:.1}   p99.9 {:.1}   max {:.1}",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { planned, sent, late, .. } = self.counts;
        writeln!(
            f,
            "sent              {sent} of {planned} requests in {:.1} s, {late} of them late",
            self.seconds
        )?;
        writeln!(f, "answers           {:.0} a second", self.answers_per_second)?;
        for (name, count) in [
            ("accepted", self.counts.accepted),
            ("replayed", self.counts.replayed),
            ("sold out", self.counts.sold_out),
            ("rate limited", self.counts.rate_limited),
            ("unknown", self.counts.unknown),
            ("timed out", self.counts.timed_out),
            ("connection errors", self.counts.connection_errors),
        ] {
            if count > 0 || name == "accepted" {
                writeln!(f, "{name:<17} {count}")?;
            }
        }
        for (problem, count) in &self.refusals {
            writeln!(f, "{problem:<17} {count}")?;
        }
        if let Some(reason) = &self.connection_error {
            writeln!(f, "first connection error: {reason}")?;
        }
        writeln!(f, "latency, ms       {}   (from the intended start)", self.latency)?;
        writeln!(f, "  accepted        {}", self.accepted_latency)?;
        write!(f, "  service         {}   (from leaving)", self.service)?;
        if late > 0 {
            // Without this line a slow generator would pass for a slow server.
            write!(f, "\n  behind schedule {}   (from the intended start until leaving)", self.lag)?;
        }
        self.orders.map_or(Ok(()), |orders| write!(f, "\n{orders}"))
    }
}

impl fmt::Display for OrdersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "orders named      {}: {} committed, {} rejected",
            self.named, self.committed, self.rejected
        )?;
        for (name, count) in [("queued", self.queued), ("missing", self.missing), ("unclear", self.unclear)] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        if self.cancelled {
            return write!(f, "\nlost              not known: the check was cancelled");
        }
        write!(f, "\nlost              {}", self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slot;

    fn record(due_us: u64, lag_us: u32, service_us: u32, outcome: Outcome) -> Record {
        Record { slot: Slot { due_us, buyer: 0, second: false }, lag_us, service_us, outcome }
    }

    fn run(records: Vec<Record>) -> Run {
        let duration = Duration::from_secs(1);
        let late_after = Duration::from_millis(5);
        Run { planned: records.len(), duration, records, connection_error: None, late_after }
    }

    #[test]
    fn latency_counts_from_the_schedule_and_service_from_leaving() {
        let report = Report::new(&run(vec![record(0, 90_000, 10_000, Outcome::SoldOut)]), None);
        assert!((99_900..=100_100).contains(&report.latency.p50_us), "{:?}", report.latency);
        assert!((9_990..=10_010).contains(&report.service.max_us), "{:?}", report.service);
        assert_eq!((report.counts.late, report.accepted_latency.count), (1, 0));
    }

    #[test]
    fn the_series_counts_requests_when_they_leave_and_orders_when_they_are_accepted() {
        let order_id = uuid::Uuid::nil();
        let series = run(vec![
            record(0, 0, 250_000, Outcome::Accepted { order_id }),
            record(100_000, 0, 1, Outcome::TimedOut),
        ])
        .series();
        let counts: Vec<_> =
            series.iter().map(|bucket| (bucket.at_ms, bucket.sent, bucket.accepted)).collect();
        assert_eq!(counts, [(0, 1, 0), (100, 1, 0), (200, 0, 1)]);
    }

    #[test]
    fn refusals_are_told_apart_by_status_and_problem() {
        let refused = |status, problem: &str| Outcome::Refused { status, problem: problem.into() };
        let outcomes =
            [refused(403, "closed"), refused(403, "closed"), refused(503, "overloaded"), Outcome::SoldOut];
        let report = Report::new(&run(outcomes.map(|outcome| record(0, 0, 1, outcome)).into()), None);
        let expected = [("403 closed".to_owned(), 2), ("503 overloaded".to_owned(), 1)];
        assert_eq!(report.refusals, BTreeMap::from(expected));
        assert_eq!((report.counts.refused, report.counts.sold_out), (3, 1));
    }
}
