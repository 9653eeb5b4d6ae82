//! How the database server is reached: a connection and the session it is put into, deadlines, and what a failure means,
//! in words for an operator.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use seckill_core::{Dependency, Fault, LedgerId};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::queries;
use crate::identity::Identity;

/// The longest that connecting may take, the session's settings included.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// How long a session of the ledger may be idle, in a transaction or between two, before the server ends it and gives its
/// locks back. A process that is frozen in a transaction blocks others for this long.
pub(super) const IDLE: Duration = Duration::from_secs(25);

/// A refusal after which nobody has tried to write for so long makes the ledger unready no longer. Longer than a worker takes
/// from one try to the end of the next.
const STALE: Duration = Duration::from_secs(40);

/// The session of every connection. Each statement sees what was committed before it: the rules of committing are made
/// for that. What does not fit a column is an error. Times are in UTC; sqlx sets that by itself.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
    SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'";

/// What a connection is for, which decides the limits of its session.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Statements that stand alone, and short transactions. The server stops a statement that takes longer than this; MySQL
    /// stops only reads.
    Questions(Duration),
    /// Transactions of several calls, and of batches.
    Transactions,
    Schema,
}

impl Purpose {
    /// The session's settings. MySQL alone reads what is in `/*!80000 */`, MariaDB alone what is in `/*M!100600 */`.
    fn settings(self) -> String {
        let idle = format!(
            ", wait_timeout = {idle} /*M!100600 , idle_transaction_timeout = {idle} */",
            idle = IDLE.as_secs()
        );
        let limits = match self {
            Self::Questions(longest) => format!(
                ", innodb_lock_wait_timeout = 3 /*!80000 , max_execution_time = {} */ \
                 /*M!100600 , max_statement_time = {} */{idle}",
                longest.as_millis(),
                longest.as_secs_f64()
            ),
            Self::Transactions => format!(", innodb_lock_wait_timeout = 5{idle}"),
            Self::Schema => ", innodb_lock_wait_timeout = 3".to_owned(),
        };
        format!("{SESSION}{limits}")
    }
}

/// One MySQL or MariaDB server, a database there, and the id of the ledger in it.
#[derive(Clone)]
pub(super) struct Server {
    options: Arc<MySqlConnectOptions>,
    identity: Arc<Identity>,
    /// Why the server refused to write the last batch of this process, and when; a server that is read-only or has no disk space answers
    /// questions as before. A std mutex, never held across an await.
    refusal: Arc<Mutex<Option<(Instant, Fault)>>>,
}

impl Server {
    pub(super) fn new(options: MySqlConnectOptions, identity: Arc<Identity>) -> Self {
        // A failure is logged once, by whoever handles it.
        let options = Arc::new(options.disable_statement_logging());
        Self { options, identity, refusal: Arc::default() }
    }

    /// A batch was written.
    pub(super) fn took_writes(&self) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The server answered that it does not write a batch.
    pub(super) fn refused_writes(&self, fault: &Fault) {
        let refusal = Some((Instant::now(), fault.clone()));
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// Fails while the server refuses to write the batches of this process.
    ///
    /// # Errors
    /// The fault that the last batch had.
    pub(super) fn takes_writes(&self) -> Result<(), Fault> {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        match refusal.as_ref().filter(|(at, _)| at.elapsed() < STALE) {
            Some((_, fault)) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// A new connection, in the session that all of the ledger's SQL is written for.
    ///
    /// # Errors
    /// [`Fault::Misconfigured`] where the database has no ledger id, or another than this process has learnt before.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<MySqlConnection, Fault> {
        let connected = within(CONNECT, async {
            let mut connection = self.open(purpose).await?;
            let id = queries::ledger_id(&mut connection).await?;
            Ok((connection, id))
        });
        let (connection, id) = connected.await.map_err(|failure| self.unavailable(&failure))?;
        self.learn(id)?;
        Ok(connection)
    }

    /// Takes in the id that the database has now.
    ///
    /// # Errors
    /// [`Fault::Misconfigured`] where this process has learnt another before.
    pub(super) fn learn(&self, id: LedgerId) -> Result<(), Fault> {
        self.identity.learn(id)
    }

    /// Whose database it is, as every connection has read it.
    ///
    /// # Errors
    /// [`Fault::Misconfigured`] where another id was found meanwhile; [`Fault::Unavailable`] before the first connection.
    pub(super) fn ledger_id(&self) -> Result<LedgerId, Fault> {
        let id = self.identity.known(Dependency::Ledger)?;
        id.ok_or_else(|| Fault::unavailable(Dependency::Ledger, "it has not been reached yet"))
    }

    /// A new connection to a database that may have no schema yet.
    pub(super) async fn connect_for_schema(&self) -> Result<MySqlConnection, Fault> {
        within(CONNECT, self.open(Purpose::Schema)).await.map_err(|failure| self.unavailable(&failure))
    }

    async fn open(&self, purpose: Purpose) -> sqlx::Result<MySqlConnection> {
        // Boxed: connecting is rare, and its state would make the future of every question three times as large.
        let mut connection = Box::pin(self.options.connect()).await?;
        sqlx::raw_sql(AssertSqlSafe(purpose.settings())).execute(&mut connection).await?;
        Ok(connection)
    }

    /// What a failure is that has changed nothing.
    pub(super) fn unavailable(&self, failure: &Failure) -> Fault {
        let reason = self.sentence(failure);
        if failure.number().is_some_and(|number| code::OF_THE_SETUP.contains(&number)) {
            return Fault::misconfigured(Dependency::Ledger, reason);
        }
        Fault::unavailable(Dependency::Ledger, reason)
    }

    /// What a failure is of a statement in a transaction whose COMMIT was not sent: nothing is committed then.
    pub(super) fn before_commit(&self, failure: &Failure) -> Fault {
        if failure.is_unreadable() || failure.is_bad_data() {
            return Fault::corrupt(Dependency::Ledger, self.sentence(failure));
        }
        self.unavailable(failure)
    }

    pub(super) fn unknown(&self, failure: &Failure) -> Fault {
        Fault::unknown(Dependency::Ledger, self.sentence(failure))
    }

    /// Which server, for a sentence.
    pub(super) fn place(&self) -> String {
        format!("MySQL at {}:{}", self.options.get_host(), self.options.get_port())
    }

    /// What happened and what to do about it. Says where and as whom, never the password.
    pub(super) fn sentence(&self, failure: &Failure) -> String {
        let (place, user) = (self.place(), self.options.get_username());
        let database = self.options.get_database().unwrap_or_default();
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

    /// Whether the server refused the values that a statement wanted to write. The same values are refused again.
    pub(super) fn is_bad_data(&self) -> bool {
        self.number().is_some_and(|number| code::OF_THE_DATA.contains(&number))
    }

    /// Whether the server refused a statement in a way in which it never answers COMMIT after the transaction was made
    /// durable.
    pub(super) fn is_before_commit(&self) -> bool {
        self.is_bad_data()
            || self.number().is_some_and(|number| {
                matches!(number, code::LOCK_WAIT_TIMEOUT | code::DEADLOCK | code::DUPLICATE_ENTRY)
                    || code::OF_THE_SETUP.contains(&number)
            })
    }

    /// The server's number for the error.
    pub(super) fn number(&self) -> Option<u16> {
        match self {
            Self::Sql(error) => number(error),
            Self::Late(_) => None,
        }
    }
}

/// The server's number for an error, where it comes from the server.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    let sqlx::Error::Database(error) = error else { return None };
    error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
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
    /// The time for a statement was over, on MariaDB.
    pub(in crate::ledger) const STATEMENT_TIMEOUT: u16 = 1969;
    /// Those that come of the values of a row: NULL where none may be, out of range, cut off, not of the column's type, too
    /// long, out of range in a calculation, and a CHECK that does not hold (one number on MySQL, another on MariaDB).
    pub(in crate::ledger) const OF_THE_DATA: [u16; 9] =
        [1048, 1264, 1265, 1292, 1366, 1406, 1690, 3819, 4025];
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One variable of the session, or nothing where the server does not know it.
    async fn variable(connection: &mut MySqlConnection, name: &str) -> Option<String> {
        let value = sqlx::query_scalar(AssertSqlSafe(format!("SELECT CAST(@@{name} AS CHAR)")));
        value.fetch_one(connection).await.ok()
    }

    #[tokio::test]
    async fn every_session_has_the_limits_of_its_purpose() {
        let mysql = seckill_testkit::mysql().await;
        crate::migrate(&mysql.url).await.unwrap();
        let server = Server::new(crate::config::mysql(&mysql.url).unwrap(), Arc::default());
        let questions = &mut server.connect(Purpose::Questions(Duration::from_millis(1_500))).await.unwrap();
        let transactions = &mut server.connect(Purpose::Transactions).await.unwrap();
        let is_mariadb = variable(questions, "version").await.unwrap().contains("MariaDB");
        for connection in [&mut *questions, &mut *transactions] {
            let mode = variable(connection, "sql_mode").await.unwrap();
            assert!(mode.contains("STRICT_ALL_TABLES") && mode.contains("NO_ENGINE_SUBSTITUTION"), "{mode}");
            let isolation = if is_mariadb { "tx_isolation" } else { "transaction_isolation" };
            assert_eq!(variable(connection, isolation).await.as_deref(), Some("READ-COMMITTED"));
            assert_eq!(variable(connection, "wait_timeout").await.as_deref(), Some("25"));
            let idle_transaction = is_mariadb.then_some("25");
            assert_eq!(variable(connection, "idle_transaction_timeout").await.as_deref(), idle_transaction);
        }
        let (longest, unlimited) =
            if is_mariadb { ("max_statement_time", "0.000000") } else { ("max_execution_time", "0") };
        let expected = if is_mariadb { "1.500000" } else { "1500" };
        assert_eq!(variable(questions, longest).await.as_deref(), Some(expected));
        assert_eq!(variable(questions, "innodb_lock_wait_timeout").await.as_deref(), Some("3"));
        assert_eq!(variable(transactions, longest).await.as_deref(), Some(unlimited));
        assert_eq!(variable(transactions, "innodb_lock_wait_timeout").await.as_deref(), Some("5"));

        // The server stops the statement itself: this side waits for longer.
        let endless = sqlx::raw_sql(
            "SELECT COUNT(*) FROM information_schema.collations a, information_schema.collations b, \
             information_schema.collations c, information_schema.collations d",
        );
        let failure = within(Duration::from_secs(60), endless.fetch_one(&mut *questions)).await.unwrap_err();
        assert!(failure.is_refusal(), "{failure:?}");
        assert_eq!(failure.number(), Some(if is_mariadb { code::STATEMENT_TIMEOUT } else { 3024 }));
    }
}
