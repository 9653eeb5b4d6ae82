//! Runs experiments inside a gateway, one at a time, and keeps the newest report of each for whoever looks.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Arm, Experiment, Needs, Place, Report, Side, Store, play_in_steps};

/// Opens a place for one experiment; the sentence says why that is not possible.
pub type OpenPlace =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Place, String>> + Send>> + Send + Sync>;

/// Where experiments of a gateway run.
#[derive(Clone)]
pub struct Places {
    pub store: Store,
    pub open: OpenPlace,
}

/// Why no experiment was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStarted {
    /// Another one is running.
    Busy,
    /// It needs servers, and this gateway has none.
    NeedsServers,
}

/// The experiment that is running now.
#[derive(Debug, Clone, Serialize)]
pub struct Running {
    pub name: &'static str,
    pub seed: u64,
    /// The side that is being run.
    pub side: Side,
    /// The first side, once it has ended.
    pub without: Option<Arm>,
}

/// How an experiment ended last.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Report(Box<Report>),
    /// It could not be run to its end; why.
    Failed(String),
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    ended: BTreeMap<&'static str, Ended>,
}

/// Runs experiments one at a time.
pub struct Runner {
    places: Places,
    shutdown: CancellationToken,
    /// Held only to read and write; never across an await.
    state: Mutex<State>,
}

impl Runner {
    /// A runner whose experiment ends with `shutdown`. What that leaves behind, its next run removes.
    pub fn new(places: Places, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { places, shutdown, state: Mutex::default() })
    }

    /// Whether an experiment can run here.
    pub fn can_run(&self, experiment: &dyn Experiment) -> bool {
        experiment.about().needs == Needs::Nothing || self.places.store == Store::Cluster
    }

    pub fn running(&self) -> Option<Running> {
        self.state().running.clone()
    }

    /// How the experiment of this name ended last; `None`: it has not run in this process.
    pub fn ended(&self, name: &str) -> Option<Ended> {
        self.state().ended.get(name).cloned()
    }

    /// Starts an experiment on the current runtime and returns at once.
    ///
    /// # Errors
    /// [`NotStarted`]: nothing was started.
    pub fn start(self: &Arc<Self>, experiment: &'static dyn Experiment, seed: u64) -> Result<(), NotStarted> {
        if !self.can_run(experiment) {
            return Err(NotStarted::NeedsServers);
        }
        let name = experiment.about().name;
        let mut state = self.state();
        if state.running.is_some() {
            return Err(NotStarted::Busy);
        }
        state.running = Some(Running { name, seed, side: Side::Without, without: None });
        drop(state);
        tokio::spawn(Arc::clone(self).supervise(experiment, seed));
        Ok(())
    }

    /// Runs it in a task of its own, so that a panic ends the experiment and nothing else.
    async fn supervise(self: Arc<Self>, experiment: &'static dyn Experiment, seed: u64) {
        let run = tokio::spawn(Arc::clone(&self).run(experiment, seed));
        let ended = run.await.unwrap_or_else(|panic| {
            tracing::error!(error = %panic, "an experiment broke down");
            Ended::Failed("the experiment broke down; see the log".to_owned())
        });
        let mut state = self.state();
        state.running = None;
        state.ended.insert(experiment.about().name, ended);
    }

    async fn run(self: Arc<Self>, experiment: &'static dyn Experiment, seed: u64) -> Ended {
        let played = async {
            let place = (self.places.open)().await?;
            let ended = |without: &Arm| {
                if let Some(running) = &mut self.state().running {
                    (running.side, running.without) = (Side::With, Some(without.clone()));
                }
            };
            play_in_steps(experiment, &place, seed, ended).await.map_err(|trouble| trouble.to_string())
        };
        match self.shutdown.run_until_cancelled(played).await {
            Some(Ok(report)) => Ended::Report(Box::new(report)),
            Some(Err(why)) => Ended::Failed(why),
            None => Ended::Failed("the gateway has ended".to_owned()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
