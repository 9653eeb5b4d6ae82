//! Distributions of times, in HDR histograms.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time in a histogram, in microseconds: twice the longest time of a record.
const MAX_US: u64 = 2 * u32::MAX as u64;

/// A distribution of times, in microseconds, to three significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many times it is made of. If 0, all other fields are 0, too.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// 9 of 10 took no longer.
    pub p90_us: u64,
    /// 95 of 100 took no longer.
    pub p95_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer.
    pub p999_us: u64,
    pub max_us: u64,
}

impl Latency {
    /// The distribution of some times in microseconds.
    pub fn of(times_us: impl IntoIterator<Item = u64>) -> Self {
        let mut times = Times::new();
        times_us.into_iter().for_each(|time| times.record(time));
        times.latency()
    }
}

/// Collects times for a [`Latency`].
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MAX_US, 3).expect("the bounds are in order, the digits below 6");
        Self(histogram)
    }

    pub(crate) fn record(&mut self, time_us: u64) {
        self.0.saturating_record(time_us);
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency {
            count: self.0.len(),
            p50_us: self.0.value_at_quantile(0.5),
            p90_us: self.0.value_at_quantile(0.9),
            p95_us: self.0.value_at_quantile(0.95),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        write!(
            f,
            "p50 {:.1}   p90 {:.1}   p99 {:.1}   p99.9 {:.1}   max {:.1}",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )
    }
}
