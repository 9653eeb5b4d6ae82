//! The append-only file that the books are made from at every start: a JSON line for each charge and refund. One fsync
//! serves all lines that wait for it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::books::{Books, Entry};

const FILE: &str = "bank.jsonl";

/// How much of what was appended is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// So many lines.
    Lines(u64),
    /// A write has failed. What is on disk is not known, and nothing more gets there.
    Failed,
}

/// The lines since the start: those that are on disk, and those on their way to it.
pub(super) struct Journal {
    waiting: Mutex<Waiting>,
    wake: Notify,
    written: watch::Sender<Written>,
    on_disk: bool,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines appended since the start, those in `bytes` included.
    lines: u64,
    closed: bool,
}

/// The entry's line did not get to disk.
#[derive(Debug)]
pub(super) struct NotWritten;

impl Journal {
    pub(super) fn on_disk() -> Self {
        Self::new(true)
    }

    /// One that forgets.
    pub(super) fn in_memory() -> Self {
        Self::new(false)
    }

    fn new(on_disk: bool) -> Self {
        let written = watch::Sender::new(Written::Lines(0));
        Self { waiting: Mutex::default(), wake: Notify::new(), written, on_disk }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing in here can panic half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry behind the ones before it. What the books hold then is safe once [`Journal::caught_up`] has ended.
    pub(super) fn append(&self, entry: &Entry) {
        if !self.on_disk {
            return;
        }
        let line = serde_json::to_vec(entry).expect("an entry has only text and numbers");
        let mut waiting = self.waiting();
        waiting.bytes.extend_from_slice(&line);
        waiting.bytes.push(b'\n');
        waiting.lines += 1;
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits until every line that has been appended by now is on disk.
    pub(super) async fn caught_up(&self) -> Result<(), NotWritten> {
        let lines = self.waiting().lines;
        let mut written = self.written.subscribe();
        let seen = written
            .wait_for(|written| match written {
                Written::Lines(count) => *count >= lines,
                Written::Failed => true,
            })
            .await;
        match seen.as_deref() {
            Ok(Written::Lines(_)) => Ok(()),
            Ok(Written::Failed) | Err(_) => Err(NotWritten),
        }
    }

    /// Ends [`write`] after the lines that have been appended.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.wake.notify_one();
    }
}

/// Reads a folder's file into books, and makes folder and file where they are missing.
///
/// # Errors
/// The folder cannot be used, another process uses it, or a line cannot be read. A last line without an end was never
/// answered, and is cut off.
pub(super) fn open(folder: &Path) -> io::Result<(Books, File)> {
    let path = folder.join(FILE);
    let explained = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::create_dir_all(folder).map_err(explained)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(explained)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => explained(io::Error::other("another bank uses this folder")),
        TryLockError::Error(error) => explained(error),
    })?;
    // The file's name must be on disk, too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(explained)?;
    let (books, good) = read(&file).map_err(explained)?;
    file.set_len(good).map_err(explained)?;
    file.seek(SeekFrom::Start(good)).map_err(explained)?;
    Ok((books, file))
}

/// The books, and the length of the whole lines.
fn read(file: &File) -> io::Result<(Books, u64)> {
    let mut reader = BufReader::new(file);
    let (mut books, mut good, mut line, mut number) = (Books::default(), 0, Vec::new(), 0);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        number += 1;
        if line.last() != Some(&b'\n') {
            if length > 0 {
                tracing::warn!(
                    bytes = length,
                    "the last line of the journal was not finished; it is cut off"
                );
            }
            return Ok((books, good));
        }
        let entry = serde_json::from_slice(&line).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("line {number} cannot be read: {error}"))
        })?;
        books.enter(entry);
        good += length as u64;
    }
}

/// Writes what is appended, a group at a time, until the journal is closed.
pub(super) async fn write(journal: Arc<Journal>, mut file: File) -> io::Result<()> {
    loop {
        let (bytes, lines, closed) = {
            let mut waiting = journal.waiting();
            (std::mem::take(&mut waiting.bytes), waiting.lines, waiting.closed)
        };
        if bytes.is_empty() {
            if closed {
                return Ok(());
            }
            journal.wake.notified().await;
            continue;
        }
        let done = tokio::task::spawn_blocking(move || {
            file.write_all(&bytes)?;
            file.sync_data()?;
            Ok(file)
        });
        match done.await.map_err(io::Error::other).flatten() {
            Ok(same) => {
                file = same;
                journal.written.send_replace(Written::Lines(lines));
            }
            Err(error) => {
                journal.written.send_replace(Written::Failed);
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use seckill_core::{BankAnswer, GiveBack};
    use uuid::Uuid;

    use super::*;
    use crate::server::books::Done;

    fn entry() -> Entry {
        let wanted = GiveBack { key: Uuid::now_v7(), charge: Uuid::now_v7(), amount_cents: 1 };
        Entry::Refund(Done { wanted, answer: BankAnswer::Succeeded, created_at: seckill_core::now() })
    }

    #[tokio::test]
    async fn a_line_that_does_not_get_to_disk_is_never_caught_up_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "").unwrap();
        // Open for reading alone, so that every write fails.
        let file = File::open(&path).unwrap();
        let journal = Arc::new(Journal::on_disk());
        journal.append(&entry());
        let (waited, ended) = tokio::join!(journal.caught_up(), write(Arc::clone(&journal), file));
        assert!(waited.is_err() && ended.is_err());
        journal.append(&entry());
        assert!(journal.caught_up().await.is_err());
    }

    #[tokio::test]
    async fn an_entry_reads_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let (_, file) = open(folder.path()).unwrap();
        let journal = Arc::new(Journal::on_disk());
        let written = entry();
        journal.append(&written);
        journal.close();
        write(Arc::clone(&journal), file).await.unwrap();
        let (books, _) = open(folder.path()).unwrap();
        let Entry::Refund(refund) = &written else { panic!("not a refund") };
        assert_eq!(books.refund(refund.wanted.key), Some(written.clone()));
    }
}
