//! What the charts show: the report's seconds as columns of numbers. Draws nothing.

use serde::Serialize;

use crate::report::schema::{Report, Second};

/// The columns of the charts, one entry a second; `None` leaves a gap.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Charts {
    /// When each second begins, in seconds from the start of the run.
    start: Vec<f64>,
    /// Requests that were meant to leave in it.
    due: Vec<u64>,
    /// Requests that left in it.
    sent: Vec<u64>,
    /// Orders that reached the ledger in it.
    commits: Vec<Option<f64>>,
    /// Orders between the gate and the ledger at its end.
    backlog: Vec<Option<u64>>,
    /// Latency from the intended start, in milliseconds.
    p50_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
}

impl Charts {
    pub(super) fn of(report: &Report) -> Self {
        let series = &report.series;
        let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
        Self {
            start: series.iter().map(|second| second.at_ms as f64 / 1e3).collect(),
            due: series.iter().map(|second| second.due).collect(),
            sent: series.iter().map(|second| second.sent).collect(),
            commits: commits(report),
            backlog: series.iter().map(|second| second.backlog).collect(),
            p50_ms: series.iter().map(|second| ms(second.p50_us)).collect(),
            p99_ms: series.iter().map(|second| ms(second.p99_us)).collect(),
        }
    }
}

/// Orders that reached the ledger in each second. Where the server did not say for some seconds how many there were, what
/// came meanwhile is spread evenly over them; before the first time it said, only a sale made for the run is known to
/// have had none.
pub(super) fn commits(report: &Report) -> Vec<Option<f64>> {
    let mut commits = vec![None; report.series.len()];
    let mut before: Option<(usize, u64)> = report.sale.created.then_some((0, 0));
    for (at, second) in report.series.iter().enumerate() {
        let Some(now) = second.committed else { continue };
        if let Some((from, then)) = before {
            let each = now.saturating_sub(then) as f64 / (at + 1 - from) as f64;
            commits[from..=at].fill(Some(each));
        }
        before = Some((at + 1, now));
    }
    commits
}

/// The most requests that left in one second.
pub(super) fn peak(series: &[Second]) -> u64 {
    series.iter().map(|second| second.sent).max().unwrap_or_default()
}

/// The most orders that reached the ledger in one second; `None`: nobody said.
pub(super) fn peak_commits(report: &Report) -> Option<f64> {
    commits(report).into_iter().flatten().max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    fn run(created: bool, committed: &[Option<u64>]) -> Report {
        let mut report = report();
        report.sale.created = created;
        report.series =
            committed.iter().map(|&committed| Second { committed, ..Second::default() }).collect();
        report
    }

    #[test]
    fn commits_are_what_the_ledger_grew_by() {
        let report = run(true, &[Some(10), Some(30), Some(30)]);
        assert_eq!(commits(&report), [Some(10.0), Some(20.0), Some(0.0)]);
        assert_eq!(peak_commits(&report), Some(20.0));
    }

    #[test]
    fn what_came_in_a_gap_is_spread_over_it() {
        let report = run(true, &[Some(10), None, None, Some(40), None]);
        assert_eq!(commits(&report), [Some(10.0), Some(10.0), Some(10.0), Some(10.0), None]);
    }

    #[test]
    fn the_first_count_of_an_older_sale_says_nothing_of_the_run() {
        assert_eq!(commits(&run(false, &[Some(500), Some(510)])), [None, Some(10.0)]);
        assert_eq!(commits(&run(false, &[None, None])), [None, None]);
        assert_eq!(peak_commits(&run(false, &[Some(500)])), None);
    }
}
