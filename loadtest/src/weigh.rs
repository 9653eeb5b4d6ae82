//! Makes the report: from a run, from the samples of its sale, from what became of the orders; and the verdict from all of
//! it. Sends and draws nothing.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::latency::Times;
use crate::report::{
    GeneratorReport, Latencies, LatencyReport, Method, Model, PlanReport, RatesReport, Report,
    SCHEMA_VERSION, SaleReport, Second, StageReport, UnknownReport, Verdict, VerificationReport,
};
use crate::{
    Arrivals, Audit, AuditState, Check, End, Kind, Latency, Outcome, Plan, Record, Recorded, Run, Sample,
    Threshold, Verification,
};

/// Above this share of late requests, 0 to 1, the load was not the one that was asked for.
const SATURATED_ABOVE: f64 = 0.01;
/// The width of one step of the series.
const SECOND_US: u64 = 1_000_000;

/// What a report says beside what was measured.
#[derive(Debug, Clone)]
pub struct Header {
    /// The base address.
    pub target: String,
    /// The sale.
    pub sale: SaleReport,
    /// The plan.
    pub plan: PlanReport,
}

impl PlanReport {
    /// What a plan says of itself; what it does not know, such as the connections, is 0 or 1 and left to the caller.
    pub fn of(plan: &Plan) -> Self {
        let stage = |seconds: Duration, rate| StageReport { seconds: seconds.as_secs_f64(), rate };
        let (model, start_rate, stages) = match &plan.arrivals {
            Arrivals::Spread { buyers, over } => {
                let rate = if over.is_zero() { 0.0 } else { *buyers as f64 / over.as_secs_f64() };
                (Model::Open, Some(rate), vec![stage(*over, rate)])
            }
            Arrivals::Stages(stages) => {
                let all = stages.stages.iter().map(|one| stage(one.lasts, one.rate)).collect();
                (Model::Open, Some(stages.start_rate), all)
            }
            Arrivals::Closed { .. } => (Model::Closed, None, Vec::new()),
        };
        Self {
            scenario: None,
            model,
            start_rate,
            stages,
            requests: plan.total(),
            buyers: plan.buyers(),
            first_user: plan.first_user,
            seed: plan.seed,
            copies: plan.copies,
            retry_ratio: plan.retry_ratio,
            bots: plan.bots,
            bot_requests: plan.bot_requests,
            quantity: 1,
            connections: 0,
            max_connections: 0,
            warmup_seconds: 0.0,
            timeout_seconds: 0.0,
        }
    }
}

impl Report {
    /// Weighs a run. What became of its orders is not known yet: the verdict is [`Verdict::Unverified`] until
    /// [`Self::judge`].
    pub fn of(run: &Run, header: Header) -> Self {
        let warmup_us = (header.plan.warmup_seconds * 1e6) as u64;
        let first = run.records.partition_point(|record| record.slot.due_us < warmup_us);
        let measured = &run.records[first..];
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            target: header.target,
            sale: header.sale,
            plan: header.plan,
            started_at: humantime::format_rfc3339_millis(run.started_at).to_string(),
            duration_seconds: run.duration.as_secs_f64(),
            counts: run.counts(),
            refusals: refusals(&run.records),
            connection_error: run.connection_error.clone(),
            rates: rates(measured, run.duration.saturating_sub(Duration::from_micros(warmup_us))),
            latency: LatencyReport {
                corrected: latencies(measured, Record::latency_us),
                uncorrected: latencies(measured, |record| u64::from(record.service_us)),
            },
            series: seconds(&run.records),
            generator: generator(run),
            verification: None,
            thresholds: Vec::new(),
            verdict: Verdict::Unverified,
            reasons: Vec::new(),
        }
    }

    /// Puts what the sale looked like beside the requests, second by second. The series grows by the drain.
    pub fn place(&mut self, samples: &[Sample], started_at: SystemTime) {
        let mut last_at = 0;
        for sample in samples {
            let Ok(since) = sample.at.duration_since(started_at) else { continue };
            let second = since.as_secs() as usize;
            while self.series.len() <= second {
                let at_ms = self.series.len() as u64 * 1_000;
                self.series.push(Second { at_ms, ..Second::default() });
            }
            // A second in which nobody looked is as the one before.
            let before = self.series[last_at];
            for skipped in self.series[last_at..second].iter_mut().skip(1) {
                (skipped.committed, skipped.backlog, skipped.remaining) =
                    (before.committed, before.backlog, before.remaining);
            }
            last_at = second;
            let at = &mut self.series[second];
            at.committed = Some(sample.committed);
            at.backlog = sample.backlog();
            at.remaining = sample.remaining;
        }
    }

    /// Weighs the thresholds, and gives the verdict with its reasons.
    pub fn judge(&mut self, thresholds: &[Threshold], interrupted: bool) {
        self.thresholds = thresholds.iter().map(|threshold| threshold.weigh(self)).collect();
        let broken = self.broken();
        let missed: Vec<String> = self.thresholds.iter().filter(|one| !one.kept).map(missed).collect();
        let unclear = self.unclear();
        (self.verdict, self.reasons) = if !broken.is_empty() {
            (Verdict::Violated, broken)
        } else if interrupted {
            (
                Verdict::Interrupted,
                vec!["the run was interrupted; these are the numbers that it had".to_owned()],
            )
        } else if !unclear.is_empty() {
            (Verdict::Unclear, unclear)
        } else if !missed.is_empty() {
            (Verdict::ThresholdMissed, missed)
        } else if self.verification.is_none() {
            (Verdict::Unverified, vec!["what became of the orders was not asked".to_owned()])
        } else {
            (Verdict::Pass, Vec::new())
        };
    }

    /// Promises that the system has broken, in sentences.
    fn broken(&self) -> Vec<String> {
        let Some(checked) = &self.verification else { return Vec::new() };
        let mut broken = Vec::new();
        if checked.lost > 0 && !checked.cancelled {
            let (lost, promised) = (checked.lost, checked.promised);
            broken.push(format!("lost: {lost} of {promised} promised orders have no final row"));
        }
        if checked.oversold > 0 {
            broken.push(format!("oversold: {} units are sold above the stock", checked.oversold));
        }
        if checked.duplicates > 0 {
            broken.push(format!("duplicates: {} buyers were given two orders", checked.duplicates));
        }
        if checked.conserved == Some(false) {
            broken.push(
                "not conserved: the sale's audit does not find every unit of stock in exactly one place"
                    .to_owned(),
            );
        }
        if !broken.is_empty() {
            broken.extend(checked.audit_findings.iter().map(|finding| format!("the audit says: {finding}")));
        }
        broken
    }

    /// Why nobody can say whether the promises were kept, in sentences.
    fn unclear(&self) -> Vec<String> {
        let counts = &self.counts;
        let mut unclear = Vec::new();
        if counts.accepted + counts.replayed + counts.sold_out == 0 {
            let most = self.refusals.iter().max_by_key(|(_, count)| **count);
            let most = most.map_or_else(String::new, |(problem, count)| {
                format!("; {count} were refused with {problem}")
            });
            unclear.push(format!(
                "not one of {} requests was answered with an order or sold out{most}",
                counts.sent
            ));
        }
        if let Some(checked) = &self.verification {
            if checked.in_flight > 0 {
                unclear.push(format!(
                    "still in flight: {} of {} promised orders have no final row yet and still wait for the workers",
                    checked.in_flight, checked.promised
                ));
            }
            if checked.unclear > 0 {
                unclear.push(format!(
                    "the server did not say what became of {} promised orders",
                    checked.unclear
                ));
            }
            unclear.extend(conservation_not_known(checked));
            if checked.cancelled {
                unclear.push(
                    "the check was cancelled, so nobody knows whether every promise was kept".to_owned(),
                );
            }
        }
        unclear
    }
}

/// Why nobody can say whether stock is conserved; `None`: somebody can, or the sale has no gate to compare with.
fn conservation_not_known(checked: &VerificationReport) -> Option<String> {
    if checked.conserved.is_some() || !checked.has_gate {
        return None;
    }
    let why = match checked.audit_verdict.as_deref() {
        _ if checked.rebuilding => "the sale's gate is being rebuilt".to_owned(),
        None => "the server has no audit of the sale, or did not answer".to_owned(),
        Some("gate_missing") => "the sale's gate has no data".to_owned(),
        Some(word) => format!("the audit's verdict is {}", word.replace('_', " ")),
    };
    Some(format!("whether stock is conserved is not known: {why}"))
}

fn missed(threshold: &crate::ThresholdReport) -> String {
    match threshold.measured {
        Some(_) => format!("threshold missed: {}, measured {}", threshold.text, threshold.shown()),
        None => format!("threshold missed: {}, but nothing was measured", threshold.text),
    }
}

/// What else is known when a verification is weighed.
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
    /// When the backlog was seen to be gone; `None`: it was not.
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
    /// An order is lost only where the audit says so, or where the audit has fewer orders in flight than rows are missing.
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

/// Whether the audit found every unit in one place; `None`: it could not say, as without a gate.
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
        let units = checked.count(End::Committed) * u64::from(aftermath.quantity);
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

fn latencies(records: &[Record], of: fn(&Record) -> u64) -> Latencies {
    let answered = || records.iter().filter(|record| record.outcome != Outcome::ConnectionError);
    let accepted = answered().filter(|record| record.outcome.kind() == Kind::Accepted);
    Latencies { all: Latency::of(answered().map(of)), accepted: Latency::of(accepted.map(of)) }
}

fn rates(records: &[Record], time: Duration) -> RatesReport {
    let a_second = |count: usize| if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() };
    let accepted = records.iter().filter(|record| record.outcome.kind() == Kind::Accepted).count();
    let answered = records.iter().filter(|record| record.outcome != Outcome::ConnectionError).count();
    RatesReport { sent: a_second(records.len()), answered: a_second(answered), accepted: a_second(accepted) }
}

fn generator(run: &Run) -> GeneratorReport {
    let counts = run.counts();
    let late_share = if counts.sent == 0 { 0.0 } else { counts.late as f64 / counts.sent as f64 };
    let seconds = run.duration.as_secs_f64();
    GeneratorReport {
        cpu_share: run.cpu.filter(|_| seconds > 0.0).map(|cpu| cpu.as_secs_f64() / seconds),
        saturated: late_share > SATURATED_ABOVE,
        late: counts.late,
        late_share,
        late_after_ms: run.late_after.as_secs_f64() * 1e3,
        lag: Latency::of(run.records.iter().map(|record| u64::from(record.lag_us))),
        connections: run.connections as u64,
    }
}

fn refusals(records: &[Record]) -> BTreeMap<String, u64> {
    let mut by_problem: BTreeMap<(u16, &str), u64> = BTreeMap::new();
    for record in records {
        let problem = match &record.outcome {
            Outcome::Refused { status, problem } => (*status, &**problem),
            Outcome::Malformed { status } => (*status, "malformed"),
            _ => continue,
        };
        *by_problem.entry(problem).or_default() += 1;
    }
    by_problem.into_iter().map(|((status, problem), count)| (format!("{status} {problem}"), count)).collect()
}

/// The requests second by second, from the start to the last answer. `records` are in the order of the schedule.
fn seconds(records: &[Record]) -> Vec<Second> {
    let last = records.iter().map(Record::ended_us).max();
    let count = last.map_or(0, |last| last / SECOND_US + 1);
    let mut series: Vec<Second> =
        (0..count).map(|at| Second { at_ms: at * 1_000, ..Second::default() }).collect();
    for record in records {
        series[(record.sent_us() / SECOND_US) as usize].sent += 1;
        let at = &mut series[(record.ended_us() / SECOND_US) as usize];
        *match record.outcome.kind() {
            Kind::Accepted => &mut at.accepted,
            Kind::Replayed => &mut at.replayed,
            Kind::SoldOut => &mut at.sold_out,
            _ => &mut at.errors,
        } += 1;
    }
    let mut times = Times::new();
    for same in records.chunk_by(|one, next| one.slot.due_us / SECOND_US == next.slot.due_us / SECOND_US) {
        let at = &mut series[(same[0].slot.due_us / SECOND_US) as usize];
        at.due = same.len() as u64;
        times.clear();
        let answered = same.iter().filter(|record| record.outcome != Outcome::ConnectionError);
        answered.for_each(|record| times.record(record.latency_us()));
        let latency = times.latency();
        if latency.count > 0 {
            (at.p50_us, at.p99_us) = (Some(latency.p50_us), Some(latency.p99_us));
        }
    }
    series
}

#[cfg(test)]
mod tests;
