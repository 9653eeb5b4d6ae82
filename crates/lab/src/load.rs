//! Load runs inside the gateway's process: one at a time, each on a sale of its own, sent over real HTTP by the load
//! generator's library, with its verdict at the end. `request` has what a run may be, `run` its steps, `status` its
//! description for others.

mod failure;
mod kept;
mod request;
mod run;
mod status;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seckill_core::FieldError;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use failure::Failure;
pub use kept::{Curve, KeptRun};
pub use request::{LoadLimits, LoadMode, LoadRequest, PresetView};
pub use status::{LoadState, LoadStatus, LoadVerdict};

use kept::KeptRuns;
use run::Run;

/// Where load goes, and what it needs.
#[derive(Clone)]
pub struct LoadConfig {
    /// This gateway's base address.
    pub target: String,
    /// The base address of a gateway in direct mode with the same secrets, if there is one.
    pub direct: Option<String>,
    /// Opens the runs' sales and looks their orders up.
    pub admin_token: SecretString,
    /// A buyer's bearer token. Must outlive the longest run.
    pub sign: Arc<dyn Fn(u64) -> String + Send + Sync>,
    /// The file that keeps the last runs; `None`: they end with the process.
    pub kept_in: Option<PathBuf>,
    /// Counts the transactions of all workers; `None`: nobody does.
    pub transactions: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
    /// How a terminal does the same.
    pub command: LoadCommand,
}

/// The load generator in a terminal, in words that a shell can take as they stand.
#[derive(Debug, Clone)]
pub struct LoadCommand {
    /// How the program is called.
    pub program: String,
    /// The flag with the folder of the secrets, such as `--data-dir /srv/seckill-data`; empty: they are in the environment.
    pub secrets: String,
}

impl Default for LoadCommand {
    fn default() -> Self {
        Self { program: "loadtest".to_owned(), secrets: String::new() }
    }
}

/// Why no run was started.
#[derive(Debug)]
pub enum LoadRefusal {
    /// Another run is under way.
    Busy,
    /// Every wrong field, each with the allowed values.
    Invalid(Vec<FieldError>),
    /// The run is not possible here, with the reason.
    Unavailable(String),
}

/// After so long without a commit the rest counts as lost, as in `loadtest run`.
const DRAIN_STALL: Duration = Duration::from_secs(30);
/// How long a run may go on for its requests under way when the process ends.
const CLOSING: Duration = Duration::from_secs(2);

/// Starts runs, and keeps the last ones.
pub struct LoadRunner {
    config: LoadConfig,
    drain_stall: Duration,
    /// Held only to read and swap; never across an await.
    newest: Mutex<Option<Started>>,
    kept: Arc<KeptRuns>,
}

/// A run and its task.
struct Started {
    run: Arc<Run>,
    /// Taken out by `close`, which waits for its end.
    task: Option<JoinHandle<()>>,
}

impl LoadRunner {
    /// A runner that has not started a run yet.
    pub fn new(config: LoadConfig) -> Arc<Self> {
        Self::with_drain_stall(config, DRAIN_STALL)
    }

    /// A runner whose runs stop waiting for the drain when nothing was committed for `drain_stall`, instead of 30 s.
    pub fn with_drain_stall(config: LoadConfig, drain_stall: Duration) -> Arc<Self> {
        let kept = Arc::new(KeptRuns::read(config.kept_in.clone()));
        Arc::new(Self { config, drain_stall, newest: Mutex::default(), kept })
    }

    pub fn presets() -> Vec<PresetView> {
        request::presets()
    }

    /// The highest values that a run may have.
    pub fn limits() -> LoadLimits {
        LoadLimits::ALL
    }

    /// Whether there is a direct gateway to send runs to.
    pub fn has_direct(&self) -> bool {
        self.config.direct.is_some()
    }

    /// Starts a run on the current runtime and returns at once; [`Self::status`] says how the run goes on.
    ///
    /// # Errors
    /// [`LoadRefusal`]: nothing was started.
    pub fn start(self: &Arc<Self>, request: LoadRequest) -> Result<LoadStatus, LoadRefusal> {
        let planned = request.check().map_err(LoadRefusal::Invalid)?;
        let target = match planned.mode {
            LoadMode::Queue => self.config.target.clone(),
            LoadMode::Direct => self.config.direct.clone().ok_or_else(|| {
                let why = "no gateway in direct mode is at hand, so there is nothing to compare with";
                LoadRefusal::Unavailable(why.to_owned())
            })?,
        };
        let mut newest = self.newest();
        if newest.as_ref().is_some_and(|started| !started.run.status().has_ended()) {
            return Err(LoadRefusal::Busy);
        }
        let command = planned.command(&target, &self.config.command);
        let run = Arc::new(Run::new(planned, target, command, self.drain_stall));
        let status = run.status();
        let task = tokio::spawn(supervise(Arc::clone(&run), self.config.clone(), Arc::clone(&self.kept)));
        *newest = Some(Started { run, task: Some(task) });
        Ok(status)
    }

    /// The newest run, if there was one, also before this process.
    pub fn status(&self) -> Option<LoadStatus> {
        self.newest().as_ref().map(|started| started.run.status()).or_else(|| self.kept.newest())
    }

    /// Asks the run to end: it sends no more requests, and waits for those under way. `None` if no run is under way.
    pub fn stop(&self) -> Option<LoadStatus> {
        let newest = self.newest();
        let run = &newest.as_ref()?.run;
        if run.status().has_ended() {
            return None;
        }
        run.stop();
        Some(run.status())
    }

    /// The last runs that have ended, newest first; ten at the most.
    pub fn runs(&self) -> Vec<KeptRun> {
        self.kept.list()
    }

    /// The report of one of them as a page of its own, as `loadtest --html` writes it; `None`: there is no such run, or it has none.
    pub fn report_page(&self, id: &str) -> Option<String> {
        self.kept.report(id).map(|report| loadtest::html::render(&report))
    }

    /// Ends the run under way, if there is one, within two seconds. Called when the process ends.
    pub async fn close(&self) {
        let under_way = |started: &mut Started| Some((Arc::clone(&started.run), started.task.take()?));
        let Some((run, mut task)) = self.newest().as_mut().and_then(under_way) else { return };
        run.stop();
        if timeout(CLOSING, &mut task).await.is_err() {
            // Its requests under way are dropped. Orders that were accepted are committed all the same.
            task.abort();
            let _ = task.await;
            run.stopped();
            self.kept.keep(run.status(), None).await;
        }
    }

    fn newest(&self) -> MutexGuard<'_, Option<Started>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plays a run in a task of its own, so that a panic ends the run and nothing else, and keeps it.
async fn supervise(run: Arc<Run>, config: LoadConfig, kept: Arc<KeptRuns>) {
    kept.keep(run.status(), None).await;
    let ended = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(Arc::clone(&run).play(config))).await;
    let report = ended.unwrap_or_else(|panic| {
        tracing::error!(error = %panic, "a load run broke down");
        run.fail(Failure::broke_down());
        None
    });
    kept.keep(run.status(), report).await;
}
