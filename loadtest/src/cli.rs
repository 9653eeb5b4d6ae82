//! The command line: what the flags mean, and the steps of one run. Belongs to the binary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, Parser, Subcommand, value_parser};
use jsonwebtoken::{EncodingKey, Header};
use loadtest::{
    CancellationToken, Clients, Job, Plan, Progress, Report, Target, Tokens, Verification, VerifySettings,
};
use serde::Serialize;
use tokio::task::JoinHandle;

/// How often the counters are shown while a run goes on.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// How long the tokens outlive the run and its verification.
const TOKEN_SPARE: Duration = Duration::from_secs(3_600);

/// Sends the buyers of a flash sale on a schedule, and checks that every promised order reaches its end.
///
/// The model is open: every request leaves at its time, whether or not earlier ones were answered, and latency counts
/// from that time. Exit codes: 0 all promises kept, 1 the test could not be carried out, 2 usage, 3 a promise was broken.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Send one order request a buyer, then follow the orders to their end.
    Run(RunOptions),
}

#[derive(Args)]
#[command(group = ArgGroup::new("identity").required(true).multiple(true))]
pub(crate) struct RunOptions {
    /// The gateway's base address.
    #[arg(long, env = "SECKILL_TARGET", default_value = "http://127.0.0.1:8080")]
    target: String,
    /// The sale's id.
    #[arg(long, default_value_t = 1)]
    sale: u64,
    /// How many buyers come.
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    buyers: u64,
    /// The user id of the first buyer; the others follow, one by one.
    #[arg(long, default_value_t = 1)]
    first_user: u64,
    /// The time over which the buyers arrive; 0s for all at once.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    arrival: Duration,
    /// The share of buyers, 0 to 1, that sends the same request again within 50 ms.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    retry_ratio: f64,
    /// Units that every buyer wants.
    #[arg(long, default_value_t = 1)]
    quantity: u32,
    /// Decides which buyers send twice; the same seed makes the same schedule.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections kept open.
    #[arg(long, default_value_t = 256, value_parser = value_parser!(u16).range(1..))]
    connections: u16,
    /// How long one request may take.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The secret that the gateway checks tokens (HS256) with; the buyers' tokens are signed with it.
    #[arg(long, env = "SECKILL_JWT_SECRET", hide_env_values = true, group = "identity")]
    jwt_secret: Option<String>,
    /// A file with one buyer's bearer token a line, instead of signing them.
    #[arg(long, value_name = "FILE", group = "identity")]
    tokens: Option<PathBuf>,
    /// How long the orders may take to reach their end after the run; 0s checks nothing.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    verify_within: Duration,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("allowed is a share from 0 to 1".to_owned()) }
}

/// Carries out one run: the report goes to stdout, everything else to stderr. Ctrl-C ends it early, and
/// what was sent by then is checked and reported.
pub(crate) async fn run(options: &RunOptions) -> anyhow::Result<Report> {
    let plan = Plan {
        buyers: options.buyers,
        first_user: options.first_user,
        arrival: options.arrival,
        retry_ratio: options.retry_ratio,
        seed: options.seed,
    };
    let target = Target::parse(&options.target)?;
    let tokens = tokens(options, &plan)?;
    let mut clients = Clients::connect_with(target, options.connections.into(), options.timeout).await?;
    let job = Job { quantity: options.quantity, ..Job::new(plan, options.sale, tokens) };
    let progress = Progress::shared();
    let shown = tokio::spawn(show(progress.clone()));
    let stop = Stop::on_ctrl_c();
    let run = loadtest::run(&mut clients, &job, &progress, &stop.cancel).await;
    // From here on Ctrl-C ends the check: what a run has sent is worth checking even if the run was cut short.
    drop(stop);
    shown.abort();
    let run = run?;
    let checked = verify(options, &mut clients, &run.orders(), &job.tokens).await;
    let report = Report::new(&run, checked.as_ref());
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?);
    } else {
        println!("{report}");
    }
    Ok(report)
}

async fn verify(
    options: &RunOptions,
    clients: &mut Clients,
    orders: &[loadtest::Order],
    tokens: &Tokens,
) -> Option<Verification> {
    let all = options.verify_within;
    if all.is_zero() {
        return None;
    }
    eprintln!("following {} orders to their end, {all:?} at the most", orders.len());
    let (stop, began) = (Stop::on_ctrl_c(), Instant::now());
    // The wait takes half the time at the most, so that what has reached its end is seen even if the rest never does.
    let half = VerifySettings { within: all / 2, ..VerifySettings::default() };
    loadtest::wait_for_drain(clients, orders, tokens, &half, &stop.cancel).await;
    let rest = VerifySettings { within: all.saturating_sub(began.elapsed()), ..half };
    Some(loadtest::verify(clients, orders, tokens, &rest, &stop.cancel).await)
}

fn tokens(options: &RunOptions, plan: &Plan) -> anyhow::Result<Tokens> {
    match (&options.tokens, &options.jwt_secret) {
        (Some(file), _) => read_tokens(file),
        (None, Some(secret)) => sign_tokens(plan, options, secret),
        (None, None) => bail!("there are no tokens; give --jwt-secret or --tokens"),
    }
}

fn read_tokens(file: &Path) -> anyhow::Result<Tokens> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the tokens from {}", file.display()))?;
    Tokens::from_list(text.lines())
        .with_context(|| format!("{} is not a list of one token a line", file.display()))
}

#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: u64,
}

fn sign_tokens(plan: &Plan, options: &RunOptions, secret: &str) -> anyhow::Result<Tokens> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("this machine's clock is before 1970")?;
    let exp = (now + options.arrival + options.verify_within + TOKEN_SPARE).as_secs();
    let sign = |user: u64| {
        jsonwebtoken::encode(&Header::default(), &Claims { sub: user.to_string(), exp }, &key)
            .expect("signing two plain fields by HS256 cannot fail")
    };
    Ok(Tokens::sign(plan, sign)?)
}

/// While it lives, the first Ctrl-C cancels what goes on in good order, and a second one ends the program at once.
struct Stop {
    cancel: CancellationToken,
    listening: JoinHandle<()>,
}

impl Stop {
    fn on_ctrl_c() -> Self {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let listening = tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if token.is_cancelled() {
                    std::process::exit(130);
                }
                eprintln!("stopping: waiting for requests under way; press Ctrl-C again to stop at once");
                token.cancel();
            }
        });
        Self { cancel, listening }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn show(progress: Arc<Progress>) {
    let mut before = progress.counts();
    loop {
        tokio::time::sleep(SHOW_EVERY).await;
        let now = progress.counts();
        let rate = now.sent - before.sent;
        eprintln!(
            "{} of {} sent ({rate}/s), {} accepted, {} sold out, {} under way",
            now.sent,
            now.planned,
            now.accepted,
            now.sold_out,
            now.sent.saturating_sub(now.ended())
        );
        before = now;
    }
}
