//! `loadtest run waiting-room`: buyers who wait for their turn. Of the load's flags it takes -n (buyers), --rate (of the inlet), --stock,
//! and -z (when to give up).

use std::process::ExitCode;
use std::time::Duration;

use loadtest::plan::schedule::Plan;
use loadtest::send::client::Clients;
use loadtest::send::target::Target;
use loadtest::waiting::{WaitingPlan, play};

use crate::cli::{Failure, RunOptions};
use crate::inputs;

/// What the scenario is called on the command line.
pub(crate) const NAME: &str = "waiting-room";
const BUYERS: u64 = 500;
const STOCK: u64 = 200;
const RATE: f64 = 20.0;
/// How long the buyers have to enter before the start.
const STARTS_IN: Duration = Duration::from_secs(10);
/// When to give up.
const DEADLINE: Duration = Duration::from_secs(300);

/// Plays the scenario and prints what came of it.
pub(crate) async fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    let usage = |text: &str| Failure::Usage(text.to_owned());
    let admin = options.admin_token.as_deref().ok_or_else(|| {
        usage("the scenario makes a sale with a waiting room: give --admin-token, or --admin-token-file")
    })?;
    let admin = loadtest::check::shop::bearer(admin)?;
    let (load, too_large) =
        (&options.load, || usage("-n, --rate or --stock is too large for a waiting room"));
    let buyers = load.requests.unwrap_or(BUYERS);
    let rate = load.rate.unwrap_or(RATE);
    if !(1.0..=100_000.0).contains(&rate) || rate.fract() != 0.0 {
        return Err(usage("--rate is the rate of the inlet: a whole number from 1 to 100000"));
    }
    let plan = WaitingPlan {
        buyers: u32::try_from(buyers).map_err(|_| too_large())?,
        stock: u32::try_from(load.stock.unwrap_or(STOCK)).map_err(|_| too_large())?,
        // A whole number within the range that was just checked.
        rate: rate as u32,
        starts_in: STARTS_IN,
        proof_of_work: true,
        deadline: load.duration.unwrap_or(DEADLINE),
    };
    let first_user = load.first_user.unwrap_or(1);
    let tokens = inputs::tokens(options, &Plan::spread(buyers, first_user, Duration::from_secs(1)))?;
    let clients = Clients::connect(Target::parse(&options.target)?, 1).await?;
    let report = play(&clients, &admin, &tokens, plan).await?;
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
    Ok(ExitCode::from(if report.holds() { 0 } else { 3 }))
}
