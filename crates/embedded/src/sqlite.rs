//! What the queue, the ledger and the event bus have in common: how a SQLite file is opened, and a write transaction that a dropped
//! future cannot leave open. No SQL of theirs is here.

use std::ops::DerefMut;
use std::path::Path;
use std::time::Duration;

use seckill_core::{Dependency, Fault};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqliteConnection, SqlitePool};

use crate::OpenError;

/// How long a statement waits for a lock that another program, such as a backup, has on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Binds of one statement stay far below SQLite's 32,766: longer lists go in pieces of this many rows.
pub(crate) const ROWS_A_STATEMENT: usize = 500;

/// Brings the file to the newest of `migrations`, creating it where it does not exist. Each is what it is called and its
/// SQL, oldest first. A migration that has been released never changes: files remember its checksum.
pub(crate) async fn migrate(
    path: &Path,
    migrations: &'static [(&'static str, &'static str)],
) -> Result<(), OpenError> {
    let migration = |(version, &(description, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let migrator = Migrator::with_migrations((1..).zip(migrations).map(migration).collect());
    let mut connection = options(path)
        .connect()
        .await
        .map_err(|reason| OpenError::Database { path: path.to_owned(), reason })?;
    migrator
        .run(&mut connection)
        .await
        .map_err(|reason| OpenError::Schema { path: path.to_owned(), reason })?;
    connection.close().await.map_err(|reason| OpenError::Database { path: path.to_owned(), reason })
}

/// Connections that can only read; each opens when it is first needed.
pub(crate) fn readers(path: &Path, connections: u32) -> SqlitePool {
    let options = options(path)
        .pragma("query_only", "ON")
        .pragma("cache_size", "-2048")
        // Rows cross from SQLite's thread one by one; with more room between them neither side waits for the other.
        .row_buffer_size(1_024);
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode anything less may lose the last commits when the machine, not only the process, goes down.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// The one connection that writes to a file. There is one, so that writers wait here, in turn, and not in SQLite.
pub(crate) struct WriteConnection {
    dependency: Dependency,
    options: SqliteConnectOptions,
    /// `None` before the first transaction, while one is under way, and after one that did not end well.
    idle: Option<SqliteConnection>,
}

impl WriteConnection {
    pub(crate) fn new(path: &Path, dependency: Dependency) -> Self {
        let options = options(path)
            .pragma("cache_size", "-16384")
            // Pages of a random index are written to the log again and again; a longer log copies each of them back to
            // the file once for more commits.
            .pragma("wal_autocheckpoint", "4000");
        Self { dependency, options, idle: None }
    }

    /// The same, for what may be undone when the machine, not only the process, goes down: its commits do not wait for the disk.
    pub(crate) fn without_flush(path: &Path, dependency: Dependency) -> Self {
        let mut connection = Self::new(path, dependency);
        connection.options = connection.options.synchronous(SqliteSynchronous::Normal);
        connection
    }

    /// Begins a transaction that has the write lock from its first moment, so nothing that it reads can change.
    ///
    /// # Errors
    /// [`Fault::Unavailable`]; the next call starts afresh on a new connection.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<&mut Self>, Fault> {
        Transaction::begin(self).await
    }
}

/// A write transaction, and whatever gives it the connection, such as a lock. Dropping it, also by dropping the future
/// that has it, closes its connection, and SQLite undoes what was not committed.
pub(crate) struct Transaction<H> {
    home: H,
    connection: SqliteConnection,
}

impl<H: DerefMut<Target = WriteConnection>> Transaction<H> {
    /// As [`WriteConnection::begin`].
    pub(crate) async fn begin(mut home: H) -> Result<Self, Fault> {
        let mut connection = match home.idle.take() {
            Some(connection) => connection,
            None => home.options.connect().await.map_err(|error| fault(home.dependency, &error))?,
        };
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await
            .map_err(|error| fault(home.dependency, &error))?;
        Ok(Self { home, connection })
    }

    /// For the statements of the transaction.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Makes it all durable.
    ///
    /// # Errors
    /// [`Fault::Unknown`]: the log may hold the transaction whole although its flush failed.
    pub(crate) async fn commit(mut self) -> Result<(), Fault> {
        sqlx::query("COMMIT")
            .execute(&mut self.connection)
            .await
            .map_err(|error| Fault::unknown(self.home.dependency, error))?;
        self.home.idle = Some(self.connection);
        Ok(())
    }

    /// Undoes it all and keeps the connection.
    ///
    /// # Errors
    /// [`Fault::Unavailable`]; it is undone then too, since the connection is closed.
    pub(crate) async fn rollback(mut self) -> Result<(), Fault> {
        sqlx::query("ROLLBACK")
            .execute(&mut self.connection)
            .await
            .map_err(|error| fault(self.home.dependency, &error))?;
        self.home.idle = Some(self.connection);
        Ok(())
    }
}

/// The fault of a call that has changed nothing: a read, or a transaction that did not come to its commit.
pub(crate) fn fault(dependency: Dependency, error: &sqlx::Error) -> Fault {
    const CORRUPT: u32 = 11;
    const CONSTRAINT: u32 = 19;
    const MISMATCH: u32 = 20;
    const NOTADB: u32 = 26;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    // The lowest byte says what it is, the others which kind of it.
    match (error, code.map(|code| code & 0xff)) {
        (_, Some(CORRUPT | CONSTRAINT | MISMATCH | NOTADB))
        | (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => Fault::corrupt(dependency, error),
        _ => Fault::unavailable(dependency, error),
    }
}
