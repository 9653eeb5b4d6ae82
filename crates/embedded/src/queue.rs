//! The queue in a SQLite file: the port, the publishers, and reading. Who holds what is in `shelf`, all writing in
//! `writer`, the receiving half in `consumer`.

mod consumer;
mod parked;
mod shelf;
mod writer;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use seckill_core::{
    Consumer, Dependency, Fault, LedgerId, MAX_BATCH_ORDERS, Message, OrderBatch, OrderQueue, ParkedDepth,
    ParkedMessage, Publisher, QueueDepth,
};
use sqlx::{Row as _, SqlitePool};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use self::consumer::SqliteConsumer;
use self::shelf::{Row, Shelf};
use self::writer::{Health, Job, Unpark, Writer};
use crate::OpenError;
use crate::folder::Folder;
use crate::sqlite::{self, WriteConnection};

const FILE: &str = "queue.db";
/// Every version of the schema: what it is called and its SQL.
const MIGRATIONS: &[(&str, &str)] = &[
    ("queue", include_str!("../../../migrations/sqlite/queue/0001_queue.sql")),
    ("owner", include_str!("../../../migrations/sqlite/queue/0002_owner.sql")),
];
/// Batches in memory that no consumer has taken yet; of the largest batches this is about 2 MiB.
const PAGE: i64 = 64;

/// The queue's file.
pub(crate) struct SqliteQueue {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What the queue, its publishers and consumers, and its writer have in common.
struct Shared {
    /// A std mutex, never held across an await: only numbers and lists change under it.
    shelf: Mutex<Shelf>,
    /// Tells waiting consumers that there may be something to take.
    arrived: Notify,
    /// One connection, so that two consumers never read the same page.
    reader: SqlitePool,
    health: Health,
    /// Whose orders the batches are.
    ledger: LedgerId,
    consumers: AtomicU32,
    /// Batches that consumers came upon and that are newer than this program.
    newer: AtomicU64,
    newer_logged_at: Mutex<Option<Instant>>,
}

impl SqliteQueue {
    /// Opens the file, brings it to this version's schema, parks what belongs to another ledger than `ledger`, and starts the
    /// task that writes to it.
    pub(crate) async fn open(folder: Arc<Folder>, ledger: LedgerId) -> Result<Self, OpenError> {
        let path = folder.file(FILE);
        sqlite::migrate(&path, MIGRATIONS).await?;
        let mut connection = WriteConnection::new(&path, Dependency::Queue);
        parked::adopt(&mut connection, ledger).await?;
        let reader = sqlite::readers(&path, 1);
        let count = async {
            let (batches, orders, newest) = writer::after(&mut *reader.acquire().await?, 0).await?;
            Ok((Shelf::new(batches, orders), newest))
        };
        let (shelf, newest) =
            count.await.map_err(|reason| OpenError::Database { path: path.clone(), reason })?;
        let shelf = Mutex::new(shelf);
        let shared = Arc::new(Shared {
            shelf,
            arrived: Notify::new(),
            reader,
            health: Health::default(),
            ledger,
            consumers: AtomicU32::new(0),
            newer: AtomicU64::new(0),
            newer_logged_at: Mutex::default(),
        });
        let (jobs, inbox) = mpsc::channel(writer::MAX_JOBS);
        tokio::spawn(Writer::new(Arc::clone(&shared), connection, inbox, newest, folder).run());
        Ok(Self { shared, jobs })
    }

    /// The next batches of the file after one id, whoever holds them.
    pub(crate) async fn page(&self, after: i64) -> Result<Vec<Row>, Fault> {
        self.shared.read_page(after).await
    }

    /// Has the writer take a parked batch away; false: there is none of this id.
    async fn unpark(&self, id: &str, redrive: bool) -> Result<bool, Fault> {
        let Some(id) = parked::row_of(id) else { return Ok(false) };
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Unpark(Unpark { id, redrive, done })).await.map_err(|_| writer_ended())?;
        answer.await.unwrap_or_else(|_| Err(no_answer()))
    }
}

#[async_trait]
impl OrderQueue for SqliteQueue {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(SqlitePublisher { shared: Arc::clone(&self.shared), jobs: self.jobs.clone() }))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        Ok(Box::new(SqliteConsumer::new(Arc::clone(&self.shared), self.jobs.clone(), prefetch)))
    }

    async fn consumers(&self) -> Result<u32, Fault> {
        Ok(self.shared.consumers.load(Ordering::Acquire))
    }

    /// What is newer stays in the file until a newer program opens it.
    async fn return_newer(&self) -> Result<u64, Fault> {
        Ok(self.shared.newer.load(Ordering::Acquire))
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        Ok(self.shared.shelf().depth())
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        parked::list(&self.shared.reader, limit).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.unpark(id, true).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.unpark(id, false).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        let newer = self.shared.newer.load(Ordering::Acquire);
        Ok(ParkedDepth { parked: parked::count(&self.shared.reader).await?, unrouted: 0, newer })
    }

    async fn ping(&self) -> Result<(), Fault> {
        if self.jobs.is_closed() {
            return Err(writer_ended());
        }
        let query = sqlx::query("SELECT 1 FROM batches LIMIT 1");
        query.fetch_optional(&self.shared.reader).await.map(drop).map_err(|error| fault(&error))
    }
}

impl Shared {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("nothing that is done under this lock can panic")
    }

    /// The next batch for a consumer, which holds it from now on; `None` when nothing is ready. May be cancelled without
    /// losing one: nothing is awaited once the batch has left the shelf.
    async fn take(&self) -> Result<Option<Row>, Fault> {
        if let Some(row) = self.shelf().take() {
            return Ok(Some(row));
        }
        let mut reader = self.reader.acquire().await.map_err(|error| fault(&error))?;
        loop {
            // Another consumer may have read a page while this one waited for its turn.
            let (taken, place) = {
                let mut shelf = self.shelf();
                (shelf.take(), shelf.place())
            };
            if taken.is_some() {
                return Ok(taken);
            }
            let page = read_page(&mut reader, place.after(), self.ledger).await?;
            let end = page.is_empty();
            if self.shelf().fill(place, page) && end {
                return Ok(None);
            }
        }
    }

    async fn read_page(&self, after: i64) -> Result<Vec<Row>, Fault> {
        let mut reader = self.reader.acquire().await.map_err(|error| fault(&error))?;
        read_page(&mut reader, after, self.ledger).await
    }
}

async fn read_page(
    reader: &mut sqlx::SqliteConnection,
    after: i64,
    ledger: LedgerId,
) -> Result<Vec<Row>, Fault> {
    // As bytes: a body that is no text at all must not stop the batches behind it.
    const SQL: &str = "SELECT id, orders, CAST(body AS BLOB) FROM batches WHERE id > ? ORDER BY id LIMIT ?";
    let rows = sqlx::query(SQL).bind(after).bind(PAGE).fetch_all(reader).await;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Row {
            id: row.try_get(0)?,
            orders: row.try_get::<i64, _>(1)?.unsigned_abs(),
            body: row.try_get(2)?,
            ledger,
        })
    };
    rows.and_then(|rows| rows.iter().map(read).collect()).map_err(|error| fault(&error))
}

/// A gateway lane's way in.
struct SqlitePublisher {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

#[async_trait]
impl Publisher for SqlitePublisher {
    fn accepting(&self) -> bool {
        !self.jobs.is_closed() && self.shared.health.is_good()
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        let orders = batch.orders.len();
        let fits =
            if batch.marker.is_some() { orders == 0 } else { (1..=MAX_BATCH_ORDERS).contains(&orders) };
        if !fits {
            let reason =
                format!("a batch has 1 to {MAX_BATCH_ORDERS} orders, a marker none; this one has {orders}");
            return Err(Fault::unavailable(Dependency::Queue, reason));
        }
        let body = Message::write(batch, Some(self.shared.ledger));
        let (done, answer) = oneshot::channel();
        let job = Job::Publish { orders: orders as u64, body, done };
        self.jobs.send(job).await.map_err(|_| writer_ended())?;
        answer.await.unwrap_or_else(|_| Err(no_answer()))
    }
}

fn writer_ended() -> Fault {
    Fault::unavailable(Dependency::Queue, "its writer has ended; restart seckill")
}

fn no_answer() -> Fault {
    Fault::unknown(Dependency::Queue, "its writer ended before it answered")
}

fn fault(error: &sqlx::Error) -> Fault {
    sqlite::fault(Dependency::Queue, error)
}
