//! The one task that writes to the queue's file. Whatever gathers while a transaction is under way shares the next one: one
//! flush to the disk serves every lane that waits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use seckill_core::Fault;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Shared, fault};
use crate::folder::Folder;
use crate::sqlite::{ROWS_A_STATEMENT, WriteConnection};

/// Jobs that wait for the writer, and jobs of one transaction, at the most.
pub(super) const MAX_JOBS: usize = 512;
/// How long the queue takes nothing after a failed transaction, and how long rows wait to be deleted after one.
const PAUSE: Duration = Duration::from_secs(1);
/// Rows that wait to be deleted after failed transactions; with more than that the writer does nothing else.
const MAX_LEFTOVERS: usize = 10_000;

/// What the writer is asked for.
pub(super) enum Job {
    /// Add a batch, and answer once it is durable.
    Publish { orders: u64, body: String, done: oneshot::Sender<Result<(), Fault>> },
    /// Delete a row that the shelf has marked as done.
    Ack { id: i64 },
    /// Move a row that the shelf has marked as done to the parked ones.
    Park { id: i64, reason: String },
    /// Take a parked row away, and answer once that is durable.
    Unpark(Unpark),
}

pub(super) struct Unpark {
    pub(super) id: i64,
    /// Whether it becomes a batch again.
    pub(super) redrive: bool,
    /// False: there is no such row.
    pub(super) done: oneshot::Sender<Result<bool, Fault>>,
}

/// Whether the last transaction went well, or is long enough ago to try again.
#[derive(Default)]
pub(super) struct Health {
    failed_at: Mutex<Option<Instant>>,
}

impl Health {
    pub(super) fn is_good(&self) -> bool {
        self.failed_at().is_none_or(|at| at.elapsed() >= PAUSE)
    }

    fn set(&self, good: bool) {
        *self.failed_at() = (!good).then(Instant::now);
    }

    fn failed_at(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.failed_at.lock().expect("nothing that is done under this lock can panic")
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: WriteConnection,
    inbox: mpsc::Receiver<Job>,
    work: Work,
    /// The newest row that is known to be in the file, or to have been.
    newest: i64,
    /// Whether a commit has failed since: then newer rows may be there all the same, and are not counted.
    in_doubt: bool,
    /// The folder is let go after the last write.
    _folder: Arc<Folder>,
}

/// What the next transaction has to do.
#[derive(Default)]
struct Work {
    bodies: Vec<(u64, String)>,
    waiting: Vec<oneshot::Sender<Result<(), Fault>>>,
    /// Rows to delete and rows to park stay here when a transaction fails, and are part of the next one.
    acked: Vec<i64>,
    parked: Vec<(i64, String)>,
    /// Each in a transaction of its own.
    unpark: Vec<Unpark>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: WriteConnection,
        inbox: mpsc::Receiver<Job>,
        newest: i64,
        folder: Arc<Folder>,
    ) -> Self {
        Self { shared, connection, inbox, work: Work::default(), newest, in_doubt: false, _folder: folder }
    }

    /// Writes until the queue and everyone that it made is dropped.
    pub(super) async fn run(mut self) {
        let mut jobs = Vec::with_capacity(MAX_JOBS);
        loop {
            let open = self.gather(&mut jobs).await;
            jobs.drain(..).for_each(|job| self.work.add(job));
            if !self.work.is_empty() {
                self.step().await;
            }
            for unpark in std::mem::take(&mut self.work.unpark) {
                let result = self.unpark(unpark.id, unpark.redrive).await;
                // Who no longer waits can ask again.
                let _ = unpark.done.send(result);
            }
            if !open {
                // Rows that could not be deleted come again after the next start; the ledger knows their orders.
                return;
            }
        }
    }

    /// Waits for jobs and takes all there are; `false` when there will be no more.
    async fn gather(&mut self, jobs: &mut Vec<Job>) -> bool {
        match self.work.leftovers() {
            0 => self.inbox.recv_many(jobs, MAX_JOBS).await > 0,
            1..MAX_LEFTOVERS => {
                let received = tokio::time::timeout(PAUSE, self.inbox.recv_many(jobs, MAX_JOBS)).await;
                received.unwrap_or(1) > 0
            }
            _ => {
                // Nothing more can be taken on before these are gone; those who ask wait in the channel.
                tokio::time::sleep(PAUSE).await;
                !self.inbox.is_closed()
            }
        }
    }

    /// One transaction, and everyone who waits for it told.
    async fn step(&mut self) {
        let (batches, orders) = self.work.size();
        self.shared.shelf().added(batches, orders);
        let result = self.transact().await;
        self.shared.health.set(result.is_ok());
        match &result {
            Ok(()) => {
                let parked = std::mem::take(&mut self.work.parked);
                parked.iter().for_each(|(id, reason)| report_parked(*id, reason));
                let gone: Vec<_> =
                    self.work.acked.drain(..).chain(parked.into_iter().map(|(id, _)| id)).collect();
                self.shared.shelf().deleted(&gone);
            }
            Err(fault) => {
                tracing::error!(%fault, batches, orders, "a transaction of the queue failed");
                self.shared.shelf().removed(batches, orders);
                self.in_doubt |= fault.may_have_happened();
            }
        }
        if batches > 0 {
            self.shared.arrived.notify_waiters();
        }
        self.work.bodies.clear();
        for waiting in self.work.waiting.drain(..) {
            // A lane that no longer waits has an unknown outcome, and treats it so.
            let _ = waiting.send(result.clone());
        }
    }

    async fn transact(&mut self) -> Result<(), Fault> {
        let mut transaction = self.connection.begin().await?;
        let connection = transaction.connection();
        let Self { shared, newest, in_doubt, .. } = self;
        clear_doubt(connection, shared, newest, in_doubt).await.map_err(|error| fault(&error))?;
        let newest = insert(connection, &self.work.bodies).await.map_err(|error| fault(&error))?;
        park(connection, &self.work.parked).await.map_err(|error| fault(&error))?;
        delete(connection, &self.work.acked).await.map_err(|error| fault(&error))?;
        transaction.commit().await?;
        self.newest = newest.unwrap_or(self.newest);
        Ok(())
    }

    /// Takes one parked row away; false: there is none of this id.
    async fn unpark(&mut self, id: i64, redrive: bool) -> Result<bool, Fault> {
        let Self { shared, connection, newest, in_doubt, .. } = self;
        let mut transaction = connection.begin().await?;
        let connection = transaction.connection();
        clear_doubt(connection, shared, newest, in_doubt).await.map_err(|error| fault(&error))?;
        let Some(orders) = parked_orders(connection, id).await.map_err(|error| fault(&error))? else {
            return transaction.rollback().await.map(|()| false);
        };
        if redrive {
            shared.shelf().added(1, orders);
        }
        let moved = match take_away(connection, id, redrive).await {
            Ok(new) => transaction.commit().await.map(|()| new),
            Err(error) => Err(fault(&error)),
        };
        match moved {
            Ok(new) => *newest = new.unwrap_or(*newest),
            Err(fault) => {
                if redrive {
                    shared.shelf().removed(1, orders);
                }
                *in_doubt |= fault.may_have_happened();
                return Err(fault);
            }
        }
        shared.arrived.notify_waiters();
        Ok(true)
    }
}

/// After a commit that may have happened: counts the rows that it may have added.
async fn clear_doubt(
    connection: &mut SqliteConnection,
    shared: &Shared,
    newest: &mut i64,
    in_doubt: &mut bool,
) -> sqlx::Result<()> {
    if *in_doubt {
        let (batches, orders, found) = after(connection, *newest).await?;
        shared.shelf().added(batches, orders);
        *newest = found;
        *in_doubt = false;
    }
    Ok(())
}

async fn parked_orders(connection: &mut SqliteConnection, id: i64) -> sqlx::Result<Option<u64>> {
    let orders = sqlx::query_scalar("SELECT orders FROM parked WHERE id = ?").bind(id);
    Ok(orders.fetch_optional(connection).await?.map(i64::unsigned_abs))
}

/// Returns the id of the new row, if there is one.
async fn take_away(connection: &mut SqliteConnection, id: i64, redrive: bool) -> sqlx::Result<Option<i64>> {
    let mut new = None;
    if redrive {
        let sql = "INSERT INTO batches (orders, body) SELECT orders, body FROM parked WHERE id = ?";
        let inserted = sqlx::query(sql).bind(id).execute(&mut *connection).await?;
        new = Some(inserted.last_insert_rowid());
    }
    sqlx::query("DELETE FROM parked WHERE id = ?").bind(id).execute(connection).await?;
    Ok(new)
}

impl Work {
    fn add(&mut self, job: Job) {
        match job {
            Job::Publish { orders, body, done } => {
                self.bodies.push((orders, body));
                self.waiting.push(done);
            }
            Job::Ack { id } => self.acked.push(id),
            Job::Park { id, reason } => self.parked.push((id, reason)),
            Job::Unpark(unpark) => self.unpark.push(unpark),
        }
    }

    fn size(&self) -> (u64, u64) {
        (self.bodies.len() as u64, self.bodies.iter().map(|(orders, _)| orders).sum())
    }

    fn leftovers(&self) -> usize {
        self.acked.len() + self.parked.len()
    }

    fn is_empty(&self) -> bool {
        self.bodies.is_empty() && self.leftovers() == 0
    }
}

/// How many rows and orders are newer than one row, and the newest of them.
pub(super) async fn after(connection: &mut SqliteConnection, id: i64) -> sqlx::Result<(u64, u64, i64)> {
    let sql = "SELECT COUNT(*), COALESCE(SUM(orders), 0), COALESCE(MAX(id), ?1) FROM batches WHERE id > ?1";
    let row = sqlx::query(sql).bind(id).fetch_one(connection).await?;
    Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get::<i64, _>(1)?.unsigned_abs(), row.try_get(2)?))
}

/// Returns the id of the last row, if there is one.
async fn insert(connection: &mut SqliteConnection, bodies: &[(u64, String)]) -> sqlx::Result<Option<i64>> {
    let mut newest = None;
    for chunk in bodies.chunks(ROWS_A_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO batches (orders, body) ");
        query.push_values(chunk, |mut row, (orders, body)| {
            row.push_bind(orders.cast_signed()).push_bind(body);
        });
        let inserted = query.build().persistent(false).execute(&mut *connection).await?;
        newest = Some(inserted.last_insert_rowid());
    }
    Ok(newest)
}

async fn delete(connection: &mut SqliteConnection, ids: &[i64]) -> sqlx::Result<()> {
    for chunk in ids.chunks(ROWS_A_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM batches WHERE id IN (");
        let mut list = query.separated(", ");
        chunk.iter().for_each(|id| {
            list.push_bind(*id);
        });
        query.push(")");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn park(connection: &mut SqliteConnection, rows: &[(i64, String)]) -> sqlx::Result<()> {
    for (id, reason) in rows {
        sqlx::query(
            "INSERT INTO parked (id, orders, body, reason, parked_at) \
             SELECT id, orders, body, ?, ? FROM batches WHERE id = ?",
        )
        .bind(reason)
        .bind(seckill_core::now().timestamp_millis())
        .bind(id)
        .execute(&mut *connection)
        .await?;
        sqlx::query("DELETE FROM batches WHERE id = ?").bind(id).execute(&mut *connection).await?;
    }
    Ok(())
}

fn report_parked(id: i64, reason: &str) {
    metrics::counter!("seckill_parked_messages_total").increment(1);
    tracing::error!(batch = id, reason, "a batch of the queue was parked");
}
