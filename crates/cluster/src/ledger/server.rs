//! How the database server is reached: a connection and the session it is put into, deadlines, and what a failure means,
//! in words for an operator.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Dependency, Fault};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};

/// The longest that connecting may take, the session's settings included.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// The session of every connection. Each statement sees what was committed before it: the rules of committing are made
/// for that. What does not fit a column is an error. A lock is not waited for longer than the deadlines allow. Times are
/// in UTC; sqlx sets that by itself.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 3";

/// One MySQL or MariaDB server, and a database there.
#[derive(Clone)]
pub(super) struct Server(Arc<MySqlConnectOptions>);

impl Server {
    pub(super) fn new(options: MySqlConnectOptions) -> Self {
        // A failure is logged once, by whoever handles it.
        Self(Arc::new(options.disable_statement_logging()))
    }

    /// A new connection, in the session that all of the ledger's SQL is written for.
    pub(super) async fn connect(&self) -> Result<MySqlConnection, Fault> {
        let connected = within(CONNECT, async {
            // Boxed: connecting is rare, and its state would make the future of every question three times as large.
            let mut connection = Box::pin(self.0.connect()).await?;
            sqlx::raw_sql(SESSION).execute(&mut connection).await?;
            Ok(connection)
        });
        connected.await.map_err(|failure| self.unavailable(&failure))
    }

    /// What a failure is that has changed nothing.
    pub(super) fn unavailable(&self, failure: &Failure) -> Fault {
        let reason = self.sentence(failure);
        if failure.number().is_some_and(|number| code::OF_THE_SETUP.contains(&number)) {
            return Fault::misconfigured(Dependency::Ledger, reason);
        }
        Fault::unavailable(Dependency::Ledger, reason)
    }

    pub(super) fn unknown(&self, failure: &Failure) -> Fault {
        Fault::unknown(Dependency::Ledger, self.sentence(failure))
    }

    /// Which server, for a sentence.
    pub(super) fn place(&self) -> String {
        format!("MySQL at {}:{}", self.0.get_host(), self.0.get_port())
    }

    /// What happened and what to do about it. Says where and as whom, never the password.
    pub(super) fn sentence(&self, failure: &Failure) -> String {
        let (place, user) = (self.place(), self.0.get_username());
        let database = self.0.get_database().unwrap_or_default();
        let error = match failure {
            Failure::Late(deadline) => return format!("{place} did not answer within {deadline:?}"),
            Failure::Sql(sqlx::Error::Io(error)) => return format!("{place} cannot be reached: {error}"),
            Failure::Sql(error) => error,
        };
        match failure.number() {
            Some(code::ACCESS_DENIED | code::ACCESS_DENIED_WITHOUT_PASSWORD) => {
                format!("{place} refuses user {user:?}: check user and password in the mysql url")
            }
            Some(code::DATABASE_ACCESS_DENIED) => {
                format!("{place} refuses user {user:?} the database {database:?}: grant it to that user")
            }
            Some(code::UNKNOWN_DATABASE) => {
                format!("{place} has no database {database:?}: create it, then run `seckill migrate`")
            }
            Some(code::NO_SUCH_TABLE | code::UNKNOWN_COLUMN) => format!(
                "the database {database:?} of {place} has not the schema of this version: run `seckill migrate` \
                 ({error})"
            ),
            _ => format!("{place}: {error}"),
        }
    }
}

/// What came instead of an answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing, within this time.
    Late(Duration),
    /// An error, by the server or on the way to it.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    /// Whether the server itself said no to a statement: then the statement has changed nothing, and the connection is
    /// as good as before.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(_)))
    }

    /// Whether an answer came that is not as seckill writes it.
    pub(super) fn is_unreadable(&self) -> bool {
        use sqlx::Error::{ColumnDecode, ColumnNotFound, Decode};
        matches!(self, Self::Sql(ColumnDecode { .. } | ColumnNotFound(_) | Decode(_)))
    }

    /// The server's number for the error.
    pub(super) fn number(&self) -> Option<u16> {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return None };
        error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
    }
}

/// The numbers of errors that mean something to the ledger; the same on MySQL and MariaDB.
pub(super) mod code {
    pub(in crate::ledger) const DATABASE_ACCESS_DENIED: u16 = 1044;
    pub(in crate::ledger) const ACCESS_DENIED: u16 = 1045;
    pub(in crate::ledger) const UNKNOWN_DATABASE: u16 = 1049;
    pub(in crate::ledger) const UNKNOWN_COLUMN: u16 = 1054;
    pub(in crate::ledger) const DUPLICATE_ENTRY: u16 = 1062;
    pub(in crate::ledger) const NO_SUCH_TABLE: u16 = 1146;
    pub(in crate::ledger) const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub(in crate::ledger) const DEADLOCK: u16 = 1213;
    pub(in crate::ledger) const ACCESS_DENIED_WITHOUT_PASSWORD: u16 = 1698;
    /// Those that only somebody who changes user, grants, database or schema can mend.
    pub(in crate::ledger) const OF_THE_SETUP: [u16; 6] = [
        DATABASE_ACCESS_DENIED,
        ACCESS_DENIED,
        UNKNOWN_DATABASE,
        UNKNOWN_COLUMN,
        NO_SUCH_TABLE,
        ACCESS_DENIED_WITHOUT_PASSWORD,
    ];
}

/// Runs `work` with a deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, work).await {
        Ok(done) => done.map_err(Failure::Sql),
        Err(_) => Err(Failure::Late(deadline)),
    }
}
