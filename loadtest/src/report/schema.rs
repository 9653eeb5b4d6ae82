//! The report: everything worth knowing about a run, as `--json` writes it and the page, the comparison and the
//! thresholds read it. Plain data; measures, weighs and draws nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::send::latency::Latency;
use crate::send::progress::Counts;

/// The version of the report's form. It changes when a field is renamed, removed or given another meaning; a new field
/// does not change it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything worth knowing about a run. Times from the start of the run are from the moment at which the schedule begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// That program's version.
    pub tool_version: String,
    /// The base address that the requests went to.
    pub target: String,
    /// What was on sale.
    pub sale: SaleReport,
    /// What was meant to be sent.
    pub plan: PlanReport,
    /// When the schedule began: RFC 3339, UTC, milliseconds.
    pub started_at: String,
    /// From the start until the last answer, in seconds; the drain is not part of it.
    pub duration_seconds: f64,
    /// How the requests ended, those of the warm-up too.
    pub counts: Counts,
    /// Requests by HTTP status and problem, such as `403 not-open`: of what `counts` calls refused or malformed.
    pub refusals: BTreeMap<String, u64>,
    /// What went wrong with the first connection that failed.
    pub connection_error: Option<String>,
    /// Means over the run, the warm-up left out.
    pub rates: RatesReport,
    /// How long answers took, the warm-up left out.
    pub latency: LatencyReport,
    /// The run and the drain, second by second.
    pub series: Vec<Second>,
    /// How the load generator itself fared.
    pub generator: GeneratorReport,
    /// What became of the orders; `None`: it was not asked for, or the run was interrupted before.
    pub verification: Option<VerificationReport>,
    /// Every threshold that was set.
    pub thresholds: Vec<ThresholdReport>,
    /// All of it in one word.
    pub verdict: Verdict,
    /// Why the verdict is what it is, in sentences; empty when it is [`Verdict::Pass`].
    pub reasons: Vec<String>,
}

/// The sale that was bought from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleReport {
    /// Its id.
    pub id: u64,
    /// Units on sale; `None` when the server did not say.
    pub stock: Option<u64>,
    /// Whether it was made for this run.
    pub created: bool,
}

/// How requests are let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// On a schedule, whether or not earlier ones were answered.
    Open,
    /// On each connection as soon as the one before was answered.
    Closed,
}

/// What was meant to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// The preset's name, or the scenario file's; `None` for a plan made of flags alone.
    pub scenario: Option<String>,
    /// How requests are let go.
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
    /// Decides who the buyers are, which of them send again, and which are bots.
    pub seed: u64,
    /// Requests that every buyer sends at once.
    pub copies: u32,
    /// The share of buyers that sends the same request again shortly after.
    pub retry_ratio: f64,
    /// The share of buyers that hammers.
    pub bots: f64,
    /// Requests of one bot.
    pub bot_requests: u32,
    /// Units that every buyer wants.
    pub quantity: u32,
    /// Connections at the start.
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
    /// How long it takes; 0 for a jump.
    pub seconds: f64,
    /// The rate at its end, in buyers a second.
    pub rate: f64,
}

/// Means over the run, the warm-up left out, each a second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RatesReport {
    /// Requests that left.
    pub sent: f64,
    /// Requests that came to any end.
    pub answered: f64,
    /// 202.
    pub accepted: f64,
}

/// How long answers took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// From the intended start: what buyers waited. A server that stalls cannot hide here (no coordinated omission).
    pub corrected: Latencies,
    /// From the actual send: what the server took. Where this is much less, requests had to wait to be sent.
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
    /// Requests that were meant to leave in it.
    pub due: u64,
    /// Requests that left in it.
    pub sent: u64,
    /// 202 that came in it.
    pub accepted: u64,
    /// 200, the same order again, that came in it.
    pub replayed: u64,
    /// 409 `sold-out` that came in it.
    pub sold_out: u64,
    /// Everything else that came in it: refusals, unknown outcomes, time-outs, broken connections.
    pub errors: u64,
    /// Half of the requests meant to leave in it took no longer, from the intended start, in microseconds; `None`: there
    /// were none.
    pub p50_us: Option<u64>,
    /// 99 of 100 of them took no longer.
    pub p99_us: Option<u64>,
    /// Orders of the sale in the ledger at its end; `None`: not known.
    pub committed: Option<u64>,
    /// Orders between the gate and the ledger at its end; `None`: not known.
    pub backlog: Option<u64>,
    /// Units that the gate has not set aside at its end; `None`: not known.
    pub remaining: Option<u64>,
}

/// How the load generator itself fared.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// CPU time that it used while it sent, as a share of one core: 1.5 is one core and a half; `None`: the system does
    /// not say.
    pub cpu_share: Option<f64>,
    /// Whether more than 1 % of the requests left late, so that the load was not the one that was asked for.
    pub saturated: bool,
    /// Requests that left late.
    pub late: u64,
    /// Their share of all that left, 0 to 1.
    pub late_share: f64,
    /// A request that left more than this after its time counts as late, in milliseconds.
    pub late_after_ms: f64,
    /// From the intended start until leaving: how far requests were behind.
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
    /// Orders promised: different ids answered with 202, or with 200 for a first promise that got lost on its way.
    pub promised: u64,
    /// Of these, orders in the ledger.
    pub committed: u64,
    /// Of these, orders that the ledger has recorded as rejected.
    pub rejected: u64,
    /// Of these, orders without a final row that nothing accounts for any more: promised and not kept.
    pub lost: u64,
    /// Of these, orders without a final row that may still get one: the audit has them in flight, or the gate is rebuilt.
    #[serde(default)]
    pub in_flight: u64,
    /// Of these, orders of which the server did not say what became of them.
    pub unclear: u64,
    /// What became of the orders whose outcome was unknown (503 `outcome-unknown`) and never told later.
    pub unknown: UnknownReport,
    /// Units sold above the stock.
    pub oversold: u64,
    /// Buyers who were given two orders, by the answers or by the ledger.
    pub duplicates: u64,
    /// Whether every unit of stock is in exactly one place, as the sale's audit says; `None`: the audit did not say.
    pub conserved: Option<bool>,
    /// Whether the sale has a gate, without which the audit cannot say whether stock is conserved. A direct sale has none.
    #[serde(default = "yes")]
    pub has_gate: bool,
    /// Whether the sale's gate was being rebuilt when the orders were looked up.
    #[serde(default)]
    pub rebuilding: bool,
    /// The sale's audit in one word, such as `clean`; `None`: the server has none.
    pub audit_verdict: Option<String>,
    /// What the sale's audit found wrong, in sentences.
    pub audit_findings: Vec<String>,
    /// From the intended start of a buyer's first request to the order's commit, by the two machines' clocks.
    pub end_to_end: Latency,
    /// From the last answer of the run until the last order was in the ledger, in seconds; `None`: it did not get there.
    pub drain_seconds: Option<f64>,
    /// Whether it was ended before every order was looked up, so that `lost` proves nothing.
    pub cancelled: bool,
}

/// Reports of before sales without a gate were told apart do not have the field.
fn yes() -> bool {
    true
}

/// What became of the orders whose outcome was unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnknownReport {
    /// How many there were.
    pub orders: u64,
    /// In the ledger.
    pub committed: u64,
    /// Recorded by the ledger as rejected.
    pub rejected: u64,
    /// They never came to be.
    pub absent: u64,
    /// Still not told.
    pub open: u64,
}

/// One threshold and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThresholdReport {
    /// As it was given, such as `p99<200ms`.
    pub text: String,
    /// What was measured, in the threshold's unit (latency in microseconds); `None`: nothing was measured.
    pub measured: Option<f64>,
    /// Whether it was kept; one of which nothing was measured is not.
    pub kept: bool,
}

/// A run in one word, from best to worst as far as they can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every promise was kept, and every threshold.
    Pass,
    /// Every threshold was kept; whether the promises were was not asked.
    Unverified,
    /// A threshold was missed.
    ThresholdMissed,
    /// The run was interrupted; the numbers are of what it had.
    Interrupted,
    /// Whether the promises were kept could not be found out.
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
    fn a_verdict_has_its_exit_code() {
        use Verdict::{Interrupted, Pass, ThresholdMissed, Unclear, Unverified, Violated};
        let codes =
            [Pass, Unverified, Unclear, Violated, ThresholdMissed, Interrupted].map(Verdict::exit_code);
        assert_eq!(codes, [0, 0, 4, 3, 99, 130]);
    }
}
