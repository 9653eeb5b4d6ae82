//! The status of a run, as the interface shows it. Plain data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loadtest::{Counts, Report, Samples, VerificationReport};
use serde::{Deserialize, Serialize};

use super::{Failure, LoadMode};

/// The step at which a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadState {
    /// It makes the buyers' tokens and the sale, and connects.
    Starting,
    /// It sends the requests on schedule.
    Sending,
    /// Every request is answered; accepted orders are on their way into the ledger.
    Draining,
    /// It looks the orders up.
    Verifying,
    Done,
    /// It could not be carried out, or its result is not known.
    Failed,
    Stopped,
}

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadStatus {
    pub id: String,
    pub state: LoadState,
    /// The path of its orders.
    pub mode: LoadMode,
    pub preset: String,
    /// Its highest rate, in requests a second.
    pub peak_rate: f64,
    /// Different buyers.
    pub buyers: u64,
    /// Units of its sale.
    pub stock: u64,
    /// The share of buyers, 0 to 1, that send the same request again.
    pub duplicate_share: f64,
    /// Requests sent so far.
    pub sent: u64,
    /// Requests that it will have sent at its end.
    pub planned: u64,
    /// 202: new orders.
    pub accepted: u64,
    /// 409 `sold-out`.
    pub sold_out: u64,
    /// Every other refusal, unknown outcomes, time-outs, broken connections.
    pub errors: u64,
    /// Its orders that are in the ledger so far.
    pub committed: u64,
    /// When its first request was due, or, while it is starting, when it was requested. Unix seconds.
    pub started_at: f64,
    /// When it ended, in Unix seconds; `None` while it is under way.
    pub ended_at: Option<f64>,
    /// Its verdict; `None` unless it is done.
    pub verdict: Option<LoadVerdict>,
    /// Why it failed, or which invariant was violated.
    pub message: Option<String>,
    /// Why it failed, for a page that translates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The command that does the same in a terminal.
    pub command: String,
}

impl LoadStatus {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Ends it now as one that has failed.
    pub(super) fn fail(&mut self, why: &Failure) {
        self.state = LoadState::Failed;
        self.ended_at = Some(unix_seconds(SystemTime::now()));
        self.message = Some(why.message.clone());
        self.failure = Some(why.clone());
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadVerdict {
    /// Whether every invariant held.
    pub pass: bool,
    /// Units sold above the stock.
    pub oversold: u64,
    /// Accepted orders without a final row.
    pub lost: u64,
    /// Buyers with two orders.
    pub duplicates: u64,
    /// Whether every unit of stock is in exactly one place; `None` in direct mode, which has no gate to count.
    pub conserved: Option<bool>,
    /// 202: new orders.
    pub accepted: u64,
    /// The run's orders that are in the ledger.
    pub committed: u64,
    /// Of these, orders whose buyers got an unknown answer.
    pub committed_unknown: u64,
    /// Transactions of the ledger while it lasted; `None`: not known.
    pub transactions: Option<u64>,
    /// The median latency from the intended start, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of it.
    pub p99_ms: f64,
    /// Every other refusal, unknown outcomes, time-outs, broken connections.
    pub errors: u64,
    /// The 99th percentile of the time from the intended start to the commit, in milliseconds; `None` without orders.
    pub end_to_end_p99_ms: Option<f64>,
    /// Requests sent in the busiest second.
    pub peak_arrivals: u64,
    /// Orders committed in the busiest second.
    pub peak_commits: u64,
}

impl LoadVerdict {
    /// From a report and its verification; `commits` are the orders that were committed in each second.
    pub(super) fn of(
        report: &Report,
        checked: &VerificationReport,
        commits: &[f64],
        transactions: Option<u64>,
    ) -> Self {
        let latency = report.latency.corrected.all;
        let end_to_end = checked.end_to_end;
        Self {
            pass: report.verdict == loadtest::Verdict::Pass,
            oversold: checked.oversold,
            lost: checked.lost,
            duplicates: checked.duplicates,
            conserved: checked.conserved,
            accepted: report.counts.accepted,
            committed: checked.committed + checked.unknown.committed,
            committed_unknown: checked.unknown.committed,
            transactions,
            p50_ms: ms(latency.p50_us),
            p99_ms: ms(latency.p99_us),
            errors: errors(&report.counts),
            end_to_end_p99_ms: (end_to_end.count > 0).then(|| ms(end_to_end.p99_us)),
            peak_arrivals: report.series.iter().map(|second| second.sent).max().unwrap_or_default(),
            peak_commits: commits.iter().copied().fold(0.0, f64::max).round() as u64,
        }
    }
}

/// All requests that were answered neither with an order nor with "sold out".
pub(super) fn errors(counts: &Counts) -> u64 {
    counts.ended().saturating_sub(counts.accepted + counts.replayed + counts.sold_out)
}

pub(super) fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// The orders that were committed in each of the first `seconds` seconds after `began`. The sale was empty before.
pub(super) fn commits(samples: &Samples, began: SystemTime, seconds: usize) -> Vec<f64> {
    let at = |second: usize| samples.committed_at(began + Duration::from_secs(second as u64)).unwrap_or(0.0);
    (0..seconds).map(|second| (at(second + 1) - at(second)).max(0.0)).collect()
}

/// Seconds since 1970, to the millisecond.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1_000.0
}
