//! A load as users write it: the flags of the command line and the fields of a scenario file are the same struct. It is turned
//! into a plan here.

use std::time::Duration;

use clap::{Args, value_parser};
use serde::{Deserialize, Deserializer};

use crate::error::Error;
use crate::plan::fields::{duration, text};
use crate::plan::lifecycle::{LifecycleFlags, LifecyclePlan};
use crate::plan::schedule::{Arrivals, MAX_REQUESTS, Plan};
use crate::plan::stages::{Stages, parse_duration, parse_rate};
use crate::report::threshold::Threshold;

/// How long a constant rate lasts, unless a duration is given.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Different buyers of a closed run that ends after a time.
const DEFAULT_CLOSED_BUYERS: u64 = 200_000;
/// Connections of the open model at the start, unless a number is given.
const DEFAULT_CONNECTIONS: u16 = 256;
/// Connections of the open model at the most, unless a number is given.
const DEFAULT_MAX_CONNECTIONS: u16 = 2_048;
/// More seeds than this would need user ids above what a signed 64-bit integer holds.
const SEEDS: u64 = 900_000_000_000;

/// The presets: each is the file of its name in `scenarios/`.
const PRESETS: [(&str, &str); 7] = [
    ("spike", include_str!("../../scenarios/spike.toml")),
    ("step", include_str!("../../scenarios/step.toml")),
    ("ramp", include_str!("../../scenarios/ramp.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
    ("duplicates", include_str!("../../scenarios/duplicates.toml")),
    ("clickers", include_str!("../../scenarios/clickers.toml")),
    ("lifecycle", include_str!("../../scenarios/lifecycle.toml")),
];

/// What is sent, when and by whom, and the thresholds. In a file the fields have the flags' names, with `_` for `-`; those of
/// what buyers do after the order are in the table `[lifecycle]`.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Open model: so many buyers come every second. With a preset or a file that has stages: the highest rate is set to this.
    #[arg(long, value_parser = parse_rate, allow_negative_numbers = true, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Open model: rates to move to in a straight line, each within a time, such as 5s:200,2s:20000,10s:20000,5s:0.
    #[arg(long, value_parser = Stages::parse, help_heading = "Load")]
    #[serde(deserialize_with = "stages")]
    pub stages: Option<Stages>,
    /// End after so many requests.
    #[arg(short = 'n', long, value_parser = value_parser!(u64).range(1..=MAX_REQUESTS), help_heading = "Load")]
    pub requests: Option<u64>,
    /// End after this time [default: 10s].
    #[arg(short = 'z', long, value_parser = parse_duration, help_heading = "Load")]
    #[serde(deserialize_with = "duration")]
    pub duration: Option<Duration>,
    /// Without a rate or stages: closed model, on each connection the next request as soon as the last was answered.
    /// With them: connections, and no more than these.
    #[arg(short = 'c', long, value_parser = value_parser!(u16).range(1..), help_heading = "Load")]
    pub connections: Option<u16>,
    /// Open model: connections at the most; more than 256 are opened when requests are due and all are busy [default:
    /// 2048, or as many as -c says].
    #[arg(long, value_parser = value_parser!(u16).range(1..), help_heading = "Load")]
    pub max_connections: Option<u16>,
    /// Leave the first part of the run out of latency and rates; its orders are verified all the same.
    #[arg(long, value_parser = parse_duration, help_heading = "Load")]
    #[serde(deserialize_with = "duration")]
    pub warmup: Option<Duration>,
    /// The seed decides who the buyers are, which of them send again, and which are bots. The same seed makes the same run,
    /// another seed has other buyers [default: 1].
    #[arg(long, help_heading = "Buyers")]
    pub seed: Option<u64>,
    /// The user id of the first buyer, instead of one that follows from the seed; the others count up from it.
    #[arg(long, help_heading = "Buyers")]
    pub first_user: Option<u64>,
    /// Closed model: different buyers, who come again once all have come [default: as many as requests, or 200000].
    #[arg(long, value_parser = value_parser!(u64).range(1..=MAX_REQUESTS), help_heading = "Buyers")]
    pub users: Option<u64>,
    /// The share of buyers, 0 to 1, that sends the same request again within 50 ms.
    #[arg(long, help_heading = "Buyers")]
    pub retry_ratio: Option<f64>,
    /// Requests that every buyer sends at once, such as 3 for double clicks.
    #[arg(long, help_heading = "Buyers")]
    pub copies: Option<u32>,
    /// The share of buyers, 0 to 1, that are bots: they send the same request every 20 ms.
    #[arg(long, help_heading = "Buyers")]
    pub bots: Option<f64>,
    /// Requests of one bot [default: 50].
    #[arg(long, help_heading = "Buyers")]
    pub bot_requests: Option<u32>,
    /// Units that every buyer wants [default: 1].
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000), help_heading = "Buyers")]
    pub quantity: Option<u32>,
    /// Units of the sale that is made for the run [default: 10000].
    #[arg(long, value_parser = value_parser!(u64).range(1..=100_000_000), help_heading = "Sale")]
    pub stock: Option<u64>,
    /// How long one request may take [default: 10s].
    #[arg(long, value_parser = parse_duration, help_heading = "Load")]
    #[serde(deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// A condition on the results, such as 'p99<200ms', 'oversold==0' or 'accepted_rate>3000'; may be given again.
    #[arg(long = "threshold", value_name = "THRESHOLD", help_heading = "Report")]
    #[serde(deserialize_with = "thresholds")]
    pub thresholds: Vec<Threshold>,
    #[command(flatten)]
    pub lifecycle: LifecycleFlags,
}

impl Scenario {
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// A preset; `None`: there is none of that name.
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name)?;
        Some(Self::parse(text).expect("a test reads every preset"))
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`Error::Scenario`] with the line that is wrong.
    pub fn parse(toml: &str) -> Result<Self, Error> {
        toml::from_str(toml)
            .map_err(|error| Error::Scenario { reason: error.to_string().trim_end().to_owned() })
    }

    /// Fields that are not set are taken from `base`, a preset or a file. A rate scales the base's stages. The thresholds of both
    /// apply.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let (rate, stages) = match (self.rate, self.stages, base.stages) {
            (Some(peak), None, Some(shape)) => (None, Some(shape.scaled_to(peak))),
            (rate, None, shape) => (rate.or(base.rate), shape),
            (rate, Some(stages), _) => (rate, Some(stages)),
        };
        // A base's duration belongs to its rate.
        let duration = if stages.is_some() { self.duration } else { self.duration.or(base.duration) };
        Self {
            rate,
            stages,
            duration,
            requests: self.requests.or(base.requests),
            connections: self.connections.or(base.connections),
            max_connections: self.max_connections.or(base.max_connections),
            warmup: self.warmup.or(base.warmup),
            seed: self.seed.or(base.seed),
            first_user: self.first_user.or(base.first_user),
            users: self.users.or(base.users),
            retry_ratio: self.retry_ratio.or(base.retry_ratio),
            copies: self.copies.or(base.copies),
            bots: self.bots.or(base.bots),
            bot_requests: self.bot_requests.or(base.bot_requests),
            quantity: self.quantity.or(base.quantity),
            stock: self.stock.or(base.stock),
            timeout: self.timeout.or(base.timeout),
            thresholds: base.thresholds.into_iter().chain(self.thresholds).collect(),
            lifecycle: self.lifecycle.over(base.lifecycle),
        }
    }

    /// Whether no field sets how much load there is.
    pub fn is_loadless(&self) -> bool {
        self.rate.is_none() && self.stages.is_none() && self.connections.is_none()
    }

    /// The plan of this scenario.
    ///
    /// # Errors
    /// [`Error::Clash`] for fields that contradict each other, [`Error::Plan`] for one outside its range.
    pub fn plan(&self) -> Result<Plan, Error> {
        let arrivals = self.arrivals()?;
        let seed = self.seed.unwrap_or(1);
        // Every seed has its own range of user ids, as large as the largest run.
        let first_user = self.first_user.unwrap_or_else(|| 1 + seed.saturating_sub(1) % SEEDS * MAX_REQUESTS);
        let new = Plan::new(arrivals, first_user);
        let plan = Plan {
            seed,
            copies: self.copies.unwrap_or(new.copies),
            retry_ratio: self.retry_ratio.unwrap_or(new.retry_ratio),
            bots: self.bots.unwrap_or(new.bots),
            bot_requests: self.bot_requests.unwrap_or(new.bot_requests),
            requests: self.requests,
            ..new
        };
        plan.check()?;
        self.check_warmup(&plan)?;
        Ok(plan)
    }

    /// What the buyers do after the order; `None`: nothing.
    ///
    /// # Errors
    /// [`Error::Plan`] for shares that do not add up to 1, or a field outside its range.
    pub fn lifecycle_plan(&self) -> Result<Option<LifecyclePlan>, Error> {
        self.lifecycle.plan(self.seed.unwrap_or(1))
    }

    fn arrivals(&self) -> Result<Arrivals, Error> {
        let clash = |what, example| Err(Error::Clash { what, example });
        let closed = self.rate.is_none() && self.stages.is_none();
        if !closed && self.users.is_some() {
            return clash(
                "--users is for the closed model, but a rate or stages make it open",
                "-c 64 -n 100000 --users 5000",
            );
        }
        match (self.rate, &self.stages) {
            (Some(_), Some(_)) => clash(
                "a rate and stages both say how many buyers come",
                "--rate 5000 -z 10s, or --stages 5s:200,2s:20000",
            ),
            (None, Some(_)) if self.duration.is_some() => clash(
                "the stages say how long the run lasts, and so does a duration",
                "--stages 5s:200,10s:20000 without -z",
            ),
            (None, Some(stages)) => Ok(Arrivals::Stages(stages.clone())),
            (Some(rate), None) => {
                let of_requests = self.requests.filter(|_| rate > 0.0).map(|n| n as f64 / rate);
                let of_requests = of_requests.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let lasts = self.duration.or(of_requests).unwrap_or(DEFAULT_DURATION);
                Ok(Arrivals::Stages(Stages::constant(rate, lasts)))
            }
            (None, None) => self.closed(),
        }
    }

    fn closed(&self) -> Result<Arrivals, Error> {
        let clash = |what, example| Err(Error::Clash { what, example });
        if self.connections.is_none() {
            return clash(
                "nothing says how much load there is",
                "run spike, --rate 5000 -z 10s, or -c 64 -z 10s",
            );
        }
        let repeats = self.copies.is_some() || self.bots.is_some() || self.retry_ratio.is_some();
        if repeats || self.max_connections.is_some() {
            return clash(
                "copies, bots, retries and a number of connections at the most need the open model, but without a rate or \
                 stages the model is closed",
                "--rate 1000 --copies 3",
            );
        }
        let lasts = self.duration.or(self.requests.is_none().then_some(DEFAULT_DURATION));
        let buyers = self.users.or(self.requests).unwrap_or(DEFAULT_CLOSED_BUYERS);
        Ok(Arrivals::Closed { buyers, lasts })
    }

    fn check_warmup(&self, plan: &Plan) -> Result<(), Error> {
        let lasts = match &plan.arrivals {
            Arrivals::Stages(stages) => Some(stages.duration()),
            Arrivals::Closed { lasts, .. } => *lasts,
            Arrivals::Spread { over, .. } => Some(*over),
        };
        if self.warmup.zip(lasts).is_some_and(|(warmup, lasts)| warmup >= lasts) {
            return Err(Error::Clash {
                what: "the warm-up leaves nothing of the run",
                example: "--rate 500 -z 30s --warmup 5s",
            });
        }
        Ok(())
    }

    pub fn connections(&self) -> u16 {
        self.connections.unwrap_or(DEFAULT_CONNECTIONS.min(self.max_connections.unwrap_or(u16::MAX)))
    }

    /// Connections at the most.
    pub fn max_connections(&self) -> u16 {
        self.max_connections.or(self.connections).unwrap_or(DEFAULT_MAX_CONNECTIONS).max(self.connections())
    }
}

fn stages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Stages>, D::Error> {
    text(deserializer, Stages::parse)
}

fn thresholds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Threshold>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}
