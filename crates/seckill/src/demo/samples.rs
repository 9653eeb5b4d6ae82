//! What the sale looked like over time, read from the ledger and the gate through HTTP, as any user could.

use std::time::Instant;

use anyhow::Result;
use seckill_core::{SaleId, Timestamp, now};
use serde::Deserialize;

use crate::client::Api;

/// The sale at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Seconds since the first buyer.
    pub(super) at: f64,
    /// Orders in the ledger.
    pub(super) committed: u64,
    /// Orders that the ledger has rejected.
    pub(super) rejected: u64,
    /// Orders that the gate has set aside.
    pub(super) reserved: u64,
}

#[derive(Deserialize)]
struct View {
    as_of: Timestamp,
    orders: u64,
    rejected_orders: u64,
    reserved_orders: Option<u64>,
}

impl Sample {
    /// Reads the sale now; `began` is when the first buyer was sent.
    pub(super) async fn read(api: &Api, sale: SaleId, began: Instant) -> Result<Self> {
        let view: View = api.get(&format!("/api/v1/sales/{sale}")).await?;
        // The view was read by the gateway a little ago; place it where it was read.
        let age = (now() - view.as_of).num_milliseconds().max(0) as f64 / 1_000.0;
        let at = (began.elapsed().as_secs_f64() - age).max(0.0);
        let reserved = view.reserved_orders.unwrap_or(view.orders + view.rejected_orders);
        Ok(Self { at, committed: view.orders, rejected: view.rejected_orders, reserved })
    }

    /// Orders that have reached their end.
    pub(super) fn recorded(&self) -> u64 {
        self.committed + self.rejected
    }

    /// Orders between the gate and the ledger.
    pub(super) fn backlog(&self) -> u64 {
        self.reserved.saturating_sub(self.recorded())
    }
}

/// Samples in the order of time.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    /// Adds a sample; gives the one before it.
    pub(super) fn push(&mut self, sample: Sample) -> Option<Sample> {
        let before = self.0.last().copied();
        // The gateway may answer twice from one read.
        if before.is_none_or(|before| sample.at > before.at) {
            self.0.push(sample);
        }
        before
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Sample> + Clone {
        self.0.iter()
    }

    /// Seconds until the last order was committed.
    pub(super) fn drain_seconds(&self) -> f64 {
        let all = self.0.last().map_or(0, |last| last.committed);
        self.0.iter().find(|sample| sample.committed == all).map_or(0.0, |sample| sample.at)
    }

    /// Commits a second from the first commit to the last.
    pub(super) fn commit_rate_mean(&self) -> f64 {
        let all = self.0.last().map_or(0, |last| last.committed);
        let first = self.0.iter().rfind(|sample| sample.committed == 0);
        let took = self.drain_seconds() - first.map_or(0.0, |first| first.at);
        if took > 0.0 { all as f64 / took } else { 0.0 }
    }

    /// Commits a second in the busiest second. Where the whole drain took less than a second, its mean.
    pub(super) fn commit_rate_peak(&self) -> f64 {
        let window = |(at, start): (usize, &Sample)| {
            let end = self.0[at..].iter().find(|end| end.at - start.at >= 1.0)?;
            Some((end.committed - start.committed) as f64 / (end.at - start.at))
        };
        let peak = self.0.iter().enumerate().filter_map(window).fold(0.0, f64::max);
        if peak > 0.0 { peak } else { self.commit_rate_mean() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(committed: &[(f64, u64)]) -> Samples {
        let mut samples = Samples::default();
        for &(at, committed) in committed {
            samples.push(Sample { at, committed, rejected: 0, reserved: 100 });
        }
        samples
    }

    #[test]
    fn rates_are_taken_over_whole_seconds() {
        let samples = samples(&[(0.0, 0), (0.5, 0), (1.0, 20), (1.5, 60), (2.5, 80), (3.0, 80)]);
        assert_eq!(samples.drain_seconds(), 2.5);
        assert_eq!(samples.commit_rate_mean(), 40.0);
        assert_eq!(samples.commit_rate_peak(), 60.0);
    }

    #[test]
    fn a_drain_of_less_than_a_second_has_its_mean_for_a_peak() {
        let samples = samples(&[(0.0, 0), (0.25, 50), (0.5, 100)]);
        assert_eq!(samples.commit_rate_peak(), 200.0);
    }
}
