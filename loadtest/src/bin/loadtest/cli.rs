//! The command line: the commands and flags with their help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
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
#[command(version = version(), max_term_width = 110)]
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
    /// Print what a shell needs to complete commands and flags.
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write a manual page for each command.
    Man {
        /// Folder for the pages; it is made if it is not there.
        #[arg(long, value_name = "DIR", default_value = "man")]
        out: PathBuf,
    },
}

/// The version, with the commit where the build was told it. There is no build script that asks git, as `seckill` has one: it would
/// have the library compiled anew, and all that use it, after every commit.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION");
        match option_env!("SECKILL_COMMIT").map(str::trim).filter(|commit| !commit.is_empty()) {
            Some(commit) => format!("{version} ({commit})"),
            None => version.to_owned(),
        }
    });
    &VERSION
}

const AFTER_HELP: &str = "\
Examples, in a folder with the `seckill-data` of a gateway on this machine, which has the secrets:
  loadtest run spike --html report.html
  loadtest run --rate 5000 -z 30s --threshold 'p99<200ms'
  loadtest run --stages 5s:200,2s:20000,10s:20000,5s:0 --sale 1
  loadtest run -c 64 -n 100000
  loadtest run waiting-room -n 2000 --rate 50 --stock 1000
  loadtest run bots -n 1000 --rate 1000 -z 10s
  loadtest run polling -n 64 -z 10s
  loadtest run lifecycle --bank http://127.0.0.1:8090

Elsewhere the secrets come from files or from the environment:
  loadtest run spike --target shop.example:8080 --jwt-secret-file jwt --admin-token-file admin
  loadtest run --rate 5000 --sale 1 --tokens tokens.txt

Exit codes:
  0    pass, or not verified
  1    the test could not be carried out
  2    wrong usage; nothing was sent
  3    violated: a promise was broken, or money does not add up; lost orders are listed in lost-orders-SALE.csv
  4    unclear: it cannot be known whether every promise was kept
  99   a threshold was missed
  130  interrupted";

#[derive(Args)]
pub(crate) struct RunOptions {
    /// A preset (spike, step, ramp, soak, duplicates, clickers, lifecycle), one that plays buyers of its own (waiting-room, bots, polling), or a scenario file; flags override its fields [default: spike, unless flags say how much load there is].
    #[arg(value_name = "PRESET|FILE.toml")]
    pub(crate) scenario: Option<String>,
    /// Event streams that the scenario `polling` holds instead of polling.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) streams: usize,
    /// The gateway's base address, as http://HOST:PORT or HOST:PORT.
    #[arg(long, env = "SECKILL_TARGET", default_value = "http://127.0.0.1:8080")]
    pub(crate) target: String,
    /// Folder of an embedded gateway, with its secrets `jwt.secret` and `admin.token`: they are taken where no flag gives them
    /// [default: SECKILL_DATA_DIR or seckill-data, for a gateway on this machine and without --jwt-secret, --tokens and --admin-token].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
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
    #[arg(long, env = "SECKILL_JWT_SECRET", hide_env_values = true, help_heading = "Buyers")]
    pub(crate) jwt_secret: Option<String>,
    /// A file that holds the secret, in place of the secret.
    #[arg(long, env = "SECKILL_JWT_SECRET_FILE", value_name = "FILE", help_heading = "Buyers")]
    pub(crate) jwt_secret_file: Option<OsString>,
    /// A file with one buyer's bearer token a line, instead of signing them.
    #[arg(long, value_name = "FILE", help_heading = "Buyers")]
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
    /// Write the report as a page, in one file that needs no other, whose path is printed at the end; - for standard output, and the
    /// text goes to standard error.
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
