//! Transactions of several calls: a connection for each, from a small pool of its own. What is written in them is in
//! `changes`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use seckill_core::{Dependency, Fault};
use sqlx::mysql::MySqlConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::{Failure, IDLE, Purpose, Server, code, within};
use super::{ANSWER, statements};

/// Transactions at once, at the most.
const AT_ONCE: usize = 16;
/// The longest wait for one of them to end.
const WAIT: Duration = Duration::from_secs(2);
/// The longest that the statements of one call may take together; longer than one wait for a lock.
const STATEMENTS: Duration = Duration::from_secs(15);
/// The longest wait for COMMIT; then the transaction's fate is unknown.
const COMMIT: Duration = Duration::from_secs(10);
/// A session that was idle for longer is not used again: the server ends it after [`IDLE`].
const FRESH: Duration = IDLE.saturating_sub(Duration::from_secs(5));

/// Makes transactions.
pub(super) struct Transactions {
    server: Server,
    permits: Arc<Semaphore>,
    /// Connections without a transaction, and since when. A std mutex, never held across an await.
    idle: Mutex<Vec<(MySqlConnection, Instant)>>,
}

impl Transactions {
    pub(super) fn new(server: Server) -> Self {
        Self { server, permits: Arc::new(Semaphore::new(AT_ONCE)), idle: Mutex::default() }
    }

    pub(super) async fn begin(self: &Arc<Self>) -> Result<Transaction, Fault> {
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let reason =
                format!("all {AT_ONCE} transactions with {} took longer than {WAIT:?}", self.server.place());
            return Err(Fault::unavailable(Dependency::Ledger, reason));
        };
        let connection = match self.begin_on_idle().await {
            Some(connection) => connection,
            None => {
                let mut connection = self.server.connect(Purpose::Transactions).await?;
                let begun = within(ANSWER, statements::begin(&mut connection)).await;
                begun.map_err(|failure| self.server.before_commit(&failure))?;
                connection
            }
        };
        Ok(Transaction { pool: Arc::clone(self), connection: Some(connection), _permit: permit })
    }

    /// Begins on a connection that has been used before. The server may have ended it meanwhile, which the first statement finds
    /// out without harm.
    async fn begin_on_idle(&self) -> Option<MySqlConnection> {
        let (mut connection, since) =
            self.idle.lock().expect("nothing panics while it holds the lock").pop()?;
        let begun =
            since.elapsed() < FRESH && within(ANSWER, statements::begin(&mut connection)).await.is_ok();
        begun.then_some(connection)
    }

    fn put_back(&self, connection: MySqlConnection) {
        let mut idle = self.idle.lock().expect("nothing panics while it holds the lock");
        idle.retain(|(_, since)| since.elapsed() < FRESH);
        idle.push((connection, Instant::now()));
    }
}

/// Owns a connection in a transaction. When it is dropped, or a call has failed or was cancelled, the connection ends, and the
/// server rolls back.
pub(super) struct Transaction {
    pool: Arc<Transactions>,
    /// Out of its place while a statement is under way, so that nothing is done on a connection in an unknown state.
    connection: Option<MySqlConnection>,
    _permit: OwnedSemaphorePermit,
}

impl Transaction {
    /// Runs statements. Some refusals end only their statement, so after any failure the whole transaction is over.
    ///
    /// # Errors
    /// [`Fault::Unavailable`], or [`Fault::Corrupt`] for data that is refused or cannot be read: nothing will be committed.
    pub(super) async fn run<T>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut MySqlConnection) -> BoxFuture<'c, sqlx::Result<T>> + Send,
    ) -> Result<T, Fault> {
        let mut connection = self.take()?;
        match within(STATEMENTS, work(&mut connection)).await {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Err(failure) => Err(self.pool.server.before_commit(&failure)),
        }
    }

    /// Only an answer tells how COMMIT ended, and of the bad answers only a deadlock's tells that nothing is committed.
    pub(super) async fn commit(mut self) -> Result<(), Fault> {
        let mut connection = self.take()?;
        match within(COMMIT, statements::commit(&mut connection)).await {
            Ok(()) => {
                self.pool.put_back(connection);
                Ok(())
            }
            Err(failure) if is_deadlock(&failure) => Err(self.pool.server.unavailable(&failure)),
            Err(failure) => Err(self.pool.server.unknown(&failure)),
        }
    }

    /// Ends the transaction without its commit.
    pub(super) fn spoil(&mut self) {
        self.connection = None;
    }

    fn take(&mut self) -> Result<MySqlConnection, Fault> {
        self.connection.take().ok_or_else(|| {
            Fault::unavailable(Dependency::Ledger, "this transaction has failed before and is rolled back")
        })
    }
}

fn is_deadlock(failure: &Failure) -> bool {
    failure.number() == Some(code::DEADLOCK)
}
