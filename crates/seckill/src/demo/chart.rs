//! Draws the shaved peak in the terminal: arrivals and commits on one scale, the backlog below them.

use std::fmt::Write;

use console::{Style, style};
use loadtest::{Played, Sample};

/// Columns of the drawing, beside the scale.
const COLUMNS: usize = 72;
/// A rate is taken over this many seconds around its column. A worker commits ten times a second, and a shorter time would
/// show the single commits.
const WINDOW: f64 = 0.4;
/// Parts of one character cell, from empty to full.
const PARTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What is drawn: a value for each column, over one time axis.
#[derive(Debug, Default)]
pub(super) struct Series {
    seconds: f64,
    arrivals: Vec<f64>,
    commits: Vec<f64>,
    backlog: Vec<f64>,
}

impl Series {
    pub(super) fn new(played: &Played) -> Self {
        let (samples, requests) = (until_drained(played), &played.series);
        let at = |sample: &Sample| sample.seconds_after(played.started_at);
        let seconds = samples.last().map_or(0.0, at).max(requests.len() as f64 / 10.0);
        let width = seconds / COLUMNS as f64;
        let requests = |until: f64| {
            requests
                .iter()
                .map(|b| portion(b.at_ms as f64 / 1_000.0, 0.1, until) * b.sent as f64)
                .sum::<f64>()
        };
        let samples = &samples;
        let points = |value: fn(&Sample) -> u64| {
            move |until: f64| interpolate(samples.iter().map(|s| (at(s), value(s) as f64)), until)
        };
        Self {
            seconds,
            arrivals: rates(requests, width),
            commits: rates(points(|sample| sample.committed), width),
            backlog: (1..=COLUMNS)
                .map(|column| points(|sample| sample.backlog().unwrap_or_default())(column as f64 * width))
                .collect(),
        }
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

/// The share of a step of `length` from `start` that lies before `until`.
fn portion(start: f64, length: f64, until: f64) -> f64 {
    ((until - start) / length).clamp(0.0, 1.0)
}

/// The value at `at`, on straight lines between the points; 0 before the first.
fn interpolate(points: impl Iterator<Item = (f64, f64)>, at: f64) -> f64 {
    let mut before = (0.0, 0.0);
    for point in points {
        if point.0 >= at {
            let share = if point.0 > before.0 { (at - before.0) / (point.0 - before.0) } else { 1.0 };
            return before.1 + (point.1 - before.1) * share;
        }
        before = point;
    }
    before.1
}

/// The growth of a running total in each column, per second.
fn rates(total: impl Fn(f64) -> f64, width: f64) -> Vec<f64> {
    let end = COLUMNS as f64 * width;
    let rate = |column: usize| {
        let middle = (column as f64 + 0.5) * width;
        let half = width.max(WINDOW) / 2.0;
        let (from, until) = ((middle - half).max(0.0), (middle + half).min(end));
        if until > from { (total(until) - total(from)) / (until - from) } else { 0.0 }
    };
    (0..COLUMNS).map(rate).collect()
}

/// The drawing, of about 20 lines.
pub(super) fn draw(series: &Series, drain_rate: Option<u32>) -> String {
    let max = |values: &[f64]| values.iter().copied().fold(1.0, f64::max);
    let rate = max(&series.arrivals).max(max(&series.commits));
    let mut out = String::new();
    let drained = drain_rate.map_or_else(String::new, |rate| format!(", drain rate {rate}"));
    bars(&mut out, "arrivals, requests/s", &series.arrivals, rate, 7, &Style::new().yellow());
    bars(
        &mut out,
        &format!("commits, orders/s{drained}; same scale"),
        &series.commits,
        rate,
        7,
        &Style::new().green(),
    );
    bars(
        &mut out,
        "backlog, orders accepted and not yet committed",
        &series.backlog,
        max(&series.backlog),
        4,
        &Style::new().cyan(),
    );
    let end = format!("{:.1} s", series.seconds);
    let _ = writeln!(out, "{:>9} {:<w$}{end}", "", "0 s", w = COLUMNS - end.len());
    out
}

fn bars(out: &mut String, title: &str, values: &[f64], max: f64, rows: usize, colour: &Style) {
    let _ = writeln!(out, "{:>9} {}", "", style(title).bold());
    for row in (0..rows).rev() {
        let scale = if row + 1 == rows { format!("{max:.0}") } else { String::new() };
        let cell = |value: &f64| {
            let parts = value / max * rows as f64 * 8.0 - row as f64 * 8.0;
            // Every value above 0 is drawn, however small it is.
            let least = if row == 0 && *value > 0.0 { 1.0 } else { 0.0 };
            PARTS[parts.round().clamp(least, 8.0) as usize]
        };
        let cells: String = values.iter().map(cell).collect();
        let _ = writeln!(out, "{scale:>8} ▏{}", colour.apply_to(cells.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_at_half_the_scale_fills_half_the_rows() {
        let mut out = String::new();
        bars(&mut out, "t", &[5.0, 10.0, 0.0, 0.1], 10.0, 2, &Style::new());
        let rows: Vec<_> = out.lines().skip(1).map(|line| line.split('▏').nth(1).unwrap()).collect();
        assert_eq!(rows, [" █", "██ ▁"]);
    }

    #[test]
    fn totals_become_rates() {
        let total = |until: f64| until * 3.0;
        assert!(rates(total, 0.5).iter().all(|rate| (rate - 3.0).abs() < 1e-9));
        assert_eq!(interpolate([(1.0, 10.0), (2.0, 20.0)].into_iter(), 1.5), 15.0);
        assert_eq!(interpolate([(1.0, 10.0)].into_iter(), 9.0), 10.0);
    }
}
