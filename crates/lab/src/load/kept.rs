//! The last runs, with their verdicts and reports: in memory and, where there is a folder for it, in a file, so that they outlive
//! the gateway. A run that was under way when the gateway was killed has failed.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loadtest::Report;
use serde::{Deserialize, Serialize};

use super::status::ms;
use super::{Failure, LoadStatus};

/// Runs that are kept.
const KEPT: usize = 10;

/// A run that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    status: LoadStatus,
    /// `None`: it did not get as far.
    report: Option<Arc<Report>>,
}

/// A run as the page shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptRun {
    #[serde(flatten)]
    pub status: LoadStatus,
    /// `None`: it did not get as far.
    pub curve: Option<Curve>,
}

/// A run and its drain, second by second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// The names of a row's numbers.
    pub columns: [&'static str; 7],
    /// One row for each second: the second, counted from the start of the run; requests sent; orders accepted; orders committed; the
    /// 99th percentile of the latency in milliseconds; errors; orders between the gate and the ledger. `None`: not known.
    pub rows: Vec<[Option<f64>; 7]>,
}

impl Curve {
    fn of(report: &Report) -> Self {
        let mut before = 0;
        let row = |(at, second): (usize, &loadtest::Second)| {
            let committed =
                second.committed.map(|all| all.saturating_sub(std::mem::replace(&mut before, all)));
            let [sent, accepted, errors] =
                [second.sent, second.accepted, second.errors].map(|count| Some(count as f64));
            let [committed, backlog] =
                [committed, second.backlog].map(|count| count.map(|count| count as f64));
            [Some(at as f64), sent, accepted, committed, second.p99_us.map(ms), errors, backlog]
        };
        let rows = report.series.iter().enumerate().map(row).collect();
        let columns = ["second", "arrivals", "accepted", "committed", "p99_ms", "errors", "backlog"];
        Self { columns, rows }
    }
}

/// The last runs, newest first.
pub(super) struct KeptRuns {
    file: Option<PathBuf>,
    /// Held only to read and change; never across an await.
    runs: Mutex<VecDeque<Kept>>,
}

impl KeptRuns {
    /// Those that `file` has. One that had not ended has failed: its gateway is gone.
    pub(super) fn read(file: Option<PathBuf>) -> Self {
        let mut runs = file.as_deref().map(read).unwrap_or_default();
        for run in &mut runs {
            if !run.status.has_ended() {
                run.status.fail(&Failure::gateway_gone());
            }
        }
        Self { file, runs: Mutex::new(runs) }
    }

    /// The newest that is kept.
    pub(super) fn newest(&self) -> Option<LoadStatus> {
        self.lock().front().map(|run| run.status.clone())
    }

    pub(super) fn list(&self) -> Vec<KeptRun> {
        let view =
            |run: &Kept| KeptRun { status: run.status.clone(), curve: run.report.as_deref().map(Curve::of) };
        self.lock().iter().map(view).collect()
    }

    /// The report of the run with this id.
    pub(super) fn report(&self, id: &str) -> Option<Arc<Report>> {
        self.lock().iter().find(|run| run.status.id == id)?.report.clone()
    }

    /// Keeps an ended run in the file and in memory, and one that has just begun in the file alone.
    pub(super) async fn keep(&self, status: LoadStatus, report: Option<Report>) {
        let all = {
            let mut runs = self.lock();
            let mut all = runs.clone();
            all.push_front(Kept { status, report: report.map(Arc::new) });
            all.truncate(KEPT);
            if all[0].status.has_ended() {
                runs.clone_from(&all);
            }
            all
        };
        let Some(file) = self.file.clone() else { return };
        let written = tokio::task::spawn_blocking(move || write(&file, &all)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "the load runs cannot be kept in a file; they are gone when this gateway ends");
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file has; nothing where there is none, or one of another version.
fn read(file: &Path) -> VecDeque<Kept> {
    std::fs::read(file).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// Replaces the file at once, so that a kill leaves the old one or the new one.
fn write(file: &Path, runs: &VecDeque<Kept>) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(runs)?)?;
    std::fs::rename(new, file)
}
