//! The fields of the report, as `--json` writes them and as the page, the comparison and the thresholds read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::effects::EffectCheck;
use crate::check::shop::Money;
use crate::plan::lifecycle::Behaviour;
use crate::send::latency::Latency;
use crate::send::progress::Counts;

/// The version of the report's form. It changes when a field is renamed, removed or given another meaning; a new field
/// does not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// The report of a run. Times from the start of the run count from the moment at which the schedule begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    pub tool_version: String,
    /// The base address that the requests went to.
    pub target: String,
    pub sale: SaleReport,
    pub plan: PlanReport,
    /// When the schedule began: RFC 3339, UTC, milliseconds.
    pub started_at: String,
    /// From the start until the last answer, in seconds; the drain is not part of it.
    pub duration_seconds: f64,
    /// How the requests ended, those of the warm-up too.
    pub counts: Counts,
    /// Requests by HTTP status and problem, such as `403 not-open`: of what `counts` calls refused or malformed.
    pub refusals: BTreeMap<String, u64>,
    /// The error of the first connection that failed.
    pub connection_error: Option<String>,
    /// Means over the run, the warm-up left out.
    pub rates: RatesReport,
    /// How long answers took, the warm-up left out.
    pub latency: LatencyReport,
    /// The run and the drain, second by second.
    pub series: Vec<Second>,
    /// The load generator itself: its CPU time, and how late it was.
    pub generator: GeneratorReport,
    /// What became of the orders; `None`: they were not looked up, by choice or because the run was interrupted.
    pub verification: Option<VerificationReport>,
    /// What the buyers did after the order; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<LifecycleReport>,
    /// Every threshold, and whether it was kept.
    pub thresholds: Vec<ThresholdReport>,
    pub verdict: Verdict,
    /// Why the verdict is what it is, in sentences; empty when it is [`Verdict::Pass`].
    pub reasons: Vec<String>,
}

/// The sale that the buyers ordered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleReport {
    pub id: u64,
    /// Units on sale; `None`: not known.
    pub stock: Option<u64>,
    /// Whether it was made for this run.
    pub created: bool,
}

/// When requests leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// On a schedule, whether or not earlier ones were answered.
    Open,
    /// On each connection, as soon as the one before was answered.
    Closed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The preset's name, or the scenario file's; `None` for a plan made of flags alone.
    pub scenario: Option<String>,
    /// When requests leave.
    pub model: Model,
    /// The rate at the start of the first stage, in buyers a second; `None` in the closed model.
    pub start_rate: Option<f64>,
    /// The rate over time; empty in the closed model.
    pub stages: Vec<StageReport>,
    /// Requests planned; `None` in the closed model where only a duration was given.
    pub requests: Option<u64>,
    /// Different buyers.
    pub buyers: u64,
    /// The user id of the first buyer.
    pub first_user: u64,
    /// The seed that decides who the buyers are, which of them send again, and which are bots.
    pub seed: u64,
    /// Requests that every buyer sends at once.
    pub copies: u32,
    /// The share of buyers that sends the same request again shortly after.
    pub retry_ratio: f64,
    /// The share of buyers that are bots.
    pub bots: f64,
    pub bot_requests: u32,
    /// Units of every order.
    pub quantity: u32,
    pub connections: u64,
    /// Connections at the most.
    pub max_connections: u64,
    /// The time at the start that latency and rates leave out, in seconds.
    pub warmup_seconds: f64,
    /// How long one request may take, in seconds.
    pub timeout_seconds: f64,
}

/// One stage of the open model: the rate moves from where it was to `rate` in a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// How long the stage takes; 0 for a jump.
    pub seconds: f64,
    /// The rate at its end, in buyers a second.
    pub rate: f64,
}

/// Means over the run, the warm-up left out, each a second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RatesReport {
    /// Requests that left.
    pub sent: f64,
    /// Requests that were answered or timed out.
    pub answered: f64,
    /// 202.
    pub accepted: f64,
}

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// From the intended start: how long buyers waited. A stall of the server is in it (no coordinated omission).
    pub corrected: Latencies,
    /// From the actual send: how long the server took. Where this is much less, requests had to wait before they were sent.
    pub uncorrected: Latencies,
}

/// One way to measure, over all requests and over the orders that were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// All requests that were answered or timed out.
    pub all: Latency,
    /// Those that were answered with 202.
    pub accepted: Latency,
}

/// One second of the run or of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Second {
    /// When it begins, in milliseconds from the start of the run.
    pub at_ms: u64,
    /// Requests that were due in it.
    pub due: u64,
    /// Requests that left in it.
    pub sent: u64,
    /// Answers 202 that arrived in it.
    pub accepted: u64,
    /// Answers 200 (the same order again) that arrived in it.
    pub replayed: u64,
    /// Answers 409 `sold-out` that arrived in it.
    pub sold_out: u64,
    /// All other ends in it: refusals, unknown outcomes, time-outs, broken connections.
    pub errors: u64,
    /// The median latency of the requests that were due in it, from the intended start, in microseconds; `None`: there were
    /// none.
    pub p50_us: Option<u64>,
    /// The 99th percentile of the same.
    pub p99_us: Option<u64>,
    /// Orders of the sale in the ledger at its end; `None`: not known.
    pub committed: Option<u64>,
    /// Orders between the gate and the ledger at its end; `None`: not known.
    pub backlog: Option<u64>,
    /// Units that the gate has not reserved at its end; `None`: not known.
    pub remaining: Option<u64>,
}

/// The load generator itself.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// CPU time during the sending, as a share of one core: 1.5 is one core and a half; `None`: the system does not report it.
    pub cpu_share: Option<f64>,
    /// Whether more than 1 % of the requests left late. Then the load was not the planned one.
    pub saturated: bool,
    /// Requests that left late.
    pub late: u64,
    /// Their share of all that left, 0 to 1.
    pub late_share: f64,
    /// A request that left later than this after its time counts as late, in milliseconds.
    pub late_after_ms: f64,
    /// From the intended start until leaving.
    pub lag: Latency,
    /// The most connections that were open.
    pub connections: u64,
}

/// How the orders were looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// All orders of the sale in one answer, with the admin token.
    Bulk,
    /// One request for each order.
    Each,
}

/// What became of the orders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerificationReport {
    /// How the orders were looked up.
    pub method: Method,
    /// Promised orders: different ids answered with 202, or with 200 where the first answer did not arrive.
    pub promised: u64,
    /// Of these, orders in the ledger.
    pub committed: u64,
    /// Of these, orders that the ledger has recorded as rejected.
    pub rejected: u64,
    /// Of these, orders without a final row that will never get one.
    pub lost: u64,
    /// Of these, orders without a final row that may still get one: the audit has them in flight, or the gate is rebuilt.
    #[serde(default)]
    pub in_flight: u64,
    /// Of these, orders of which the server did not say what became of them.
    pub unclear: u64,
    /// What became of the orders with an unknown outcome (503 `outcome-unknown`) that no later answer promised.
    pub unknown: UnknownReport,
    /// Units sold above the stock.
    pub oversold: u64,
    /// Buyers who were given two orders, by the answers or by the ledger.
    pub duplicates: u64,
    /// Whether every unit of stock is in exactly one place, by the sale's audit; `None`: not known.
    pub conserved: Option<bool>,
    /// Whether the sale has a gate. A direct sale has none, and without a gate the audit cannot check that stock is conserved.
    #[serde(default = "yes")]
    pub has_gate: bool,
    /// Whether the sale's gate was being rebuilt when the orders were looked up.
    #[serde(default)]
    pub rebuilding: bool,
    /// The sale's audit in one word, such as `clean`; `None`: the server has none.
    pub audit_verdict: Option<String>,
    /// The findings of the sale's audit, in sentences.
    pub audit_findings: Vec<String>,
    /// From the intended start of a buyer's first request to the order's commit, by the two machines' clocks.
    pub end_to_end: Latency,
    /// From the last answer of the run until the last order was in the ledger, in seconds; `None`: not all got there.
    pub drain_seconds: Option<f64>,
    /// Whether the look-up was ended before every order was looked up. Then `lost` is not reliable.
    pub cancelled: bool,
}

/// Older reports do not have the field.
fn yes() -> bool {
    true
}

/// What became of the orders whose outcome was unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnknownReport {
    /// How many there were.
    pub orders: u64,
    pub committed: u64,
    /// Recorded by the ledger as rejected.
    pub rejected: u64,
    /// The server knows no such order.
    pub absent: u64,
    /// Not known.
    pub open: u64,
}

/// What the buyers did after the order, and where their orders have ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LifecycleReport {
    /// How long after its commit an order could be paid, in seconds.
    pub window_seconds: f64,
    /// The orders by what their buyers were to do.
    pub behaviours: Vec<BehaviourReport>,
    /// Requests after the order: looks, payments, cancellations, refunds.
    pub requests: u64,
    /// Payments, cancellations and refunds that were sent again.
    pub retries: u64,
    /// Payments, cancellations and refunds that were refused, by HTTP status and problem, such as `409 order-state`.
    pub refusals: BTreeMap<String, u64>,
    /// The money of the sale, by its audit; `None`: not known.
    pub money: Option<Money>,
    /// Units of ended orders that were not on sale again, by the sale's audit; `None`: not known.
    pub returning: Option<u64>,
    /// The bank's own account; `None`: no bank was named, or it could not be read.
    pub bank: Option<BankReport>,
    /// Whether each refund event had one effect at each of the server's own subscribers, by the server's counts; `None`: not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<Vec<EffectCheck>>,
    /// What is wrong, in sentences.
    pub findings: Vec<String>,
    /// What could not be found out, in sentences.
    pub unclear: Vec<String>,
}

/// The orders whose buyers were to do the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BehaviourReport {
    pub behaviour: Behaviour,
    /// The planned share, 0 to 1.
    pub share: f64,
    pub orders: u64,
    /// Of these, orders that have ended as paid. The same holds for the next four.
    pub paid: u64,
    pub cancelled: u64,
    pub refunded: u64,
    /// Their money waits for a human.
    pub refund_held: u64,
    /// Never reached the ledger.
    pub rejected: u64,
    /// Of these, orders that have not ended.
    pub open: u64,
    /// Of these, orders that have ended elsewhere than planned.
    pub off_plan: u64,
}

impl BehaviourReport {
    /// Without an order.
    pub fn of(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            share: 0.0,
            orders: 0,
            paid: 0,
            cancelled: 0,
            refunded: 0,
            refund_held: 0,
            rejected: 0,
            open: 0,
            off_plan: 0,
        }
    }
}

/// The charges that the bank has carried out for the orders of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BankReport {
    pub charges: u64,
    pub charged_cents: u64,
    pub refunded_cents: u64,
    /// Charges of other orders since the run began.
    pub others: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdReport {
    /// As it was given, such as `p99<200ms`.
    pub text: String,
    /// What was measured, in the threshold's unit (latency in microseconds); `None`: nothing was measured.
    pub measured: Option<f64>,
    /// Whether it was kept. Without a measurement it is not kept.
    pub kept: bool,
}

/// The verdict of a run, roughly from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every promise was kept, and every threshold.
    Pass,
    /// Every threshold was kept; the orders were not looked up.
    Unverified,
    ThresholdMissed,
    /// The run was interrupted; the numbers are of the part that ran.
    Interrupted,
    /// It is not known whether the promises were kept.
    Unclear,
    /// A promise was broken: an order lost, a unit sold twice, a buyer given two.
    Violated,
}

impl Verdict {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass | Self::Unverified => 0,
            Self::Unclear => 4,
            Self::Violated => 3,
            Self::ThresholdMissed => 99,
            Self::Interrupted => 130,
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Unverified => "unverified",
            Self::ThresholdMissed => "threshold missed",
            Self::Interrupted => "interrupted",
            Self::Unclear => "unclear",
            Self::Violated => "violated",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn a_report_reads_back_as_written() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report());
    }

    #[test]
    fn each_verdict_has_an_exit_code() {
        use Verdict::{Interrupted, Pass, ThresholdMissed, Unclear, Unverified, Violated};
        let codes =
            [Pass, Unverified, Unclear, Violated, ThresholdMissed, Interrupted].map(Verdict::exit_code);
        assert_eq!(codes, [0, 0, 4, 3, 99, 130]);
    }
}
