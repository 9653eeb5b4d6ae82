//! The arguments of `seckill demo`. The doc comments are the help.

use std::time::Duration;

use clap::Args;
use clap::builder::ArgPredicate;
use seckill_worker::DrainRate;

use crate::options::{BackendKind, ClusterOptions};
use crate::telemetry::LogOptions;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Buyers; each is a different user who wants one unit. With --lifecycle 2000 unless given
    #[arg(long, env = "SECKILL_DEMO_BUYERS", default_value_t = 20_000, default_value_if("lifecycle", ArgPredicate::IsPresent, "2000"), value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(crate) buyers: u32,
    /// Units on sale. With --lifecycle 1000 unless given
    #[arg(long, env = "SECKILL_DEMO_STOCK", default_value_t = 10_000, default_value_if("lifecycle", ArgPredicate::IsPresent, "1000"), value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(crate) stock: u32,
    /// Orders a second that the worker may write to the ledger, or `auto`, or `unlimited`
    #[arg(long, env = "SECKILL_DRAIN_RATE", default_value = "2000", value_parser = demo_rate)]
    pub(crate) drain_rate: DrainRate,
    /// Time within which all buyers arrive
    #[arg(long, env = "SECKILL_DEMO_ARRIVAL", default_value = "2s", value_parser = arrival)]
    pub(crate) arrival: Duration,
    /// Share of the buyers, 0 to 1, who send the same request twice
    #[arg(long, env = "SECKILL_DEMO_RETRY_RATIO", default_value_t = 0.1, value_parser = ratio)]
    pub(crate) retry_ratio: f64,
    /// Buyers pay from a balance, cancel, want their money back or let the time run out, and what comes back is sold again
    #[arg(long, env = "SECKILL_DEMO_LIFECYCLE")]
    pub(crate) lifecycle: bool,
    /// With --lifecycle: the time within which an order must be paid
    #[arg(long, requires = "lifecycle", default_value = "5s", value_parser = payment_window)]
    pub(crate) payment_window: Duration,
    /// Port to serve on, on this machine only; 0 takes any free one
    #[arg(long, env = "SECKILL_DEMO_PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// End after the verdict instead of serving on, and start without waiting for somebody to watch; implied when stdout is no terminal
    #[arg(long, env = "SECKILL_DEMO_ONCE")]
    pub(crate) once: bool,
    /// Open the dashboard in the browser
    #[arg(long, env = "SECKILL_DEMO_OPEN")]
    pub(crate) open: bool,
    /// Print the verdict as one JSON object, and nothing else, to stdout
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) backend: DemoBackend,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// The options of the back end, without its data folder: the demo makes its own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Back end")]
pub(crate) struct DemoBackend {
    /// Where the stock, the queue and the orders are
    #[arg(long, env = "SECKILL_BACKEND", value_enum, default_value = "embedded")]
    pub(crate) backend: BackendKind,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "give a share from 0 to 1, such as 0.1".to_owned())
}

fn arrival(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error}; give something like 2s"))?;
    let allowed = Duration::from_millis(1)..=Duration::from_secs(600);
    if allowed.contains(&duration) { Ok(duration) } else { Err("give 1ms to 10min, such as 2s".to_owned()) }
}

fn payment_window(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error}; give something like 5s"))?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(600);
    if allowed.contains(&duration) { Ok(duration) } else { Err("give 1s to 10min, such as 5s".to_owned()) }
}

fn demo_rate(text: &str) -> Result<DrainRate, String> {
    match text.parse()? {
        DrainRate::Paused => {
            Err("a demo whose worker is paused never ends; give a number or `unlimited`".to_owned())
        }
        rate => Ok(rate),
    }
}
