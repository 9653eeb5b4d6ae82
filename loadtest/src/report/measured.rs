//! Makes a report from a run and from the samples of its sale.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::check::samples::Sample;
use crate::plan::schedule::{Arrivals, Plan};
use crate::report::schema::{
    GeneratorReport, Latencies, LatencyReport, Model, PlanReport, RatesReport, Report, SCHEMA_VERSION,
    SaleReport, Second, StageReport, Verdict,
};
use crate::send::latency::{Latency, Times};
use crate::send::outcome::{Kind, Outcome};
use crate::send::run::{Record, Run};

/// Above this share of late requests, 0 to 1, the load was not the one that was asked for.
const SATURATED_ABOVE: f64 = 0.01;
/// The width of one step of the series.
const SECOND_US: u64 = 1_000_000;

/// The part of a report that is known before the run.
#[derive(Debug, Clone)]
pub struct Header {
    /// The base address.
    pub target: String,
    pub sale: SaleReport,
    pub plan: PlanReport,
}

impl PlanReport {
    /// The fields that the plan has. The caller sets the others, such as the connections, which are 0 or 1 here.
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
    /// The report of a run. What became of its orders is not known yet: the verdict is [`Verdict::Unverified`] until
    /// `set_verdict`.
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
            lifecycle: None,
            thresholds: Vec::new(),
            verdict: Verdict::Unverified,
            reasons: Vec::new(),
        }
    }

    /// Adds the samples of the sale to the series, second by second. The series gets longer by the drain.
    pub fn place(&mut self, samples: &[Sample], started_at: SystemTime) {
        let mut last_at = 0;
        for sample in samples {
            let Ok(since) = sample.at.duration_since(started_at) else { continue };
            let second = since.as_secs() as usize;
            while self.series.len() <= second {
                let at_ms = self.series.len() as u64 * 1_000;
                self.series.push(Second { at_ms, ..Second::default() });
            }
            // A second without a sample gets the values of the second before.
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
