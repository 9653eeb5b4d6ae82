//! The command line: which commands there are and what they take. The doc comments are the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use seckill_core::Timestamp;
use seckill_worker::DrainRate;

use crate::dashboard::DashboardOptions;
use crate::options::{
    BackendOptions, ClusterOptions, GatewayOptions, SecretOptions, ServerOptions, WorkerOptions,
};

/// A flash-sale system whose peak shaving you can see, measure and trust.
///
/// Start with `seckill demo`: it needs nothing but this program. Every flag can also be set by the environment variable
/// that stands beside it. Data goes to stdout, everything else to stderr. Exit codes: 0 all is well, 1 a fault, 2 wrong
/// usage, 3 an invariant is violated.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    /// Write the log as JSON, a line an event. What is logged is set by SECKILL_LOG, such as `info` or
    /// `warn,seckill_worker=debug`
    #[arg(long, global = true, env = "SECKILL_LOG_JSON")]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Opens a sale, sends the buyers over real HTTP, shows the shaved peak, and audits every order
    Demo(DemoArgs),
    /// Serves HTTP: takes orders, pre-deducts stock, and queues what is sold
    ///
    /// With the embedded back end the worker runs in the same process.
    Gateway(GatewayArgs),
    /// Drains the queue into the database at the drain rate
    Worker(WorkerArgs),
    /// Creates or updates the tables in MySQL
    Migrate(MigrateArgs),
    /// Opens, lists and shows sales of a running gateway
    Sale(SaleArgs),
    /// Checks the invariants of a sale: oversold, duplicates, conservation
    Audit(AuditArgs),
    /// Prints bearer tokens for buyers
    Token(TokenArgs),
    /// Asks a gateway or worker whether it is ready; exits 1 if it is not
    Healthcheck(ServerOptions),
}

impl Command {
    /// Long-running roles tell what they do; commands speak up only when something is wrong.
    pub(crate) fn default_log_level(&self) -> &'static str {
        match self {
            Self::Gateway(_) | Self::Worker(_) => "info",
            _ => "warn",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Buyers; each is a different user who wants one unit
    #[arg(long, env = "SECKILL_DEMO_BUYERS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(crate) buyers: u32,
    /// Units on sale
    #[arg(long, env = "SECKILL_DEMO_STOCK", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(crate) stock: u32,
    /// Orders a second that the worker may write to the ledger, or `unlimited`
    #[arg(long, env = "SECKILL_DRAIN_RATE", default_value = "2000", value_parser = demo_rate)]
    pub(crate) drain_rate: DrainRate,
    /// Time within which all buyers arrive
    #[arg(long, env = "SECKILL_DEMO_ARRIVAL", default_value = "2s", value_parser = arrival)]
    pub(crate) arrival: Duration,
    /// Share of the buyers, 0 to 1, who send the same request twice
    #[arg(long, env = "SECKILL_DEMO_RETRY_RATIO", default_value_t = 0.1, value_parser = ratio)]
    pub(crate) retry_ratio: f64,
    /// Port to serve on, on this machine only; 0 takes any free one
    #[arg(long, env = "SECKILL_DEMO_PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// End after the verdict instead of serving on; implied when stdout is no terminal
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
}

/// The demo brings its own data folder, so it takes all of [`BackendOptions`] but that.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoBackend {
    /// Where the stock, the queue and the orders are
    #[arg(long, env = "SECKILL_BACKEND", value_enum, default_value = "embedded")]
    pub(crate) backend: crate::options::BackendKind,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) backend: BackendOptions,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
    #[command(flatten)]
    pub(crate) gateway: GatewayOptions,
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    #[command(flatten)]
    pub(crate) dashboard: DashboardOptions,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) backend: BackendOptions,
    /// Address to serve /livez, /readyz and /metrics on
    #[arg(long, env = "SECKILL_WORKER_LISTEN", default_value = "127.0.0.1:8081")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    #[command(flatten)]
    pub(crate) dashboard: DashboardOptions,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

#[derive(Debug, Args)]
pub(crate) struct SaleArgs {
    #[command(subcommand)]
    pub(crate) command: SaleCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SaleCommand {
    /// Opens a sale
    Create(Box<SaleCreateArgs>),
    /// Lists the newest sales
    List(ReadArgs),
    /// Shows one sale
    Show(SaleReadArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SaleCreateArgs {
    /// Its name for people, 1 to 200 characters
    #[arg(long)]
    pub(crate) name: String,
    /// What is sold, 1 to 200 characters [default: the name]
    #[arg(long)]
    pub(crate) product: Option<String>,
    /// Units on sale, 1 to 100,000,000
    #[arg(long)]
    pub(crate) stock: u32,
    /// The price of one unit in hundredths of the currency
    #[arg(long, default_value_t = 0)]
    pub(crate) price_cents: u64,
    /// ISO 4217: three capital letters
    #[arg(long, default_value = "USD")]
    pub(crate) currency: String,
    /// Units that one user may order, 1 to 1,000
    #[arg(long, default_value_t = 1)]
    pub(crate) per_user_limit: u32,
    /// When it starts, such as 2030-11-11T00:00:00Z [default: now]
    #[arg(long)]
    pub(crate) starts_at: Option<Timestamp>,
    /// When it ends, such as 2030-11-11T01:00:00Z [default: `--lasts` after its start]
    #[arg(long, conflicts_with = "lasts")]
    pub(crate) ends_at: Option<Timestamp>,
    /// How long it lasts
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) lasts: Duration,
    /// Only if there is no sale at all; where there is one, this does nothing, successfully
    #[arg(long)]
    pub(crate) if_none: bool,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
    /// Folder of the embedded back end, whose gateway keeps its secrets there
    #[arg(long, env = "SECKILL_DATA_DIR", default_value = crate::options::DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SaleReadArgs {
    /// The sale's id
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) sale: SaleReadArgs,
    /// Wait at most this long until nothing is in flight
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user id of the first token
    #[arg(long, default_value_t = 1)]
    pub(crate) user: u64,
    /// How many tokens, a line each, for users counting up from the first
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) users: u64,
    /// How long the tokens are valid
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
    /// Folder of the embedded back end, whose gateway keeps its secrets there
    #[arg(long, env = "SECKILL_DATA_DIR", default_value = crate::options::DATA_DIR)]
    pub(crate) data_dir: PathBuf,
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

fn demo_rate(text: &str) -> Result<DrainRate, String> {
    match text.parse()? {
        DrainRate::Paused => {
            Err("a demo whose worker is paused never ends; give a number or `unlimited`".to_owned())
        }
        rate => Ok(rate),
    }
}
