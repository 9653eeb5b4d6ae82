//! The five minutes of numbers behind the page's curves: one row four times a second.

use std::collections::VecDeque;

use seckill_core::Histogram;

use crate::process::{COUNTED, Counts, IN_ROWS, Process, mean, merge, quantile};
use crate::scrape::{ACCEPT_SECONDS, COMMIT_SECONDS};
use crate::watch::SaleView;

/// Rows that are kept: five minutes.
const KEPT: usize = 1_200;
/// The columns before and after those of [`COUNTED`].
const BEFORE: [&str; 2] = ["t", "sale"];
const AFTER: [&str; 12] = [
    "accept_p50",
    "accept_p99",
    "commit_ms",
    "batch",
    "intake_batch",
    "drain_rate",
    "backlog",
    "pending",
    "remaining",
    "sold",
    "direct_arrivals",
    "direct_committed",
];

/// The names of a row's numbers, in their order.
pub(crate) fn columns() -> Vec<&'static str> {
    [&BEFORE[..], &COUNTED[..IN_ROWS], &AFTER[..]].concat()
}

/// One row. A number that is not known is NaN.
#[derive(Debug, Clone)]
pub(crate) struct Row(Vec<f64>);

impl Row {
    /// The row at `t`, in seconds since 1970.
    pub(crate) fn of<'a>(
        t: f64,
        processes: &(impl Iterator<Item = &'a Process> + Clone),
        sale: Option<&SaleView>,
    ) -> Self {
        let mut rates = Counts::default();
        for process in processes.clone() {
            rates.add(&process.rates());
        }
        let all = |name: &str| {
            let mut sum = Histogram::default();
            processes.clone().for_each(|process| merge(&mut sum, &process.recent(name)));
            sum
        };
        let (accept, commit) = (all(ACCEPT_SECONDS), all(COMMIT_SECONDS));
        let direct = processes.clone().find_map(Process::direct_rates);
        let milliseconds = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1_000.0);
        let after = [
            milliseconds(quantile(&accept, 0.5)),
            milliseconds(quantile(&accept, 0.99)),
            milliseconds(mean(&commit)),
            mean(&all("seckill_commit_batch_orders")),
            mean(&all("seckill_intake_batch_orders")),
            drain_rate(processes.clone()),
            sale.and_then(SaleView::backlog).map(|orders| orders as f64),
            sale.and_then(|sale| sale.pending_orders).map(|orders| orders as f64),
            sale.and_then(|sale| sale.remaining).map(f64::from),
            sale.map(|sale| f64::from(sale.sold)),
            direct.map(|(arrivals, _)| arrivals),
            direct.map(|(_, committed)| committed),
        ];
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let mut row = vec![t, known(sale.map(|sale| sale.id.0 as f64))];
        row.extend(&rates.0[..IN_ROWS]);
        row.extend(after.map(known));
        Self(row)
    }

    /// As JSON: whole numbers without a fraction, others with three digits, unknown ones as `null`.
    pub(crate) fn json(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 6);
        for (at, value) in self.0.iter().enumerate() {
            text.push(if at == 0 { '[' } else { ',' });
            if !value.is_finite() {
                text.push_str("null");
            } else if value.fract() == 0.0 {
                text.push_str(&format!("{value:.0}"));
            } else {
                text.push_str(&format!("{value:.3}"));
            }
        }
        text.push(']');
        text
    }
}

/// Orders a second that all workers together may write; `None`: one of them has no limit.
fn drain_rate<'a>(processes: impl Iterator<Item = &'a Process>) -> Option<f64> {
    use seckill_core::DrainRate::{Auto, Paused, PerSecond, Unlimited};
    let rates = processes.filter_map(|process| process.last().drain_rate).map(|rate| match rate {
        Unlimited => f64::INFINITY,
        PerSecond(rate) => f64::from(rate.get()),
        // What is in force is a number.
        Paused | Auto => 0.0,
    });
    // Not `sum`: without workers it gives -0.
    Some(rates.fold(0.0, |sum: f64, rate| sum + rate)).filter(|sum| sum.is_finite())
}

/// The rows of the last five minutes. They are numbered from the first row on.
#[derive(Default)]
pub(crate) struct Rows {
    kept: VecDeque<String>,
    /// The number of the next row.
    next: u64,
}

impl Rows {
    /// Adds a row; returns its number.
    pub(crate) fn push(&mut self, row: &Row) -> u64 {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(row.json());
        self.next += 1;
        self.next - 1
    }

    /// The number of the next row.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The rows from number `from` on, as a JSON list; `None` if some of them are no longer kept, or `from` is after the next row.
    pub(crate) fn since(&self, from: u64) -> Option<String> {
        let first = self.next - self.kept.len() as u64;
        let skip = usize::try_from(from.checked_sub(first)?).ok().filter(|skip| *skip <= self.kept.len())?;
        Some(list(self.kept.iter().skip(skip)))
    }

    /// All rows, as a JSON list.
    pub(crate) fn all(&self) -> String {
        list(self.kept.iter())
    }
}

fn list<'a>(rows: impl Iterator<Item = &'a String>) -> String {
    let rows: Vec<&str> = rows.map(String::as_str).collect();
    format!("[{}]", rows.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_number_or_null_for_every_column() {
        let row = Row::of(1.25, &std::iter::empty(), None).json();
        let row: Vec<Option<f64>> = serde_json::from_str(&row).unwrap();
        assert_eq!(row.len(), columns().len());
        assert_eq!(row[..3], [Some(1.25), None, Some(0.0)]);
    }

    #[test]
    fn rows_are_kept_for_five_minutes_and_listed_from_any_of_them_on() {
        let mut rows = Rows::default();
        for t in 0..1_500 {
            assert_eq!(rows.push(&Row::of(f64::from(t), &std::iter::empty(), None)), t as u64);
        }
        let count = |text: String| serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap().len();
        assert_eq!(count(rows.all()), KEPT);
        assert_eq!(rows.since(1_498).map(count), Some(2));
        assert_eq!(rows.since(1_500).map(count), Some(0));
        assert!(rows.since(299).is_none() && rows.since(1_501).is_none());
    }
}
