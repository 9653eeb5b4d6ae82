//! The flags of the drain rate.

use std::num::NonZeroU32;

use clap::Args;
use seckill_core::capacity::Capacity;
use seckill_worker::{AutoBounds, DrainRate, Pace};

#[derive(Debug, Clone, Args)]
pub(crate) struct DrainOptions {
    /// Orders a second that all workers together may write to the database; or `auto`, `unlimited` or `paused`
    ///
    /// Give every worker the same: they lease their shares of it in Redis, and where they were given different ones the lowest counts.
    /// With `auto` each finds what the database is safe with, by how long commits take.
    #[arg(long, env = "SECKILL_DRAIN_RATE", default_value = "2000")]
    pub(crate) drain_rate: DrainRate,
    /// With the drain rate `auto`: the fewest orders a second, for all workers together
    #[arg(long, env = "SECKILL_DRAIN_RATE_MIN", value_name = "RATE", default_value = "100", value_parser = rate)]
    drain_rate_min: Capacity,
    /// With the drain rate `auto`: the most orders a second, for all workers together; the fewest, if that is more
    #[arg(long, env = "SECKILL_DRAIN_RATE_MAX", value_name = "RATE", default_value = "20000", value_parser = rate)]
    drain_rate_max: Capacity,
    /// Orders a second that this worker may write before it has reached Redis for the first time, and so without a share
    ///
    /// The drain rate holds if this is at most the rate divided by the number of workers. With 0, a worker that is started while Redis
    /// is away waits for it.
    #[arg(long, env = "SECKILL_DRAIN_RATE_SAFE", value_name = "RATE", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    drain_rate_safe: u32,
}

impl DrainOptions {
    /// The pace of one worker, whose commits hold at most `commit_batch` orders.
    pub(crate) fn pace(&self, commit_batch: NonZeroU32) -> Pace {
        let bounds =
            AutoBounds { min: self.drain_rate_min, max: self.drain_rate_max.max(self.drain_rate_min) };
        Pace::new(self.drain_rate, commit_batch).with_auto_bounds(bounds).with_safe_rate(self.drain_rate_safe)
    }
}

fn rate(text: &str) -> Result<Capacity, String> {
    let rate = text.parse().ok().filter(|rate| (1..=1_000_000).contains(rate));
    rate.map(Capacity::per_second).ok_or_else(|| "give orders a second, from 1 to 1000000".to_owned())
}
