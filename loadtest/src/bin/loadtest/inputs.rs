//! Reads and checks the inputs of a run before the first request: the scenario, the buyers' tokens, the sale, the files to
//! write.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;
use loadtest::check::shop::Shop;
use loadtest::error::Error;
use loadtest::plan::lifecycle::LifecyclePlan;
use loadtest::plan::scenario::Scenario;
use loadtest::plan::schedule::Plan;
use loadtest::plan::tokens::Tokens;
use loadtest::report::schema::SaleReport;
use loadtest::send::client::Clients;
use loadtest::send::target::Target;
use seckill_token::Signer;

use crate::cli::{Failure, RunOptions};
use crate::kept;

/// How long tokens, and a sale that is made for the run, are valid after the sending: longer than any drain.
const SPARE: Duration = Duration::from_secs(24 * 3_600);
/// Units of the sale that is made, unless a number is given.
const DEFAULT_STOCK: u64 = 10_000;
/// Files that are open beside the connections.
const OTHER_FILES: u64 = 64;

/// The scenario with everything that the flags override, and its name.
pub(crate) fn scenario(options: &RunOptions) -> Result<(Scenario, Option<String>), Failure> {
    if options.sale.is_some() && options.load.stock.is_some() {
        let text = "--stock is for a sale that is made for the run, but --sale names one that exists; give one of them";
        return Err(Failure::Usage(text.to_owned()));
    }
    let flags = options.load.clone();
    let Some(name) = &options.scenario else {
        if flags.is_loadless() && flags.requests.is_none() && flags.duration.is_none() {
            let spike = Scenario::preset("spike").expect("it is one of the presets");
            return Ok((flags.over(spike), Some("spike".to_owned())));
        }
        return Ok((flags, None));
    };
    if let Some(preset) = Scenario::preset(name) {
        return Ok((flags.over(preset), Some(name.clone())));
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let presets: Vec<&str> = Scenario::presets().chain(crate::played::NAMES).collect();
        let presets = presets.join(", ");
        Failure::Usage(format!(
            "{name:?} is not a preset, and it cannot be read as a file: {error}; give one of {presets}, or a file like \
             scenarios/spike.toml"
        ))
    })?;
    let file = Scenario::parse(&text).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok((flags.over(file), stem))
}

/// The same options, with the secrets read from their files, or from the folder of a gateway. An empty value counts as not given, because compose files set
/// variables to the empty text.
pub(crate) fn with_secrets(mut options: RunOptions) -> Result<RunOptions, Failure> {
    options.jwt_secret = secret("--jwt-secret", options.jwt_secret, options.jwt_secret_file.take())?;
    options.admin_token = secret("--admin-token", options.admin_token, options.admin_token_file.take())?;
    kept::fill(options)
}

fn secret(flag: &str, value: Option<String>, file: Option<OsString>) -> Result<Option<String>, Failure> {
    let value = value.filter(|value| !value.is_empty());
    let Some(file) = file.filter(|file| !file.is_empty()) else { return Ok(value) };
    if value.is_some() {
        let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
        return Err(Failure::Usage(format!(
            "{flag} (SECKILL_{variable}) and {flag}-file (SECKILL_{variable}_FILE) are both given; give one of them and \
             leave the other empty"
        )));
    }
    let shown = file.display();
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Failure::Usage(format!("cannot read {shown}, which {flag}-file names: {error}")))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::Usage(format!(
            "{shown}, which {flag}-file names, is empty; write the value into it"
        ))),
        text => Ok(Some(text.to_owned())),
    }
}

/// Checks that a report can be written, by opening the file. Its content stays.
pub(crate) fn check_writable(file: &Path, flag: &str) -> Result<(), Failure> {
    let existed = file.exists();
    OpenOptions::new().create(true).append(true).open(file).map_err(|error| {
        let file = file.display();
        Failure::Usage(format!(
            "{flag}: cannot write {file}: {error}; give a file in a folder that exists, like {flag} report"
        ))
    })?;
    if !existed {
        // So that a run that fails leaves no empty report. If this fails, the report overwrites the empty file.
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

/// One token for every buyer.
pub(crate) fn tokens(options: &RunOptions, plan: &Plan) -> Result<Tokens, Failure> {
    let tokens = match (&options.tokens, &options.jwt_secret) {
        (Some(file), _) => read_tokens(file, plan)?,
        (None, Some(secret)) => sign_tokens(plan, secret)?,
        (None, None) => {
            let text = "nothing signs the buyers' tokens; give --data-dir with the folder of an embedded gateway, or --jwt-secret-file FILE \
                 (or --jwt-secret), or --tokens FILE";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    if (tokens.len() as u64) < plan.comers() {
        return Err(Error::TooFewTokens { tokens: tokens.len(), buyers: plan.comers() }.into());
    }
    Ok(tokens)
}

/// Line by line: a million tokens are too many to hold twice.
fn read_tokens(file: &Path, plan: &Plan) -> Result<Tokens, Failure> {
    let named = file.display();
    let cannot =
        |error: std::io::Error| Failure::Usage(format!("cannot read the tokens from {named}: {error}"));
    let mut failed = None;
    let lines = BufReader::new(File::open(file).map_err(cannot)?).lines();
    let lines = lines.map_while(|line| line.map_err(|error| failed = Some(error)).ok());
    let tokens = Tokens::from_list(lines.take(plan.comers() as usize));
    if let Some(error) = failed {
        return Err(cannot(error));
    }
    tokens.map_err(|error| Failure::Usage(format!("{named} is not a list of one token a line: {error}")))
}

fn sign_tokens(plan: &Plan, secret: &str) -> Result<Tokens, Failure> {
    let signer = Signer::hs256(secret);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Failure::Fault("the clock of this machine is before 1970".to_owned()))?;
    let exp = (now + plan.lasts() + SPARE).as_secs();
    Ok(Tokens::sign(plan, |user| signer.sign(user, exp))?)
}

/// Connects as many times as the scenario needs, within the limit of open files.
pub(crate) async fn connect(options: &RunOptions, scenario: &Scenario) -> Result<Clients, Failure> {
    let target = Target::parse(&options.target)?;
    let timeout = scenario.timeout();
    let room = loadtest::send::limits::open_files()
        .map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES).max(1));
    let (first, most) = (u64::from(scenario.connections()), u64::from(scenario.max_connections()));
    if first > room {
        return Err(Failure::Usage(format!(
            "{first} connections are more than this process may open ({room}); raise the limit with ulimit -n, or give \
             fewer, like -c {room}"
        )));
    }
    if most > room && !options.quiet {
        eprintln!("note: {room} connections at the most, for the limit of open files (ulimit -n)");
    }
    let clients = Clients::connect_with(target, first as usize, timeout).await?;
    Ok(clients.growing_to(most.min(room) as usize))
}

/// The bank's address. A run that ends with the order has no use for it: then the variable of the environment counts as not
/// given.
pub(crate) fn bank(
    options: &RunOptions,
    lifecycle: Option<&LifecyclePlan>,
) -> Result<Option<Target>, Failure> {
    let bank = options.bank.as_deref().filter(|bank| !bank.is_empty() && lifecycle.is_some());
    Ok(bank.map(Target::parse).transpose()?)
}

/// The sale to buy from: the one that is named, or a new one.
pub(crate) async fn sale(
    options: &RunOptions,
    scenario: &Scenario,
    plan: &Plan,
    lifecycle: Option<&mut LifecyclePlan>,
    tokens: &Tokens,
    admin: Option<&HeaderValue>,
    shop: &mut Shop,
) -> Result<SaleReport, Failure> {
    let (view, created) = match (options.sale, admin) {
        (Some(id), admin) => {
            let target = options.target.clone();
            let view = shop.sale(id).await?.ok_or(Error::NoSuchSale { sale: id, target })?;
            if let Some(admin) = admin {
                shop.check_admin(admin, id).await?;
            }
            (view, false)
        }
        (None, Some(admin)) => {
            let stock = scenario.stock.unwrap_or(DEFAULT_STOCK);
            let (limit, lasts) = (scenario.quantity.unwrap_or(1), plan.lasts() + SPARE);
            let made = match &lifecycle {
                Some(LifecyclePlan { price_cents, window, .. }) => {
                    shop.create_with_payments(admin, stock, limit, lasts, *price_cents, *window).await?
                }
                None => shop.create(admin, stock, limit, lasts).await?,
            };
            (made, true)
        }
        (None, None) => {
            let text = "there is nothing to buy; name a sale, like --sale 1, or give --admin-token-file, --admin-token or --data-dir to have one made";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    view.check_open()?;
    if let Some(lifecycle) = lifecycle {
        // That of a sale which exists may be another one than was asked for.
        lifecycle.window = view.check_payments()?;
    }
    shop.check_buyers(tokens, view.id).await?;
    Ok(SaleReport { id: view.id, stock: Some(view.stock), created })
}
