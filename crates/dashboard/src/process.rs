//! One process as its snapshots describe it: its rates over the last second, and its latest state.

use std::collections::VecDeque;
use std::time::Duration;

use seckill_core::{DrainRate, Histogram, Readiness, Snapshot};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::scrape::COMMIT_SECONDS;

/// The time over which rates are taken.
const WINDOW_MS: u64 = 1_000;
/// A process that has sent no snapshot for so long is gone.
pub(crate) const GONE: Duration = Duration::from_millis(2_000);
/// After so long without a snapshot the rates of a process are shown as 0.
const SILENT: Duration = Duration::from_millis(700);

/// The names of the counts, in the order of [`Counts`]. The first [`IN_ROWS`] of them are columns of a row, too.
pub(crate) const COUNTED: [&str; 16] = [
    "arrivals",
    "accepted",
    "replayed",
    "sold_out",
    "refused",
    "unknown",
    "committed",
    "rejected",
    "redelivered",
    "paid",
    "expired",
    "cancelled",
    "refunded",
    "refunds_denied",
    "repeated_events",
    "transactions",
];
pub(crate) const IN_ROWS: usize = 9;

/// A number for each of [`COUNTED`]: a total, or a rate a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Counts(pub(crate) [f64; COUNTED.len()]);

impl Counts {
    pub(crate) const COMMITTED: usize = 6;
    pub(crate) const TRANSACTIONS: usize = 15;

    /// The totals of a process since it started.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut counts = Self::default();
        counts.0[Self::TRANSACTIONS] =
            snapshot.histograms.get(COMMIT_SECONDS).map_or(0.0, |commits| commits.count);
        for (key, value) in &snapshot.series {
            let (name, labels) = key.split_once('{').unwrap_or((key, ""));
            let at = match name {
                "seckill_order_requests_total" => 0,
                "seckill_claims_total" => match labels {
                    "outcome=\"accepted\"}" => 1,
                    "outcome=\"replayed\"}" => 2,
                    "outcome=\"sold-out\"}" => 3,
                    "outcome=\"outcome-unknown\"}" => 5,
                    _ => 4,
                },
                "seckill_orders_committed_total" => Self::COMMITTED,
                "seckill_orders_rejected_total" => 7,
                "seckill_orders_redelivered_total" => 8,
                "seckill_payments_total" if labels == "outcome=\"paid\"}" => 9,
                "seckill_orders_cancelled_total" if labels == "reason=\"expired\"}" => 10,
                "seckill_orders_cancelled_total" => 11,
                "seckill_refunds_total" => 12,
                "seckill_refunds_denied_total" => 13,
                "seckill_events_taken_total" if labels.contains("outcome=\"repeated\"") => 14,
                _ => continue,
            };
            counts.0[at] += value;
        }
        counts
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    fn since(&self, earlier: &Self, seconds: f64) -> Self {
        let mut rates = *self;
        rates.0.iter_mut().zip(earlier.0).for_each(|(now, then)| *now = (*now - then).max(0.0) / seconds);
        rates
    }
}

/// A snapshot, and the counts in it.
struct Sample {
    counts: Counts,
    snapshot: Snapshot,
}

/// One process, by the snapshots of its last second.
pub(crate) struct Process {
    /// Oldest first, never empty. The first is at least a second older than the last, once there is one so old.
    samples: VecDeque<Sample>,
    received_at: Instant,
    /// Messages that it had parked before it was first heard of.
    parked_before: f64,
}

impl Process {
    pub(crate) fn new(first: Snapshot) -> Self {
        let mut samples = VecDeque::with_capacity(6);
        let parked_before = parked(&first);
        samples.push_back(Sample { counts: Counts::of(&first), snapshot: first });
        Self { samples, received_at: Instant::now(), parked_before }
    }

    pub(crate) fn push(&mut self, snapshot: Snapshot) {
        // The own gateway's comes twice: straight from it, and over the control plane.
        if snapshot.uptime_ms <= self.last().uptime_ms {
            return;
        }
        self.received_at = Instant::now();
        self.samples.push_back(Sample { counts: Counts::of(&snapshot), snapshot });
        let newest = self.last().uptime_ms;
        while self.samples.get(1).is_some_and(|second| second.snapshot.uptime_ms + WINDOW_MS <= newest) {
            self.samples.pop_front();
        }
    }

    pub(crate) fn last(&self) -> &Snapshot {
        &self.samples.back().expect("there is one from the start, and one is always kept").snapshot
    }

    /// Whether its latest snapshot is too old for its rates to hold.
    pub(crate) fn is_silent(&self) -> bool {
        self.received_at.elapsed() > SILENT
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.received_at.elapsed() > GONE
    }

    /// The totals since it started.
    pub(crate) fn counts(&self) -> Counts {
        self.samples.back().map(|sample| sample.counts).unwrap_or_default()
    }

    /// The rates a second, over the last second.
    pub(crate) fn rates(&self) -> Counts {
        let (first, last) = (&self.samples[0], &self.samples[self.samples.len() - 1]);
        let milliseconds = last.snapshot.uptime_ms.saturating_sub(first.snapshot.uptime_ms);
        if milliseconds == 0 || self.is_silent() {
            return Counts::default();
        }
        last.counts.since(&first.counts, milliseconds as f64 / 1_000.0)
    }

    /// Requests and commits a second of the direct run that is under way inside it, over the last second.
    pub(crate) fn direct_rates(&self) -> Option<(f64, f64)> {
        let direct = |sample: &Sample| sample.snapshot.load.clone().filter(|load| load["mode"] == "direct");
        let last = self.samples.back()?;
        let now = direct(last).filter(|load| load["ended_at"].is_null() && !self.is_silent())?;
        let of_this_run = |sample: &&Sample| direct(sample).is_some_and(|load| load["id"] == now["id"]);
        let first = self.samples.iter().find(of_this_run)?;
        let then = direct(first)?;
        let seconds = last.snapshot.uptime_ms.saturating_sub(first.snapshot.uptime_ms) as f64 / 1_000.0;
        let count = |load: &Value, name: &str| load[name].as_f64().unwrap_or_default();
        let rate = |name| (count(&now, name) - count(&then, name)).max(0.0) / seconds;
        (seconds > 0.0).then(|| (rate("sent"), rate("committed")))
    }

    /// The values that a histogram counted in the last second.
    pub(crate) fn recent(&self, name: &str) -> Histogram {
        let find = |sample: &Sample| sample.snapshot.histograms.get(name).cloned().unwrap_or_default();
        let (first, mut last) = (find(&self.samples[0]), find(&self.samples[self.samples.len() - 1]));
        if self.samples.len() < 2 || self.is_silent() {
            return Histogram::default();
        }
        for (bound, count) in &mut last.buckets {
            let before = first.buckets.iter().find(|(known, _)| known == bound);
            *count -= before.map_or(0.0, |(_, count)| *count);
        }
        last.sum -= first.sum;
        last.count -= first.count;
        last
    }

    /// Orders that its worker holds; `None` where there is no worker.
    pub(crate) fn held_orders(&self) -> Option<u64> {
        let last = self.last();
        last.drain_rate.map(|_| last.series.get("seckill_held_orders").map_or(0.0, |held| *held) as u64)
    }

    /// Messages that it has parked since it was first heard of.
    pub(crate) fn parked(&self) -> f64 {
        (parked(self.last()) - self.parked_before).max(0.0)
    }

    pub(crate) fn view(&self) -> ProcessView {
        let last = self.last();
        ProcessView {
            id: last.process.to_string(),
            name: last.name.clone(),
            roles: last.roles.clone(),
            age_ms: u64::try_from(self.received_at.elapsed().as_millis()).unwrap_or(u64::MAX),
            uptime_seconds: last.uptime_ms / 1_000,
            drain_rate: last.drain_rate,
            drain_told: last.drain_told,
            held_orders: self.held_orders(),
            settings_revision: last.settings_revision,
            faults: last.faults.clone(),
            readiness: last.readiness.clone(),
        }
    }
}

fn parked(snapshot: &Snapshot) -> f64 {
    snapshot.series.get("seckill_parked_messages_total").copied().unwrap_or_default()
}

/// A process as the page shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProcessView {
    id: String,
    name: String,
    roles: Vec<seckill_core::Role>,
    age_ms: u64,
    uptime_seconds: u64,
    drain_rate: Option<DrainRate>,
    drain_told: Option<DrainRate>,
    held_orders: Option<u64>,
    settings_revision: u64,
    faults: Vec<seckill_core::FaultKind>,
    readiness: Option<Readiness>,
}

/// Adds `more` to `sum`.
pub(crate) fn merge(sum: &mut Histogram, more: &Histogram) {
    for (bound, count) in &more.buckets {
        match sum.buckets.iter_mut().find(|(known, _)| known == bound) {
            Some((_, known)) => *known += count,
            None => sum.buckets.push((*bound, *count)),
        }
    }
    sum.sum += more.sum;
    sum.count += more.count;
}

/// The quantile of a histogram, 0 to 1, on a straight line within its bucket, as Prometheus's `histogram_quantile` computes
/// it; `None` without values.
pub(crate) fn quantile(histogram: &Histogram, quantile: f64) -> Option<f64> {
    if histogram.count <= 0.0 {
        return None;
    }
    let rank = quantile * histogram.count;
    let (mut lower, mut below) = (0.0, 0.0);
    for &(upper, count) in &histogram.buckets {
        if count >= rank {
            let share = if count > below { (rank - below) / (count - below) } else { 1.0 };
            return Some(lower + (upper - lower) * share);
        }
        (lower, below) = (upper, count);
    }
    Some(lower)
}

/// The mean of all values; `None` without values.
pub(crate) fn mean(histogram: &Histogram) -> Option<f64> {
    (histogram.count > 0.0).then(|| histogram.sum / histogram.count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seckill_core::{ProcessId, Role};

    use super::*;
    use crate::scrape::scrape;

    fn snapshot(uptime_ms: u64, accepted: f64) -> Snapshot {
        Snapshot {
            process: ProcessId::generate(),
            name: "gateway".to_owned(),
            roles: vec![Role::Gateway],
            uptime_ms,
            series: BTreeMap::from([(r#"seckill_claims_total{outcome="accepted"}"#.to_owned(), accepted)]),
            histograms: BTreeMap::new(),
            drain_rate: None,
            drain_told: None,
            settings_revision: 0,
            faults: vec![],
            load: None,
            readiness: None,
        }
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let mut process = Process::new(snapshot(0, 0.0));
        assert_eq!(process.rates(), Counts::default());
        for quarter in 1..=20 {
            process.push(snapshot(quarter * 250, 100.0 * quarter as f64));
        }
        assert_eq!(process.rates().0[..2], [0.0, 400.0], "an answer is no arrival");
        assert_eq!(process.samples.len(), 5);
    }

    #[test]
    fn what_was_parked_before_a_process_is_heard_of_is_no_news() {
        let with_parked = |uptime_ms, parked| {
            let series = BTreeMap::from([("seckill_parked_messages_total".to_owned(), parked)]);
            Snapshot { series, ..snapshot(uptime_ms, 0.0) }
        };
        let mut process = Process::new(with_parked(9_000, 4.0));
        let mut news = crate::news::News::default();
        assert!(news.of_parked(process.parked()).is_none());
        process.push(with_parked(9_250, 6.0));
        assert!(news.of_parked(process.parked()).is_some());
        assert!(news.of_parked(process.parked()).is_none());
    }

    #[test]
    fn the_rates_of_a_direct_run_are_those_of_the_last_second_while_it_lasts() {
        let at = |uptime_ms, sent, ended: Option<f64>| {
            let load = serde_json::json!({"id": "1", "mode": "direct", "sent": sent, "committed": sent / 2, "ended_at": ended});
            Snapshot { load: Some(load), ..snapshot(uptime_ms, 0.0) }
        };
        let mut process = Process::new(snapshot(0, 0.0));
        assert_eq!(process.direct_rates(), None);
        for quarter in 1..=8 {
            process.push(at(quarter * 250, quarter * 100, None));
        }
        assert_eq!(process.direct_rates(), Some((400.0, 200.0)));
        process.push(at(2_250, 900, Some(1.0)));
        assert_eq!(process.direct_rates(), None, "it has ended");
    }

    #[test]
    fn what_becomes_of_orders_is_counted() {
        let series = [
            (r#"seckill_payments_total{outcome="paid"}"#, 5.0),
            (r#"seckill_payments_total{outcome="declined"}"#, 2.0),
            (r#"seckill_orders_cancelled_total{reason="expired"}"#, 3.0),
            (r#"seckill_orders_cancelled_total{reason="buyer"}"#, 1.0),
            ("seckill_refunds_total", 4.0),
            ("seckill_refunds_denied_total", 6.0),
            (r#"seckill_events_taken_total{subscriber="funnel",outcome="taken"}"#, 100.0),
            (r#"seckill_events_taken_total{subscriber="funnel",outcome="repeated"}"#, 7.0),
            (r#"seckill_events_taken_total{subscriber="loyalty",outcome="repeated"}"#, 1.0),
        ];
        // As they come from a process, so that none is left out on the way.
        let exposition: String = series.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        let (series, _) = scrape(&exposition);
        let counts = Counts::of(&Snapshot { series, ..snapshot(0, 0.0) });
        let after =
            ["paid", "expired", "cancelled", "refunded", "refunds_denied", "repeated_events", "transactions"];
        assert_eq!(COUNTED[IN_ROWS..], after);
        assert_eq!(counts.0[IN_ROWS..], [5.0, 3.0, 1.0, 4.0, 6.0, 8.0, 0.0]);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram =
            Histogram { buckets: vec![(1.0, 50.0), (2.0, 90.0), (5.0, 99.0)], sum: 150.0, count: 100.0 };
        assert_eq!(quantile(&histogram, 0.5), Some(1.0));
        assert_eq!(quantile(&histogram, 0.7), Some(1.5));
        assert_eq!(quantile(&histogram, 0.995), Some(5.0), "the histogram has no bound above the last one");
        assert_eq!(quantile(&Histogram::default(), 0.5), None);
        assert_eq!(mean(&histogram), Some(1.5));
    }
}
