//! What a run may be: the presets, the allowed values, and the command that does the same in a terminal. Sends nothing.

use loadtest::{Plan, Scenario};
use seckill_core::FieldError;
use serde::{Deserialize, Serialize};

use super::LoadCommand;

/// The highest rate, in requests a second: more than a process that is gateway and load generator at once can send.
const MAX_PEAK_RATE: f64 = 50_000.0;
/// The most buyers, requests and units of one run. A buyer's token and record take some hundred bytes.
const MAX_REQUESTS: u32 = 2_000_000;
/// The longest time of sending, in seconds: that of the longest preset.
pub(super) const MAX_SECONDS: u64 = 600;
/// The most connections. Both of their ends may be in this process.
pub(super) const MAX_CONNECTIONS: u16 = 512;

/// The path that a run is sent along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadMode {
    /// Gate, queue and worker.
    #[default]
    Queue,
    /// Straight into the database.
    Direct,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRequest {
    pub preset: String,
    /// The highest rate in place of the preset's: 1 to 50,000 requests a second.
    #[serde(default)]
    pub peak_rate: Option<f64>,
    /// The number of requests after which the run ends: 1 to 2,000,000.
    #[serde(default)]
    pub buyers: Option<u32>,
    /// The share of buyers, 0 to 1, that send the same request again.
    #[serde(default)]
    pub duplicate_share: Option<f64>,
    /// Units of the run's sale: 1 to 2,000,000.
    #[serde(default)]
    pub stock: Option<u32>,
    /// The path that it is sent along.
    #[serde(default)]
    pub mode: LoadMode,
}

/// A preset, described for the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PresetView {
    pub name: &'static str,
    /// Its highest rate, in requests a second.
    pub peak_rate: f64,
    /// The highest rate that it may be sent with: its requests grow with the rate.
    pub max_rate: f64,
    /// Different buyers.
    pub buyers: u64,
    /// Its load and its purpose, in a sentence.
    pub description: &'static str,
}

/// The highest values that a run may have, which the form of the page and the checks here share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LoadLimits {
    /// Requests a second.
    pub peak_rate: f64,
    pub buyers: u32,
    pub stock: u32,
}

impl LoadLimits {
    pub(super) const ALL: Self = Self { peak_rate: MAX_PEAK_RATE, buyers: MAX_REQUESTS, stock: MAX_REQUESTS };
}

pub(super) fn presets() -> Vec<PresetView> {
    let view = |name| {
        let scenario = Scenario::preset(name)?;
        let plan = scenario.plan().ok()?;
        let (peak_rate, buyers) = (peak_rate(&scenario), plan.buyers());
        let max_rate = (f64::from(MAX_REQUESTS) / requests_per_rate(&scenario)?).floor().min(MAX_PEAK_RATE);
        Some(PresetView { name, peak_rate, max_rate, buyers, description: description(name) })
    };
    names().filter_map(view).collect()
}

/// The presets that end with the order. What comes after it needs a sale with payments, and a bank.
fn names() -> impl Iterator<Item = &'static str> {
    Scenario::presets().filter(|name| *name != "lifecycle")
}

fn description(preset: &str) -> &'static str {
    match preset {
        "spike" => {
            "A trickle, then everybody within a second, then a trickle again: a flash sale as it is meant."
        }
        "step" => {
            "Doubles the rate every five seconds: the last step whose latency stays flat is what it carries."
        }
        "ramp" => "From nothing to the highest rate in half a minute: shows where latency begins to rise.",
        "soak" => "A steady load for ten minutes: shows what grows with time.",
        "duplicates" => "Every buyer sends the same request three times at once; each may get one order.",
        "clickers" => "One buyer in twenty is a script that sends every 20 ms; the others must not feel it.",
        _ => "",
    }
}

fn peak_rate(scenario: &Scenario) -> f64 {
    scenario.stages.as_ref().map(loadtest::Stages::peak).or(scenario.rate).unwrap_or_default()
}

/// A run whose fields were checked.
#[derive(Debug)]
pub(super) struct PlannedRun {
    pub(super) preset: String,
    pub(super) mode: LoadMode,
    pub(super) peak_rate: f64,
    pub(super) scenario: Scenario,
    pub(super) plan: Plan,
    /// Units of its sale.
    pub(super) stock: u64,
    /// Where it differs from the preset: flags of `loadtest run`.
    flags: String,
}

impl LoadRequest {
    /// Checks every field and makes the plan.
    pub(super) fn check(self) -> Result<PlannedRun, Vec<FieldError>> {
        let Self { preset, peak_rate: rate, buyers, duplicate_share, stock, mode } = self;
        let base = Scenario::preset(&preset).filter(|_| names().any(|name| name == preset));
        let mut wrong = Vec::new();
        let mut require = |holds: bool, field, message: String| {
            if !holds {
                wrong.push(FieldError::new(field, message));
            }
        };
        let names: Vec<&str> = names().collect();
        require(base.is_some(), "preset", format!("is {preset:?}; allowed are {}", names.join(", ")));
        if let Some(rate) = rate {
            let allowed = format!("is {rate}; allowed are 1 to {MAX_PEAK_RATE} requests a second");
            require((1.0..=MAX_PEAK_RATE).contains(&rate), "peak_rate", allowed);
        }
        if let Some(share) = duplicate_share {
            let allowed = format!("is {share}; allowed is a share from 0 to 1, such as 0.1");
            require((0.0..=1.0).contains(&share), "duplicate_share", allowed);
        }
        for (field, value) in [("buyers", buyers), ("stock", stock)] {
            let Some(value) = value else { continue };
            let allowed = format!("is {value}; allowed are 1 to {MAX_REQUESTS}");
            require((1..=MAX_REQUESTS).contains(&value), field, allowed);
        }
        let Some(base) = base.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let flags = Scenario {
            rate,
            requests: buyers.map(u64::from),
            retry_ratio: duplicate_share,
            stock: stock.map(u64::from),
            max_connections: Some(MAX_CONNECTIONS),
            ..Scenario::default()
        };
        if let Some(error) = rate.and_then(|rate| too_much(rate, &flags, &base)) {
            return Err(vec![error]);
        }
        let command = command(&flags);
        let scenario = flags.over(base);
        let plan =
            scenario.plan().map_err(|error| vec![FieldError::new("preset", format!("{preset}: {error}"))])?;
        let stock = scenario.stock.unwrap_or(u64::from(MAX_REQUESTS));
        Ok(PlannedRun {
            preset,
            mode,
            peak_rate: peak_rate(&scenario),
            plan,
            stock,
            scenario,
            flags: command,
        })
    }
}

/// The error of a rate with which the run has too many requests, because the requests of a preset grow with its rate.
fn too_much(rate: f64, flags: &Scenario, base: &Scenario) -> Option<FieldError> {
    let unscaled = Scenario { rate: None, requests: None, ..flags.clone() };
    let scale = requests_per_rate(&unscaled.over(base.clone()))?;
    let most = f64::from(MAX_REQUESTS);
    let message = || {
        let (makes, less) = ((rate * scale).round(), (most / scale).floor());
        format!(
            "is {rate}, which makes {makes} requests of this preset; allowed are {most}: give {less} or less"
        )
    };
    (rate * scale > most).then(|| FieldError::new("peak_rate", message()))
}

/// Requests for each request a second of the highest rate.
fn requests_per_rate(scenario: &Scenario) -> Option<f64> {
    let plan = scenario.plan().ok()?;
    Some(plan.total().unwrap_or_default().max(plan.buyers()) as f64 / peak_rate(scenario))
}

fn command(flags: &Scenario) -> String {
    let mut text = String::new();
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {value}"));
        }
    };
    flag("--rate", flags.rate.map(|rate| rate.to_string()));
    flag("-n", flags.requests.map(|requests| requests.to_string()));
    flag("--retry-ratio", flags.retry_ratio.map(|ratio| ratio.to_string()));
    flag("--stock", flags.stock.map(|stock| stock.to_string()));
    flag("--max-connections", flags.max_connections.map(|most| most.to_string()));
    text
}

impl PlannedRun {
    /// The command that does the same in a terminal.
    pub(super) fn command(&self, target: &str, with: &LoadCommand) -> String {
        let LoadCommand { program, secrets } = with;
        let gap = if secrets.is_empty() { "" } else { " " };
        format!("{program} run {} --target {target}{}{gap}{secrets}", self.preset, self.flags)
    }
}
