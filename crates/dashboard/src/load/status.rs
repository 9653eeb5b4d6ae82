//! A run as it looks from outside. Plain data, in the words of the interface.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loadtest::{Counts, Report, Samples, VerificationReport};
use serde::{Deserialize, Serialize};

use super::LoadMode;

/// What a run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadState {
    /// Makes its sale and its buyers' tokens, and connects.
    Starting,
    /// Requests leave on schedule.
    Sending,
    /// Everything is answered; accepted orders are on their way into the ledger.
    Draining,
    /// Orders are looked up.
    Verifying,
    /// It has its verdict.
    Done,
    /// It could not be carried out, or nobody can say how it went.
    Failed,
    /// It was told to end.
    Stopped,
}

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadStatus {
    /// Names it.
    pub id: String,
    /// What it is at.
    pub state: LoadState,
    /// The path that it is sent along.
    pub mode: LoadMode,
    /// The preset that it is made of.
    pub preset: String,
    /// Its highest rate, in requests a second.
    pub peak_rate: f64,
    /// Different buyers.
    pub buyers: u64,
    /// Requests that have left.
    pub sent: u64,
    /// Requests that are to leave.
    pub planned: u64,
    /// 202: new orders.
    pub accepted: u64,
    /// 409 `sold-out`.
    pub sold_out: u64,
    /// Every other refusal, unknown outcomes, time-outs, broken connections.
    pub errors: u64,
    /// When its first request was due; while it is starting, when it was asked for. Unix seconds.
    pub started_at: f64,
    /// When it was over, in Unix seconds; `None`: it is under way.
    pub ended_at: Option<f64>,
    /// How it went; `None` unless it is done.
    pub verdict: Option<LoadVerdict>,
    /// Why it failed, or which promise was broken.
    pub message: Option<String>,
    /// The line that does the same from a terminal.
    pub command: String,
}

impl LoadStatus {
    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended_at.is_some()
    }
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadVerdict {
    /// Whether every promise was kept.
    pub pass: bool,
    /// Units sold above the stock.
    pub oversold: u64,
    /// Promised orders without a final row.
    pub lost: u64,
    /// Buyers who were given two orders.
    pub duplicates: u64,
    /// Whether every unit of stock is in exactly one place; `None`: without a gate nobody can say.
    pub conserved: Option<bool>,
    /// 202: new orders.
    pub accepted: u64,
    /// The run's orders that are in the ledger.
    pub committed: u64,
    /// Half of the requests took no longer, from their intended start, in milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 of them took no longer.
    pub p99_ms: f64,
    /// Every other refusal, unknown outcomes, time-outs, broken connections.
    pub errors: u64,
    /// 99 of 100 accepted orders were in the ledger no later than this after their intended start; `None`: there are none.
    pub end_to_end_p99_ms: Option<f64>,
    /// Requests that left in the busiest second.
    pub peak_arrivals: u64,
    /// Orders that got into the ledger in the busiest second.
    pub peak_commits: u64,
}

impl LoadVerdict {
    /// Weighs a report that has a verification; `commits` are the orders that got into the ledger in each second.
    pub(super) fn of(report: &Report, checked: &VerificationReport, commits: &[f64]) -> Self {
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
            p50_ms: ms(latency.p50_us),
            p99_ms: ms(latency.p99_us),
            errors: errors(&report.counts),
            end_to_end_p99_ms: (end_to_end.count > 0).then(|| ms(end_to_end.p99_us)),
            peak_arrivals: report.series.iter().map(|second| second.sent).max().unwrap_or_default(),
            peak_commits: commits.iter().copied().fold(0.0, f64::max).round() as u64,
        }
    }
}

/// Answers that are no order and not sold out either, and requests without an answer.
pub(super) fn errors(counts: &Counts) -> u64 {
    counts.ended().saturating_sub(counts.accepted + counts.replayed + counts.sold_out)
}

pub(super) fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// Orders that got into the ledger in each of the first `seconds` seconds after `began`. The sale was empty before.
pub(super) fn commits(samples: &Samples, began: SystemTime, seconds: usize) -> Vec<f64> {
    let at = |second: usize| samples.committed_at(began + Duration::from_secs(second as u64)).unwrap_or(0.0);
    (0..seconds).map(|second| (at(second + 1) - at(second)).max(0.0)).collect()
}

/// In seconds since 1970, to the millisecond.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1_000.0
}
