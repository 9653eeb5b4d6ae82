//! The command line: the commands and flags with their help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use loadtest::error::Error;
use loadtest::plan::scenario::Scenario;
use loadtest::plan::stages::parse_duration;

/// Sends the buyers of a flash sale to a server, and checks that every promised order gets a final row.
///
/// The model is open unless you ask otherwise: requests leave on schedule whether or not the last ones came back, and
/// latency counts from the intended start.
///
/// Exit codes: 0 pass (or not verified), 1 the test could not be carried out, 2 wrong usage, 3 a promise was broken,
/// 4 unclear whether every promise was kept, 99 a threshold was missed, 130 interrupted.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Send the buyers, wait for the drain, verify every order, and give the verdict.
    #[command(after_help = AFTER_HELP)]
    Run(Box<RunOptions>),
    /// Print two reports (of --json) side by side, with their ratios.
    Compare {
        /// The report to compare with.
        a: PathBuf,
        /// The report to compare.
        b: PathBuf,
    },
}

const AFTER_HELP: &str = "\
Examples:
  loadtest run spike --jwt-secret S --admin-token T --html report.html
  loadtest run --rate 5000 -z 30s --sale 1 --jwt-secret S --threshold 'p99<200ms'
  loadtest run --stages 5s:200,2s:20000,10s:20000,5s:0 --sale 1 --tokens tokens.txt
  loadtest run -c 64 -n 100000 --sale 1 --jwt-secret S
  loadtest run waiting-room --jwt-secret S --admin-token T -n 2000 --rate 50 --stock 1000
  loadtest run bots --jwt-secret S --admin-token T -n 1000 --rate 1000 -z 10s
  loadtest run polling --jwt-secret S --admin-token T -n 64 -z 10s
  loadtest run lifecycle --jwt-secret S --admin-token T --bank http://127.0.0.1:8090

Exit codes:
  0    pass, or not verified
  1    the test could not be carried out
  2    wrong usage; nothing was sent
  3    violated: a promise was broken, or money does not add up; lost orders are listed in lost-orders-SALE.csv
  4    unclear: it cannot be known whether every promise was kept
  99   a threshold was missed
  130  interrupted";

#[derive(Args)]
#[command(group = ArgGroup::new("identity").required(true).multiple(true))]
pub(crate) struct RunOptions {
    /// A preset (spike, step, ramp, soak, duplicates, clickers, lifecycle), one that plays buyers of its own (waiting-room, bots, polling), or a scenario file; flags override its fields.
    #[arg(value_name = "PRESET|FILE.toml")]
    pub(crate) scenario: Option<String>,
    /// Event streams that the scenario `polling` holds instead of polling.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) streams: usize,
    /// The gateway's base address.
    #[arg(long, env = "SECKILL_TARGET", default_value = "http://127.0.0.1:8080")]
    pub(crate) target: String,
    /// The sale to buy from. Without it, and with an admin token, a sale is made for the run.
    #[arg(long, help_heading = "Sale")]
    pub(crate) sale: Option<u64>,
    /// The server's admin token. With it the sale is made, and all orders are looked up in one list instead of one by one.
    #[arg(long, env = "SECKILL_ADMIN_TOKEN", hide_env_values = true, help_heading = "Sale")]
    pub(crate) admin_token: Option<String>,
    /// A file that holds the admin token, in place of the token.
    #[arg(long, env = "SECKILL_ADMIN_TOKEN_FILE", value_name = "FILE", help_heading = "Sale")]
    pub(crate) admin_token_file: Option<OsString>,
    /// The secret that the server checks tokens (HS256) with; the buyers' tokens are signed with it.
    #[arg(
        long,
        env = "SECKILL_JWT_SECRET",
        hide_env_values = true,
        group = "identity",
        help_heading = "Buyers"
    )]
    pub(crate) jwt_secret: Option<String>,
    /// A file that holds the secret, in place of the secret.
    #[arg(
        long,
        env = "SECKILL_JWT_SECRET_FILE",
        value_name = "FILE",
        group = "identity",
        help_heading = "Buyers"
    )]
    pub(crate) jwt_secret_file: Option<OsString>,
    /// A file with one buyer's bearer token a line, instead of signing them.
    #[arg(long, value_name = "FILE", group = "identity", help_heading = "Buyers")]
    pub(crate) tokens: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: Scenario,
    /// The bank of the gateway, to compare its charges with the orders. Meanwhile nothing else may charge there.
    #[arg(long, env = "SECKILL_BANK_URL", value_name = "URL", help_heading = "After the order")]
    pub(crate) bank: Option<String>,
    /// Do not wait for the drain, and do not look up the orders.
    #[arg(long, help_heading = "Verification")]
    pub(crate) no_verify: bool,
    /// End the wait for the drain when nothing has been committed for so long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration, help_heading = "Verification")]
    pub(crate) drain_stall: Duration,
    /// Show nothing while the run goes on.
    #[arg(short, long, help_heading = "Report")]
    pub(crate) quiet: bool,
    /// Write the report as JSON; - for standard output, instead of the text.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as a page; - for standard output, and the text goes to standard error.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) html: Option<PathBuf>,
}

/// Why there is no verdict.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The inputs are wrong; nothing was sent.
    Usage(String),
    /// The run could not be carried out.
    Fault(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Usage(text) | Self::Fault(text)) = self;
        f.write_str(text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Connect { .. }
            | Error::Shop { .. }
            | Error::NoSuchSale { .. }
            | Error::NoPayments { .. }
            | Error::NotOpen { .. } => Self::Fault(error.to_string()),
            _ => Self::Usage(error.to_string()),
        }
    }
}
