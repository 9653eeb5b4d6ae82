//! The command line: the commands and their arguments. The doc comments are the help.

pub(crate) mod admission;
pub(crate) mod bank;
#[cfg(feature = "lab")]
pub(crate) mod demo;
pub(crate) mod events;
#[cfg(feature = "lab")]
pub(crate) mod experiments;
#[cfg(test)]
mod fuzz;
pub(crate) mod groups;
pub(crate) mod orders;
pub(crate) mod sales;
pub(crate) mod shell;
pub(crate) mod token;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use seckill_core::Timestamp;

use crate::exit;
use crate::limits::LimitOptions;
pub(crate) use crate::options::secrets::AdminArgs;
use crate::options::secrets::SecretOptions;
use crate::options::servers::MysqlOptions;
use crate::options::tokens::AccessOptions;
use crate::options::{
    BackendOptions, DemoOptions, GatewayOptions, MoneyOptions, ServerOptions, WorkerOptions,
};
use crate::telemetry::LogOptions;
use crate::words;

/// A flash-sale system whose peak shaving you can see, measure and trust.
///
#[cfg_attr(feature = "lab", doc = "Start with `seckill demo`: it needs nothing but this program.")]
/// A flag can also be set by the environment variable beside it, where there is one; SECKILL_LOG sets what is logged, such as `info` or
/// `warn,seckill_worker=debug`. Data goes to stdout, everything else to stderr. Exit codes: 0 all is well, 1 a fault,
/// 2 wrong usage, 3 an invariant is violated.
#[derive(Debug, Parser)]
#[command(version = env!("SECKILL_VERSION"), propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Opens a sale, sends the buyers over real HTTP, shows the shaved peak, and audits every order
    #[cfg(feature = "lab")]
    Demo(demo::DemoArgs),
    /// Is not part of this program
    #[cfg(not(feature = "lab"))]
    #[command(hide = true)]
    Demo(WithoutDemo),
    /// Experiments about message queues: each claim without its safeguard and with it, expected against actual
    #[cfg(feature = "lab")]
    Lab(experiments::LabArgs),
    /// Is not part of this program
    #[cfg(not(feature = "lab"))]
    #[command(hide = true)]
    Lab(WithoutDemo),
    /// Serves HTTP: takes orders, pre-deducts stock, and queues what is sold
    ///
    /// With the embedded back end the worker runs in the same process.
    Gateway(Box<GatewayArgs>),
    /// Drains the queue into the database at the drain rate
    Worker(Box<WorkerArgs>),
    /// Runs a bank to try payments with: charges and gives back over HTTP, once for each key
    ///
    /// It moves no real money. The card `tok_declined` is declined, every other `tok_...` succeeds. POST /v1/charges and
    /// /v1/refunds with the header `Idempotency-Key: UUID`; ask again with GET /v1/charges/UUID. Read /v1/totals and
    /// /v1/charges.csv to see what has been charged. With the flags below, or PUT /v1/faults, it fails as real banks do.
    Bank(bank::BankArgs),
    /// Creates or updates the tables in MySQL
    Migrate(MigrateArgs),
    /// Opens, lists, shows and changes sales of a running gateway
    Sale(SaleArgs),
    /// Checks the invariants of a sale: oversold, duplicates, conservation
    Audit(AuditArgs),
    /// Has a worker fill the gate of a sale again from database and queue, and shows how far it is
    ///
    /// Workers do that by themselves when a gate is lost. May be called again at any time.
    Rebuild(RepairArgs),
    /// Compares what the gate of a sale holds with the database, and sends again what is missing
    ///
    /// Gateways do that by themselves. May be called again at any time.
    Reconcile(RepairArgs),
    /// Messages that wait for a human: what could not be read, what an order was wrong in, what no queue was bound for
    Parked(ParkedArgs),
    /// Shows and sets how fast the workers write, and pauses them
    ///
    /// Every worker applies it within a second, also one that is started later. It is forgotten once no gateway and no worker has run
    /// for 10 s: then each has the rate that it is started with.
    Drain(sales::DrainArgs),
    /// What happened to an order, step by step
    Order(orders::OrderArgs),
    /// Refunds: those that wait for a human, and the decision about them
    Refund(orders::RefundArgs),
    /// Receives events and keeps them while it is away: lines of JSON, or a webhook
    ///
    /// Events tell what has become of orders of sales with a payment window, such as order.paid. A name gets what happens after it
    /// was subscribed for the first time, each event until it is acknowledged, so perhaps twice: tell by the event's `id`. A line
    /// on stdout counts once it is written; a webhook once it is answered with 2xx. What a receiver refuses ten times is parked
    /// (`seckill subscriber`).
    ///
    /// Lines of JSON: seckill subscribe --name crm --on 'order.paid,refund.*' | jq .type
    ///
    /// A webhook: seckill subscribe --name mail --on '*' --webhook URL --webhook-secret-file secret
    Subscribe(Box<events::SubscribeArgs>),
    /// Shows events as they happen
    Events(events::EventsArgs),
    /// Events that were written with an order's state and wait to be published, or for a human
    Outbox(events::OutboxArgs),
    /// What waits for a subscriber, and what it could not take in
    Subscriber(events::SubscriberArgs),
    /// Lists the places at which SECKILL_ABORT_AT can make a process kill itself, and what must hold there
    AbortPoints,
    /// Prints the OpenAPI document of the gateway's API, in JSON; a gateway serves it at /openapi.json
    Openapi,
    /// Prints what a shell needs to complete commands and flags: bash, zsh, fish, elvish or powershell
    ///
    /// bash: seckill completions bash > ~/.local/share/bash-completion/completions/seckill
    ///
    /// zsh: seckill completions zsh > a file `_seckill` in a folder of $fpath
    ///
    /// fish: seckill completions fish > ~/.config/fish/completions/seckill.fish
    Completions(shell::CompletionsArgs),
    /// Writes a manual page for each command: `man -l seckill-gateway.1` shows one
    Man(shell::ManArgs),
    /// Prints bearer tokens for buyers, and makes keys that sign them
    Token(token::TokenArgs),
    /// Asks a gateway or worker whether it is ready; exits 1 if it is not
    Healthcheck(ServerOptions),
}

/// Prints a message about wrong usage, and returns the exit code for it.
pub(crate) fn usage_error(message: &str) -> ExitCode {
    eprintln!("{}", groups::command().error(ErrorKind::ArgumentConflict, message));
    ExitCode::from(exit::USAGE)
}

impl Command {
    /// How the spans of this program are told from those of others.
    pub(crate) fn service(&self) -> &'static str {
        match self {
            Self::Gateway(_) => "seckill-gateway",
            Self::Worker(_) => "seckill-worker",
            Self::Bank(_) => "seckill-bank",
            _ => "seckill",
        }
    }

    /// How it logs; `None`: as the environment says, and no spans are sent.
    pub(crate) fn log(&self) -> Option<&LogOptions> {
        match self {
            #[cfg(feature = "lab")]
            Self::Demo(args) => Some(&args.log),
            Self::Gateway(args) => Some(&args.log),
            Self::Worker(args) => Some(&args.log),
            Self::Bank(args) => Some(&args.log),
            Self::Subscribe(args) => Some(&args.log),
            _ => None,
        }
    }

    /// The long-running roles log what they do; the other commands log only what is wrong.
    pub(crate) fn default_log_level(&self) -> &'static str {
        match self {
            Self::Gateway(_) | Self::Worker(_) | Self::Bank(_) | Self::Subscribe(_) => "info",
            _ => "warn",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// For a gateway that another seckill starts: writes its address to stdout, and ends when stdin ends
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
    #[command(flatten)]
    pub(crate) backend: BackendOptions,
    #[command(flatten)]
    pub(crate) secrets: SecretOptions,
    #[command(flatten)]
    pub(crate) access: AccessOptions,
    #[command(flatten)]
    pub(crate) gateway: GatewayOptions,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    #[command(flatten)]
    pub(crate) money: MoneyOptions,
    #[command(flatten)]
    pub(crate) demo: DemoOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

#[derive(Debug, Args)]
// The embedded back end has its worker in the gateway's process.
#[command(mut_arg("data_dir", |arg| arg.hide(true)))]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) backend: BackendOptions,
    /// Address to serve /livez, /readyz and /metrics on, as HOST:PORT; a port alone is one of this machine only
    #[arg(long, env = "SECKILL_WORKER_LISTEN", default_value = "127.0.0.1:8081", value_parser = words::listen)]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    #[command(flatten)]
    pub(crate) money: MoneyOptions,
    #[command(flatten)]
    pub(crate) demo: DemoOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    pub(crate) mysql: MysqlOptions,
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
    /// Changes the name, the product or the end of a sale
    Set(sales::SaleSetArgs),
    /// Asks buyers to come back later; who holds an order keeps it
    Pause(RepairArgs),
    /// Lets buyers order again
    Resume(RepairArgs),
    /// Ends a sale now; who holds an order keeps it
    Close(RepairArgs),
    /// Puts more units on sale
    RaiseStock(sales::SaleRaiseArgs),
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
    #[arg(long, default_value = "1h", value_parser = words::duration)]
    pub(crate) lasts: Duration,
    /// How long after its commit an order can be paid, 1s to 30days; then it is cancelled, and its units go back on sale
    /// [default: the sale has no payments]
    #[arg(long, value_parser = words::duration)]
    pub(crate) payment_window: Option<Duration>,
    /// Open one sale under this key, however often it is sent: 1 to 255 visible ASCII characters [default: a new key each time]
    #[arg(long, env = "SECKILL_IDEMPOTENCY_KEY", value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) admission: admission::AdmissionArgs,
    /// Open it only if there is no sale yet; otherwise do nothing and exit with 0
    #[arg(long)]
    pub(crate) if_none: bool,
    /// Wait at most this long for a gateway to answer, such as 2m: for what starts together with the gateways
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
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
    #[arg(value_parser = words::sale_id)]
    pub(crate) id: u64,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) sale: SaleReadArgs,
    /// Wait at most this long until nothing is in flight, and no gate is being rebuilt
    #[arg(long, value_parser = words::duration)]
    pub(crate) wait: Option<Duration>,
    /// Count anew, with the admin token; without it the gateway's summary is shown, which serves everyone and is about a second old
    #[arg(long)]
    pub(crate) fresh: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub(crate) sale: SaleReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ParkedArgs {
    #[command(subcommand)]
    pub(crate) command: ParkedCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// Lists the messages, oldest first, 1,000 at the most
    List(ParkedListArgs),
    /// Shows one message whole
    Show(ParkedMessageArgs),
    /// Moves a message back into the queue
    Redrive(ParkedMessageArgs),
    /// Removes a message for good
    Discard(ParkedMessageArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ParkedListArgs {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ParkedMessageArgs {
    /// The message's id, as `seckill parked list` prints it
    #[arg(value_parser = words::message_id)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Takes every argument of `seckill demo`, to answer that this program has no such command.
#[cfg(not(feature = "lab"))]
#[derive(Debug, Args)]
pub(crate) struct WithoutDemo {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<std::ffi::OsString>,
}
