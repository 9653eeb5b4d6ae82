//! The curve of a direct run, which the page draws behind a run through the queue.

use loadtest::Report;
use serde::{Deserialize, Serialize};

use super::LoadVerdict;
use super::status::ms;

/// A direct run, second by second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ghost {
    /// The names of a row's numbers.
    pub columns: [String; 5],
    /// One row for each second: the second, counted from the start of the run; requests sent; orders committed; the 99th
    /// percentile of the latency in milliseconds, `None` where no request was due; errors.
    pub rows: Vec<[Option<f64>; 5]>,
    /// How the run went.
    pub verdict: LoadVerdict,
    /// When its first request was due, in Unix seconds.
    pub started_at: f64,
}

impl Ghost {
    /// From the report of a run; `commits` are the orders that were committed in each second.
    pub(super) fn of(report: &Report, commits: &[f64], verdict: LoadVerdict, started_at: f64) -> Self {
        let row = |(at, second): (usize, &loadtest::Second)| {
            let committed = commits.get(at).map_or(0.0, |commits| commits.round());
            let (sent, errors) = (second.sent as f64, second.errors as f64);
            [Some(at as f64), Some(sent), Some(committed), second.p99_us.map(ms), Some(errors)]
        };
        let rows = report.series.iter().enumerate().map(row).collect();
        let columns = ["second", "arrivals", "committed", "p99_ms", "errors"].map(str::to_owned);
        Self { columns, rows, verdict, started_at }
    }
}
