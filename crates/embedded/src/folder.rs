//! The data folder: making it, and keeping every other process out of it. What is in its files is not known here.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::OpenError;

const LOCK_FILE: &str = "lock";
/// A process that is just ending, or a back end that was just dropped, lets go of the folder within this time.
const HANDOVER: Duration = Duration::from_secs(2);
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// A data folder that this value has to itself until it is dropped. The system drops the lock of a process that dies.
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock goes with the open file; the file itself stays, as removing it would let two processes lock two files.
    _lock: File,
}

impl Folder {
    /// Creates the folder, for its owner only, and locks it.
    pub(crate) async fn lock(path: &Path) -> Result<Self, OpenError> {
        let unusable = |reason| OpenError::Folder { path: path.to_owned(), reason };
        create(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(unusable)?;
        let give_up = Instant::now() + HANDOVER;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(reason)) => return Err(unusable(reason)),
                Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(OpenError::InUse { path: path.to_owned(), holder: holder(&mut file) });
                }
            }
        }
        // Only for the sentence that a second process prints; the lock holds without it.
        file.set_len(0)
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
            .map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn create(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Who wrote the lock file; some systems do not let it be read while it is locked.
fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    match file.read_to_string(&mut pid) {
        Ok(_) if pid.parse::<u32>().is_ok_and(|pid| pid == std::process::id()) => "this process".to_owned(),
        Ok(_) if pid.parse::<u32>().is_ok() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
