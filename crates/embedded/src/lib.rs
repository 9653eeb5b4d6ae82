//! The ports in memory and SQLite: one process, nothing to install, and nothing that was accepted is lost in a crash.
//!
//! The gate is in memory and is rebuilt at start; the queue, the ledger and the event bus are a SQLite file each. What is behind
//! the ports is private: [`open`] and, for a process that only receives events, [`open_events`] are the only ways in.

mod capacity;
mod control;
mod events;
mod fates;
mod folder;
mod gate;
mod ledger;
mod queue;
mod sqlite;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use seckill_core::{Backend, EventBus, Fault};

/// Opens the back end that lives in `data_dir`, which is created where it does not exist, for its owner only.
///
/// Waits up to two seconds for a process that is just ending to let go of the folder. The folder stays locked until every port of the back end, and every publisher, consumer and writer made by them, is
/// dropped. Must be called within a tokio runtime, and the back end serves within that runtime only.
///
/// # Errors
/// The folder or a file in it cannot be used; the sentence says why and what to do. Nothing that was in the folder is lost.
// Boxed, so that it is compiled with this crate and not again with each one that waits for it.
pub fn open(data_dir: &Path) -> LocalBoxFuture<'_, Result<Backend, OpenError>> {
    Box::pin(open_folder(data_dir))
}

async fn open_folder(data_dir: &Path) -> Result<Backend, OpenError> {
    let folder = Arc::new(folder::Folder::lock(data_dir).await?);
    let fates = Arc::new(fates::LocalFates::new());
    let ledger = ledger::SqliteLedger::open(Arc::clone(&folder), Arc::clone(&fates)).await?;
    let queue = queue::SqliteQueue::open(Arc::clone(&folder), ledger.ledger_id()).await?;
    let events = events::SqliteBus::open(Arc::clone(&folder)).await?;
    let waiting = waiting::SqliteRooms::open(Arc::clone(&folder)).await?;
    let gate = gate::rebuild(&ledger, &queue, folder).await?;
    let ledger = Arc::new(ledger);
    Ok(Backend {
        name: "embedded",
        gate: Arc::new(gate),
        queue: Arc::new(queue),
        lifecycle: Arc::clone(&ledger) as _,
        outbox: Arc::clone(&ledger) as _,
        ledger,
        events: Arc::new(events),
        control: Arc::new(control::LocalControl::new()),
        fates,
        waiting: Arc::new(waiting),
        capacity: Arc::new(capacity::LocalLeases::new()),
    })
}

/// Opens only the event bus of the folder, beside the process that has the folder open, or while nobody has.
///
/// # Errors
/// The folder has no event bus, or one of another version; the sentence says what to do. Nothing is created.
pub async fn open_events(data_dir: &Path) -> Result<Arc<dyn EventBus>, OpenError> {
    Ok(Arc::new(events::SqliteBus::open_beside(data_dir).await?))
}

/// Why a data folder could not be opened. Each text is whole by itself: it includes the cause.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be created, or not be written to.
    #[error("cannot use the data folder {}: {reason}; choose a folder that this user may write to", path.display())]
    Folder {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Another process has the folder open.
    #[error(
        "the data folder {} is in use by {holder}; stop it first, or choose another folder for this one",
        path.display()
    )]
    InUse {
        path: PathBuf,
        /// Who has it, such as `process 4711`.
        holder: String,
    },
    /// A file of the folder is not what it should be.
    #[error("cannot open {}: {reason}; restore the file from a backup, or choose another data folder", path.display())]
    Database {
        path: PathBuf,
        /// What SQLite said.
        reason: sqlx::Error,
    },
    /// A file of the folder was written by a version of seckill with another schema.
    #[error(
        "cannot bring {} to this version of seckill: {reason}; run the version that wrote it, or choose another data folder",
        path.display()
    )]
    Schema { path: PathBuf, reason: sqlx::migrate::MigrateError },
    /// The folder's event bus cannot be used by a process that does not have the folder's lock.
    #[error("cannot use the events of the data folder {}: {reason}", path.display())]
    Events {
        path: PathBuf,
        /// What is missing, and what to do.
        reason: &'static str,
    },
    /// The gate could not be rebuilt from what the files hold.
    #[error("cannot rebuild the gate: {0}")]
    Rebuild(#[from] Fault),
}
