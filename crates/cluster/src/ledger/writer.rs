//! Commits batches: which way, on which connection, how often, and what a failure leaves behind. What is written is in
//! `commit`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rand::RngExt;
use seckill_core::{AbortPoint, Dependency, Fate, Fates, Fault, LedgerWriter, Order, abort_point};
use sqlx::mysql::MySqlConnection;

use super::commit::{self, NotWritten, Written};
use super::server::{Failure, IDLE, Purpose, Server, code, within};
use super::statements;

/// The longest that the statements of one attempt may take together; longer than one wait for a lock.
const STATEMENTS: Duration = Duration::from_secs(15);
/// The longest wait for COMMIT; then the batch's fate is unknown.
const COMMIT: Duration = Duration::from_secs(10);
const ROLLBACK: Duration = Duration::from_secs(2);

/// A session that was idle for longer is not used again: the server ends it after [`IDLE`].
const FRESH: Duration = IDLE.saturating_sub(Duration::from_secs(5));

const ATTEMPTS: u32 = 6;
/// The longest pause before the second attempt, doubled before each further one.
const PAUSE: Duration = Duration::from_millis(10);

/// Owns one connection: it is taken out before the transaction begins and put back only after the transaction has
/// ended in a known way. Cancelled or failed in between, it is dropped, and the server rolls back by itself.
pub(super) struct MySqlWriter {
    server: Server,
    /// Who is told of what was committed.
    fates: Option<Arc<dyn Fates>>,
    idle: Option<Idle>,
}

/// A connection without a transaction.
struct Idle {
    connection: MySqlConnection,
    since: Instant,
}

/// How to commit a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All orders as they are, or none.
    Whole,
    /// Each order by itself, under a lock on its sale.
    Sorted,
}

/// Why an attempt was rolled back, and with what to go on.
enum Setback {
    /// Not all orders can be committed: find out which.
    NotWhole,
    /// Another transaction was in the way: the same again.
    InTheWay(String),
    /// That was it.
    Fault(Fault),
}

impl MySqlWriter {
    pub(super) async fn connect(server: Server, fates: Option<Arc<dyn Fates>>) -> Result<Self, Fault> {
        let connection = server.connect(Purpose::Transactions).await?;
        let mut writer = Self { server, fates, idle: None };
        writer.put_back(connection);
        Ok(writer)
    }

    /// The connection, or a new one where the server may have ended that.
    async fn take_out(&mut self) -> Result<MySqlConnection, Fault> {
        match self.idle.take() {
            Some(idle) if idle.since.elapsed() < FRESH => Ok(idle.connection),
            _ => self.server.connect(Purpose::Transactions).await,
        }
    }

    fn put_back(&mut self, connection: MySqlConnection) {
        self.idle = Some(Idle { connection, since: Instant::now() });
    }

    async fn attempt(&mut self, way: Way, orders: &[Order]) -> Result<Vec<Fate>, Setback> {
        let mut connection = self.take_out().await.map_err(Setback::Fault)?;
        let ledger = self.server.ledger_id().map_err(Setback::Fault)?;
        let written = tokio::time::timeout(STATEMENTS, async {
            match way {
                Way::Whole => commit::write_whole(&mut connection, ledger, orders).await,
                Way::Sorted => commit::write_sorted(&mut connection, ledger, orders).await,
            }
        });
        match written.await {
            Ok(Ok(Written { fates, news })) => {
                self.commit_transaction(connection).await?;
                if let Some(told) = &self.fates {
                    told.announce(news);
                }
                Ok(fates)
            }
            Ok(Err(NotWritten::DoesNotFit)) => {
                self.roll_back(connection).await;
                Err(Setback::NotWhole)
            }
            Ok(Err(NotWritten::Sql(error))) => Err(self.not_written(connection, way, error.into()).await),
            // COMMIT was not sent, so the connection's end is the transaction's end.
            Err(_) => Err(Setback::Fault(self.server.unavailable(&Failure::Late(STATEMENTS)))),
        }
    }

    /// A statement before COMMIT failed: whatever happens to the connection, nothing is committed.
    async fn not_written(&mut self, connection: MySqlConnection, way: Way, failure: Failure) -> Setback {
        if failure.is_refusal() {
            self.roll_back(connection).await;
        }
        match failure.number() {
            Some(code::DUPLICATE_ENTRY) if way == Way::Whole => Setback::NotWhole,
            // When sorting, duplicates were looked for; one that turns up now was inserted meanwhile.
            Some(code::DUPLICATE_ENTRY | code::LOCK_WAIT_TIMEOUT | code::DEADLOCK) => {
                Setback::InTheWay(self.server.sentence(&failure))
            }
            _ if failure.is_unreadable() || failure.is_bad_data() => {
                Setback::Fault(self.server.before_commit(&failure))
            }
            _ => Setback::Fault(self.remember(&failure, self.server.unavailable(&failure))),
        }
    }

    /// Only an answer tells how COMMIT ended, and of the bad answers only a deadlock's tells that nothing is committed.
    async fn commit_transaction(&mut self, mut connection: MySqlConnection) -> Result<(), Setback> {
        let failure = match within(COMMIT, statements::commit(&mut connection)).await {
            Ok(()) => {
                abort_point(AbortPoint::LedgerCommitted);
                self.put_back(connection);
                return Ok(());
            }
            Err(failure) => failure,
        };
        if failure.number() == Some(code::DEADLOCK) {
            self.roll_back(connection).await;
            return Err(Setback::InTheWay(self.server.sentence(&failure)));
        }
        Err(Setback::Fault(self.remember(&failure, self.server.unknown(&failure))))
    }

    /// What the server itself refuses, for a reason that is not in the orders, it refuses the next batch, too. That it does not
    /// answer, a question finds out as well.
    fn remember(&self, failure: &Failure, fault: Fault) -> Fault {
        if failure.is_refusal() {
            self.server.refused_writes(&fault);
        }
        fault
    }

    /// Said aloud, since some errors end only their statement. Without an answer the connection is dropped instead.
    async fn roll_back(&mut self, mut connection: MySqlConnection) {
        if within(ROLLBACK, statements::roll_back(&mut connection)).await.is_ok() {
            self.put_back(connection);
        }
    }
}

#[async_trait]
impl LedgerWriter for MySqlWriter {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let mut way = Way::Whole;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            match self.attempt(way, orders).await {
                Ok(fates) => {
                    self.server.took_writes();
                    return Ok(fates);
                }
                Err(Setback::Fault(fault)) => return Err(fault),
                Err(Setback::NotWhole) => way = Way::Sorted,
                Err(Setback::InTheWay(why)) => {
                    last = why;
                    let longest = PAUSE * 2_u32.pow(attempt);
                    let pause = longest.mul_f64(rand::rng().random_range(0.1..=1.0));
                    tokio::time::sleep(pause).await;
                }
            }
        }
        let reason =
            format!("other transactions were in the way {ATTEMPTS} times in a row; the last time: {last}");
        Err(Fault::unavailable(Dependency::Ledger, reason))
    }
}
