//! What an experiment is: a question about message queues, a prediction, and two runs on the same seed of faults, without a safeguard
//! and with it. Where one runs is in [`place`], what goes wrong in [`dice`]; the experiments are in [`crate::experiments`].

pub(crate) mod dice;
pub(crate) mod place;
pub(crate) mod queue;
mod report;
mod runner;
mod safeguard;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use seckill_core::Fault;
use serde::Serialize;
use thiserror::Error;

pub(crate) use dice::Dice;
pub use place::{Parts, Place, Store};
pub use report::{Arm, Count, Expected, Findings, Measure, Report, Verdict};
pub use runner::{Ended, NotStarted, OpenPlace, Places, Runner, Running};
pub(crate) use safeguard::safeguard;
pub use safeguard::{Line, Safeguard};

/// The longest that both runs of an experiment may take together.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest that clearing up may take after an error.
const CLEARING: Duration = Duration::from_secs(10);

/// The same in both languages of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Text {
    pub en: &'static str,
    pub zh: &'static str,
}

/// Words in English and in Chinese.
pub(crate) const fn text(en: &'static str, zh: &'static str) -> Text {
    Text { en, zh }
}

/// What an experiment is about.
#[derive(Debug, Serialize)]
pub struct About {
    /// As it is called on the command line.
    pub name: &'static str,
    pub question: Text,
    /// What will happen, said before it happens.
    pub prediction: Text,
    /// What is done without the safeguard.
    pub without: Text,
    /// What is done with it.
    pub with: Text,
    /// Which numbers to look at.
    pub look_at: Text,
    pub needs: Needs,
    /// What the two sides are called where both are to hold, and the measures are compared; `None`: without and with the safeguard.
    pub columns: Option<[Text; 2]>,
    /// Where this project has the safeguard.
    #[serde(skip)]
    pub safeguard: Safeguard,
}

/// What an experiment can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// The embedded back end, or Redis, RabbitMQ and MySQL.
    Nothing,
    /// Redis, RabbitMQ and MySQL: the point is a server.
    Servers,
}

/// One of the two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Without,
    With,
}

/// One experiment.
#[async_trait]
pub trait Experiment: Send + Sync {
    fn about(&self) -> &'static About;

    /// Runs one side. The place is empty before and is emptied afterwards.
    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble>;
}

/// Why an experiment could not be run to its end. It says nothing about the question.
#[derive(Debug, Error)]
pub enum Trouble {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(
        "the experiment's own tables cannot be used ({0}); it needs a database that it can reach and make tables in: see --lab-mysql-url"
    )]
    Sql(String),
    #[error("Redis cannot be used ({0}); the experiment needs a server that it can reach and write to")]
    Redis(String),
    #[error("another experiment is running on this database; start this one when that has ended")]
    Busy,
    #[error("{0} needs Redis, RabbitMQ and MySQL: give --backend cluster and their URLs")]
    NeedsServers(&'static str),
    #[error("the experiment did not end within {0:?}; the machine may be too busy for it")]
    TooSlow(Duration),
}

// Without the cause as a source: each text is whole by itself, and would show it twice.
impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error.to_string())
    }
}

impl From<deadpool_redis::redis::RedisError> for Trouble {
    fn from(error: deadpool_redis::redis::RedisError) -> Self {
        Self::Redis(error.to_string())
    }
}

/// Runs an experiment: first without the safeguard, then with it, with the same faults.
///
/// # Errors
/// [`Trouble`]: it could not be run to its end. What it has made is removed all the same, as far as the servers answer; what is left
/// is removed by the next run of the same experiment.
pub async fn play(experiment: &dyn Experiment, place: &Place, seed: u64) -> Result<Report, Trouble> {
    play_in_steps(experiment, place, seed, |_| {}).await
}

/// As [`play`]; calls `ended` with the first side when that has ended.
pub(crate) async fn play_in_steps(
    experiment: &dyn Experiment,
    place: &Place,
    seed: u64,
    ended: impl Fn(&Arm) + Send,
) -> Result<Report, Trouble> {
    let about = experiment.about();
    if about.needs == Needs::Servers && place.store() == Store::Embedded {
        return Err(Trouble::NeedsServers(about.name));
    }
    let both = async {
        let without = arm(experiment, place, Side::Without, seed).await?;
        ended(&without);
        let with = arm(experiment, place, Side::With, seed).await?;
        Ok(Report::new(about, place.store(), seed, without, with))
    };
    let played = tokio::time::timeout(LONGEST, both).await.unwrap_or(Err(Trouble::TooSlow(LONGEST)));
    if played.is_err() {
        // It was interrupted, or could not clear up; what still is there then, the next run of this experiment removes.
        let _ = tokio::time::timeout(CLEARING, place.clear()).await;
    }
    played
}

async fn arm(experiment: &dyn Experiment, place: &Place, side: Side, seed: u64) -> Result<Arm, Trouble> {
    place.clear().await?;
    let began = Instant::now();
    let findings = experiment.run(place, side, &mut Dice::new(seed)).await;
    let (findings, seconds) = (findings?, began.elapsed().as_secs_f64());
    place.clear().await?;
    Ok(Arm::new(side, findings, seconds))
}
