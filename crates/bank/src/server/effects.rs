//! Carries out what is asked for: books, then disk, then the answer and the webhook.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::books::{Asked, Books, Entry, Wanted};
use super::journal::{Journal, NotWritten};
use crate::notice::BankNotice;

pub(super) struct Effects {
    books: Mutex<Books>,
    journal: Arc<Journal>,
    notices: Option<mpsc::Sender<BankNotice>>,
    under_way: TaskTracker,
}

/// What a request has led to, safe on disk.
pub(super) enum Outcome {
    New(Entry),
    Known(Entry),
    Differs,
}

impl Effects {
    pub(super) fn new(
        books: Books,
        journal: Arc<Journal>,
        notices: Option<mpsc::Sender<BankNotice>>,
    ) -> Self {
        Self { books: Mutex::new(books), journal, notices, under_way: TaskTracker::new() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in here can panic half-way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it once. A caller that hangs up meanwhile does not stop it.
    pub(super) async fn carry_out(self: &Arc<Self>, wanted: Wanted) -> Result<Outcome, NotWritten> {
        let this = Arc::clone(self);
        let task = self.under_way.spawn(async move { this.step(wanted).await });
        task.await.unwrap_or(Err(NotWritten))
    }

    async fn step(&self, wanted: Wanted) -> Result<Outcome, NotWritten> {
        let (asked, notice) = {
            let mut books = self.books();
            let asked = books.ask(wanted, seckill_core::now());
            let mut notice = None;
            if let Asked::New(entry) = &asked {
                // Under the same lock, so that the lines stand in the order in which the books changed.
                self.journal.append(entry);
                notice = Some(books.notice(entry));
            }
            (asked, notice)
        };
        // A known entry may still be on its way to disk.
        self.journal.caught_up().await?;
        if let (Some(notices), Some(notice)) = (&self.notices, notice)
            && notices.try_send(notice).is_err()
        {
            tracing::warn!("too many webhooks wait; one was left out");
        }
        Ok(match asked {
            Asked::New(entry) => Outcome::New(entry),
            Asked::Known(entry) => Outcome::Known(entry),
            Asked::Differs => Outcome::Differs,
        })
    }

    /// Reads the books, and waits until what was read is on disk: nobody sees what a crash could undo.
    pub(super) async fn read<T>(&self, read: impl FnOnce(&Books) -> T) -> Result<T, NotWritten> {
        let found = read(&self.books());
        self.journal.caught_up().await?;
        Ok(found)
    }

    /// Waits for the effects whose callers have hung up.
    pub(super) async fn finished(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }
}
