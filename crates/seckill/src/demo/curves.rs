//! What a demo's chart is drawn from: totals over time, and the rates between them.

use std::time::SystemTime;

use loadtest::{Played, Sample};

/// A rate is taken over this many seconds around its column. A worker commits ten times a second, and a shorter time would
/// show the single commits.
const WINDOW: f64 = 0.4;

/// A total, or a level, at moments: seconds after the start, in the order of time.
pub(super) type Points = Vec<(f64, f64)>;

/// The run up to a moment.
#[derive(Debug, Default, Clone)]
pub(super) struct Curves {
    /// Where the time axis ends, in seconds.
    pub(super) seconds: f64,
    /// What is known ends here, in seconds.
    pub(super) known: f64,
    /// Requests sent so far.
    pub(super) sent: Points,
    /// Orders committed so far.
    pub(super) committed: Points,
    /// Orders accepted and not yet committed.
    pub(super) backlog: Points,
}

/// One value for each column of a drawing.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) arrivals: Vec<f64>,
    pub(super) commits: Vec<f64>,
    pub(super) backlog: Vec<f64>,
}

impl Curves {
    /// Those of a run that has ended.
    pub(super) fn played(played: &Played) -> Self {
        let mut curves = Self::default();
        let mut sent = 0.0;
        for bucket in &played.series {
            sent += bucket.sent as f64;
            curves.sent.push((bucket.at_ms as f64 / 1_000.0 + 0.1, sent));
        }
        curves.add_samples(&until_drained(played), played.started_at);
        let end = curves.committed.last().map_or(0.0, |point| point.0);
        curves.seconds = end.max(played.series.len() as f64 / 10.0);
        curves.known = curves.seconds;
        curves
    }

    /// Appends samples of the sale.
    pub(super) fn add_samples(&mut self, samples: &[Sample], started_at: SystemTime) {
        for sample in samples {
            let at = sample.seconds_after(started_at);
            self.committed.push((at, sample.committed as f64));
            self.backlog.push((at, sample.backlog().unwrap_or_default() as f64));
        }
    }

    /// A value for each of so many columns.
    pub(super) fn columns(&self, columns: usize) -> Columns {
        let width = self.seconds / columns as f64;
        // The highest in the column: a peak between two columns is a peak all the same.
        let level = |column: usize| {
            let (from, until) = (column as f64 * width, (column as f64 + 1.0) * width);
            let inside = self.backlog.iter().filter(|point| from < point.0 && point.0 <= until);
            let end = if until - width > self.known { 0.0 } else { interpolate(&self.backlog, until) };
            inside.map(|point| point.1).fold(end, f64::max)
        };
        Columns {
            arrivals: self.rates(&self.sent, columns, width),
            commits: self.rates(&self.committed, columns, width),
            backlog: (0..columns).map(level).collect(),
        }
    }

    /// The growth of a running total in each column, per second; 0 where it is not known yet.
    fn rates(&self, total: &Points, columns: usize, width: f64) -> Vec<f64> {
        let rate = |column: usize| {
            let middle = (column as f64 + 0.5) * width;
            let half = width.max(WINDOW) / 2.0;
            let (from, until) = ((middle - half).max(0.0), (middle + half).min(self.known));
            if middle <= self.known && until > from {
                (interpolate(total, until) - interpolate(total, from)) / (until - from)
            } else {
                0.0
            }
        };
        (0..columns).map(rate).collect()
    }
}

/// The samples up to the end of the drain: after it nothing changes any more.
fn until_drained(played: &Played) -> Vec<Sample> {
    let mut samples = played.samples.all();
    if let Some(drained_at) = played.samples.drained_at() {
        samples.retain(|sample| sample.at <= drained_at);
    }
    samples
}

/// The value at `at`, on straight lines between the points; 0 before the first.
fn interpolate(points: &Points, at: f64) -> f64 {
    let after = points.partition_point(|point| point.0 < at);
    let before = after.checked_sub(1).map_or((0.0, 0.0), |before| points[before]);
    let Some(next) = points.get(after) else { return before.1 };
    let share = if next.0 > before.0 { (at - before.0) / (next.0 - before.0) } else { 1.0 };
    before.1 + (next.1 - before.1) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_become_rates() {
        let total = vec![(0.0, 0.0), (5.0, 15.0)];
        let curves = Curves { seconds: 5.0, known: 5.0, sent: total, ..Curves::default() };
        assert!(curves.columns(10).arrivals.iter().all(|rate| (rate - 3.0).abs() < 1e-9));
        assert_eq!(interpolate(&vec![(1.0, 10.0), (2.0, 20.0)], 1.5), 15.0);
        assert_eq!(interpolate(&vec![(1.0, 10.0)], 9.0), 10.0);
    }

    #[test]
    fn what_is_not_known_yet_is_not_drawn() {
        let backlog = vec![(0.0, 0.0), (2.0, 8.0)];
        let sent = vec![(0.0, 0.0), (2.0, 20.0)];
        let curves = Curves { seconds: 10.0, known: 2.0, sent, backlog, ..Curves::default() };
        let Columns { arrivals, backlog, .. } = curves.columns(10);
        assert!(
            arrivals[..2].iter().all(|rate| *rate > 0.0) && arrivals[2..].iter().all(|rate| *rate == 0.0)
        );
        assert!(backlog[1] > 0.0 && backlog[3..].iter().all(|level| *level == 0.0), "{backlog:?}");
    }
}
