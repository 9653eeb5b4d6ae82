//! The scenarios that are more than a schedule of orders: `waiting-room`, `bots` and `polling`. Each makes a sale of its own, plays
//! its buyers, and has a verdict of its own. Of the load's flags each takes those that its doc names.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;

use hyper::header::HeaderValue;
use loadtest::bots::{self, BotsPlan};
use loadtest::plan::schedule::Plan;
use loadtest::polling::{self, PollingPlan};
use loadtest::send::client::Clients;
use loadtest::send::target::Target;
use loadtest::waiting::{self, WaitingPlan};
use loadtest::{Error, Tokens};
use serde::Serialize;

use crate::cli::{Failure, RunOptions};
use crate::inputs;

/// What they are called on the command line.
pub(crate) const NAMES: [&str; 3] = ["waiting-room", "bots", "polling"];

/// Plays the scenario of this name and prints what came of it; `None`: it is none of these.
pub(crate) async fn run(options: &RunOptions) -> Option<Result<ExitCode, Failure>> {
    Some(match options.scenario.as_deref()? {
        "waiting-room" => waiting_room(options).await,
        "bots" => with_bots(options).await,
        "polling" => polled(options).await,
        _ => return None,
    })
}

/// What each of them needs.
struct Stage {
    clients: Clients,
    admin: HeaderValue,
    tokens: Tokens,
}

impl Stage {
    async fn set(options: &RunOptions, buyers: u64) -> Result<Self, Failure> {
        if options.html.is_some() {
            return Err(usage("this scenario has no page: leave --html out; --json writes its numbers"));
        }
        let admin = options.admin_token.as_deref().ok_or_else(|| {
            usage(
                "the scenario makes a sale of its own: give --admin-token-file, --admin-token or --data-dir",
            )
        })?;
        let first_user = options.load.first_user.unwrap_or(1);
        let plan = Plan::spread(buyers, first_user, Duration::from_secs(1));
        Ok(Self {
            admin: loadtest::bearer(admin)?,
            tokens: inputs::tokens(options, &plan)?,
            clients: Clients::connect(Target::parse(&options.target)?, 1).await?,
        })
    }
}

fn usage(text: &str) -> Failure {
    Failure::Usage(text.to_owned())
}

fn small(number: u64, flag: &str) -> Result<u32, Failure> {
    u32::try_from(number).map_err(|_| usage(&format!("{flag} is too large for this scenario")))
}

/// `--rate` as a whole number.
fn whole_rate(options: &RunOptions, default: u32, what: &str) -> Result<u32, Failure> {
    let Some(rate) = options.load.rate else { return Ok(default) };
    if !(1.0..=100_000.0).contains(&rate) || rate.fract() != 0.0 {
        return Err(usage(&format!("--rate is {what}: a whole number from 1 to 100000")));
    }
    // A whole number within the range that was just checked.
    Ok(rate as u32)
}

/// -n (buyers), --rate (of the inlet), --stock, -z (when to give up).
async fn waiting_room(options: &RunOptions) -> Result<ExitCode, Failure> {
    let load = &options.load;
    let buyers = load.requests.unwrap_or(500);
    let plan = WaitingPlan {
        buyers: small(buyers, "-n")?,
        stock: small(load.stock.unwrap_or(200), "--stock")?,
        rate: whole_rate(options, 20, "the rate of the inlet")?,
        starts_in: Duration::from_secs(10),
        proof_of_work: true,
        deadline: load.duration.unwrap_or(Duration::from_secs(300)),
    };
    let stage = Stage::set(options, buyers).await?;
    let played = waiting::play(&stage.clients, &stage.admin, &stage.tokens, plan).await;
    show(options, played, waiting::WaitingReport::holds)
}

/// -n (honest buyers), --rate (requests a second of each bot), -z (how long).
async fn with_bots(options: &RunOptions) -> Result<ExitCode, Failure> {
    const BOTS: u32 = 4;
    let honest = options.load.requests.unwrap_or(1_000);
    let plan = BotsPlan {
        honest: small(honest, "-n")?,
        bots: BOTS,
        bot_rate: whole_rate(options, 1_000, "what each bot sends in a second")?,
        lasts: options.load.duration.unwrap_or(Duration::from_secs(10)),
    };
    let stage = Stage::set(options, honest + u64::from(BOTS)).await?;
    let played = bots::play(&stage.clients, &stage.admin, &stage.tokens, plan).await;
    show(options, played, bots::BotsReport::holds)
}

/// -n (buyers), -z (how long), --streams (hold so many event streams instead of polling).
async fn polled(options: &RunOptions) -> Result<ExitCode, Failure> {
    let buyers = options.load.requests.unwrap_or(64);
    let plan = PollingPlan {
        buyers: small(buyers, "-n")?,
        streams: options.streams,
        lasts: options.load.duration.unwrap_or(Duration::from_secs(10)),
        limit: 500,
    };
    let stage = Stage::set(options, buyers).await?;
    let played = polling::play(&stage.clients, &stage.admin, &stage.tokens, plan).await;
    show(options, played, polling::PollingReport::holds)
}

/// Prints the report, or writes it as JSON where `--json` says.
fn show<R: Serialize + Display>(
    options: &RunOptions,
    report: Result<R, Error>,
    holds: impl Fn(&R) -> bool,
) -> Result<ExitCode, Failure> {
    let report = report?;
    let shown = match &options.json {
        Some(file) => {
            let json = serde_json::to_string_pretty(&report);
            let json = json.map_err(|error| Failure::Fault(error.to_string()))?;
            if file.as_os_str() == "-" {
                json
            } else {
                let failed = |error| Failure::Fault(format!("cannot write {}: {error}", file.display()));
                std::fs::write(file, json).map_err(failed)?;
                report.to_string()
            }
        }
        None => report.to_string(),
    };
    crate::command::print(&shown)?;
    Ok(ExitCode::from(if holds(&report) { 0 } else { 3 }))
}
