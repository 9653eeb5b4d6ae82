//! The ports in memory and SQLite: one process, nothing to install, and nothing that was accepted is lost in a crash.
//!
//! The gate is in memory and is rebuilt at start; the queue and the ledger are a SQLite file each. What is behind the
//! ports is private: [`open`] is the only way in.

mod control;
mod folder;
mod gate;
mod ledger;
mod queue;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use seckill_core::{Backend, Fault};

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
    let ledger = ledger::SqliteLedger::open(Arc::clone(&folder)).await?;
    let queue = queue::SqliteQueue::open(Arc::clone(&folder), ledger.ledger_id()).await?;
    let gate = gate::rebuild(&ledger, &queue, folder).await?;
    Ok(Backend {
        name: "embedded",
        gate: Arc::new(gate),
        queue: Arc::new(queue),
        ledger: Arc::new(ledger),
        control: Arc::new(control::LocalControl::new()),
    })
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
    /// The gate could not be rebuilt from what the files hold.
    #[error("cannot rebuild the gate: {0}")]
    Rebuild(#[from] Fault),
}
