//! One process as its snapshots show it: what it did within the last second, and how it is now.

use std::collections::VecDeque;
use std::time::Duration;

use seckill_core::{DrainRate, Histogram, Snapshot};
use serde::Serialize;
use tokio::time::Instant;

/// Rates are those of so much time.
const WINDOW_MS: u64 = 1_000;
/// A process that has been silent for longer is gone.
pub(crate) const GONE: Duration = Duration::from_millis(2_000);
/// After so much silence its last rates say nothing about now.
const SILENT: Duration = Duration::from_millis(700);

/// What is counted, in the order of [`Counts`].
pub(crate) const COUNTED: [&str; 9] = [
    "arrivals",
    "accepted",
    "replayed",
    "sold_out",
    "refused",
    "unknown",
    "committed",
    "rejected",
    "redelivered",
];

/// How often each of [`COUNTED`] happened, or how often a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Counts(pub(crate) [f64; COUNTED.len()]);

impl Counts {
    pub(crate) const COMMITTED: usize = 6;

    /// What a process has counted since it started.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut counts = Self::default();
        for (key, value) in &snapshot.series {
            let (name, labels) = key.split_once('{').unwrap_or((key, ""));
            let at = match name {
                "seckill_claims_total" => {
                    counts.0[0] += value;
                    match labels {
                        "outcome=\"accepted\"}" => 1,
                        "outcome=\"replayed\"}" => 2,
                        "outcome=\"sold-out\"}" => 3,
                        "outcome=\"outcome-unknown\"}" => 5,
                        _ => 4,
                    }
                }
                "seckill_orders_committed_total" => Self::COMMITTED,
                "seckill_orders_rejected_total" => 7,
                "seckill_orders_redelivered_total" => 8,
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

/// What [`Process`] has heard.
struct Heard {
    counts: Counts,
    snapshot: Snapshot,
}

/// One process, by its last second.
pub(crate) struct Process {
    /// Oldest first; the first is a second older than the last, where there is one so old.
    heard: VecDeque<Heard>,
    last: Instant,
}

impl Process {
    pub(crate) fn new(first: Snapshot) -> Self {
        let mut heard = VecDeque::with_capacity(6);
        heard.push_back(Heard { counts: Counts::of(&first), snapshot: first });
        Self { heard, last: Instant::now() }
    }

    pub(crate) fn hear(&mut self, snapshot: Snapshot) {
        self.last = Instant::now();
        self.heard.push_back(Heard { counts: Counts::of(&snapshot), snapshot });
        let newest = self.now().uptime_ms;
        while self.heard.get(1).is_some_and(|second| second.snapshot.uptime_ms + WINDOW_MS <= newest) {
            self.heard.pop_front();
        }
    }

    /// How it was when it was last heard of.
    pub(crate) fn now(&self) -> &Snapshot {
        &self.heard.back().expect("it begins with one, and one is kept").snapshot
    }

    /// Whether nothing was heard of it lately, though it is not gone yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.last.elapsed() > SILENT
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.last.elapsed() > GONE
    }

    /// Since it started.
    pub(crate) fn counts(&self) -> Counts {
        self.heard.back().map(|heard| heard.counts).unwrap_or_default()
    }

    /// A second, over the last one.
    pub(crate) fn rates(&self) -> Counts {
        let (first, last) = (&self.heard[0], &self.heard[self.heard.len() - 1]);
        let milliseconds = last.snapshot.uptime_ms.saturating_sub(first.snapshot.uptime_ms);
        if milliseconds == 0 || self.is_silent() {
            return Counts::default();
        }
        last.counts.since(&first.counts, milliseconds as f64 / 1_000.0)
    }

    /// What a histogram took in over the last second.
    pub(crate) fn recent(&self, name: &str) -> Histogram {
        let find = |heard: &Heard| heard.snapshot.histograms.get(name).cloned().unwrap_or_default();
        let (first, mut last) = (find(&self.heard[0]), find(&self.heard[self.heard.len() - 1]));
        if self.heard.len() < 2 || self.is_silent() {
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
        let now = self.now();
        now.drain_rate.map(|_| now.series.get("seckill_held_orders").map_or(0.0, |held| *held) as u64)
    }

    pub(crate) fn view(&self) -> ProcessView {
        let now = self.now();
        ProcessView {
            id: now.process.to_string(),
            name: now.name.clone(),
            roles: now.roles.clone(),
            age_ms: u64::try_from(self.last.elapsed().as_millis()).unwrap_or(u64::MAX),
            uptime_seconds: now.uptime_ms / 1_000,
            drain_rate: now.drain_rate,
            held_orders: self.held_orders(),
            settings_revision: now.settings_revision,
            faults: now.faults.clone(),
        }
    }
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
    held_orders: Option<u64>,
    settings_revision: u64,
    faults: Vec<seckill_core::FaultKind>,
}

/// `more` on top of `sum`.
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

/// The value that the share `quantile` of all values does not exceed, on a straight line within its bucket, as Prometheus'
/// `histogram_quantile` has it; `None` without values.
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

    fn snapshot(uptime_ms: u64, accepted: f64) -> Snapshot {
        Snapshot {
            process: ProcessId::generate(),
            name: "gateway".to_owned(),
            roles: vec![Role::Gateway],
            uptime_ms,
            series: BTreeMap::from([(r#"seckill_claims_total{outcome="accepted"}"#.to_owned(), accepted)]),
            histograms: BTreeMap::new(),
            drain_rate: None,
            settings_revision: 0,
            faults: vec![],
            load: None,
        }
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let mut process = Process::new(snapshot(0, 0.0));
        assert_eq!(process.rates(), Counts::default());
        for quarter in 1..=20 {
            process.hear(snapshot(quarter * 250, 100.0 * quarter as f64));
        }
        assert_eq!(process.rates().0[..2], [400.0, 400.0]);
        assert_eq!(process.heard.len(), 5);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram =
            Histogram { buckets: vec![(1.0, 50.0), (2.0, 90.0), (5.0, 99.0)], sum: 150.0, count: 100.0 };
        assert_eq!(quantile(&histogram, 0.5), Some(1.0));
        assert_eq!(quantile(&histogram, 0.7), Some(1.5));
        assert_eq!(quantile(&histogram, 0.995), Some(5.0), "above the last bound nothing is known");
        assert_eq!(quantile(&Histogram::default(), 0.5), None);
        assert_eq!(mean(&histogram), Some(1.5));
    }
}
