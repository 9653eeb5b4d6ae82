//! The event bus in a SQLite file: the port, and publishing. The SQL is in `store`, the receiving half in `subscription`.
//!
//! Several processes may use the file at once: the one that has the data folder's lock, and others that only receive. So all that
//! counts is in the file, and every write is a short transaction under SQLite's own lock. An event is a row, and so is each
//! subscriber's share in it, until that is acknowledged. Whoever receives has a row that is renewed all the time; what it has
//! in hand bears the number of that row. When a receiver is dropped its row goes, and when it is killed nobody renews the row:
//! then what it had in hand is free, in order, for whoever receives next. Of the process that has the folder's lock nobody waits
//! for that: the next one to get the lock knows that it is gone.

mod store;
mod subscription;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use seckill_core::{
    Dependency, EventBus, EventMessage, EventPattern, EventPublisher, Fault, SubscriberName, Subscription,
    Waiting,
};
use sqlx::SqlitePool;
use tokio::sync::{Notify, oneshot};

use self::subscription::SqliteSubscription;
use crate::OpenError;
use crate::folder::Folder;
use crate::sqlite::{self, WriteConnection};

const FILE: &str = "events.db";
const READERS: u32 = 4;
/// Every version of the schema: what it is called and its SQL.
const MIGRATIONS: &[(&str, &str)] =
    &[("events", include_str!("../../../migrations/sqlite/events/0001_events.sql"))];
/// Events that one receiver has in hand, at the most, whatever it asks for.
const MAX_PREFETCH: u16 = 1_000;

/// The bus's file.
pub(crate) struct SqliteBus {
    shared: Arc<Shared>,
}

/// What the bus, its publishers and its receivers have in common within a process.
struct Shared {
    readers: SqlitePool,
    /// One lock for both connections, so that writers of this process wait here, in turn, and not in SQLite.
    writing: tokio::sync::Mutex<Connections>,
    /// Events that wait to be written. Whoever gets the lock on `writing` writes all of them.
    publishing: Mutex<Vec<Publishing>>,
    /// Receivers that were dropped and whose rows are still in the file.
    dropped: Mutex<Vec<i64>>,
    /// Tells receivers of this process that there may be something to take.
    arrived: Notify,
    /// What keeps other processes from being the main one; `None` in a process that only uses this file.
    folder: Option<Arc<Folder>>,
}

struct Connections {
    /// For what must never be lost.
    durable: WriteConnection,
    /// For what is in whose hand, and for acknowledgements: undone, an event comes a second time.
    quick: WriteConnection,
}

struct Publishing {
    event: EventMessage,
    done: oneshot::Sender<Result<(), Fault>>,
}

impl SqliteBus {
    /// Opens the file and brings it to this version's schema. What receivers of the folder's last holder had in hand is free.
    pub(crate) async fn open(folder: Arc<Folder>) -> Result<Self, OpenError> {
        let path = folder.file(FILE);
        sqlite::migrate(&path, MIGRATIONS).await?;
        let shared = Arc::new(Shared::new(&path, Some(folder)));
        shared.forget_last_holder().await?;
        shared.throw_away_ended().await?;
        Ok(Self { shared })
    }

    /// Opens the file beside the process that has the folder's lock, or while there is none.
    pub(crate) async fn open_beside(data_dir: &Path) -> Result<Self, OpenError> {
        let path: PathBuf = data_dir.join(FILE);
        let unusable = |reason| OpenError::Events { path: data_dir.to_owned(), reason };
        if !path.is_file() {
            return Err(unusable(
                "it has none; start seckill with this folder once, or name the folder that seckill uses",
            ));
        }
        let shared = Arc::new(Shared::new(&path, None));
        // The schema is the business of the process that has the lock.
        if !shared.has_schema(MIGRATIONS.len()).await {
            return Err(unusable(
                "they are not in the form that this version of seckill writes; use the version that has the folder open",
            ));
        }
        Ok(Self { shared })
    }
}

impl Shared {
    fn new(path: &Path, folder: Option<Arc<Folder>>) -> Self {
        let durable = WriteConnection::new(path, Dependency::Events);
        let quick = WriteConnection::without_flush(path, Dependency::Events);
        Self {
            readers: sqlite::readers(path, READERS),
            writing: tokio::sync::Mutex::new(Connections { durable, quick }),
            publishing: Mutex::default(),
            dropped: Mutex::default(),
            arrived: Notify::new(),
            folder,
        }
    }

    fn publishing(&self) -> MutexGuard<'_, Vec<Publishing>> {
        self.publishing.lock().expect("nothing that is done under this lock can panic")
    }

    fn dropped(&self) -> MutexGuard<'_, Vec<i64>> {
        self.dropped.lock().expect("nothing that is done under this lock can panic")
    }

    /// Returns once the event is durable for every subscriber that wants it. What gathers while others write is one
    /// transaction: one flush to the disk serves all who wait.
    async fn publish(&self, event: EventMessage) -> Result<(), Fault> {
        // A subscriber that comes after this look comes after the event.
        if !store::is_wanted(&self.readers, &event.kind).await? {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.publishing().push(Publishing { event, done });
        let mut connections = self.writing.lock().await;
        let group = std::mem::take(&mut *self.publishing());
        if !group.is_empty() {
            let result = store::publish(&mut connections.durable, group.iter().map(|one| &one.event)).await;
            self.arrived.notify_waiters();
            for one in group {
                // Who no longer waits has an unknown outcome, and treats it so.
                let _ = one.done.send(result.clone());
            }
        }
        drop(connections);
        answer
            .await
            .unwrap_or_else(|_| Err(Fault::unknown(Dependency::Events, "the writing of it was given up")))
    }
}

#[async_trait]
impl EventBus for SqliteBus {
    async fn publisher(&self) -> Result<Box<dyn EventPublisher>, Fault> {
        Ok(Box::new(SqlitePublisher { shared: Arc::clone(&self.shared) }))
    }

    async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, Fault> {
        let (subscriber, receiver) = self.shared.subscribe(name, patterns).await?;
        let prefetch = prefetch.clamp(1, MAX_PREFETCH).into();
        Ok(Box::new(SqliteSubscription::new(Arc::clone(&self.shared), subscriber, receiver, prefetch)))
    }

    async fn unsubscribe(&self, name: &SubscriberName) -> Result<bool, Fault> {
        let is_ended = self.shared.unsubscribe(name).await?;
        if is_ended {
            self.shared.throw_away_ended().await?;
        }
        Ok(is_ended)
    }

    async fn waiting(&self, name: &SubscriberName) -> Result<Option<Waiting>, Fault> {
        store::waiting(&self.shared.readers, name).await
    }

    async fn redrive_parked(&self, name: &SubscriberName) -> Result<u64, Fault> {
        let redriven = self.shared.redrive(name).await;
        self.shared.arrived.notify_waiters();
        redriven
    }
}

struct SqlitePublisher {
    shared: Arc<Shared>,
}

#[async_trait]
impl EventPublisher for SqlitePublisher {
    async fn publish(&mut self, event: &EventMessage) -> Result<(), Fault> {
        self.shared.publish(event.clone()).await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn fault(error: sqlx::Error) -> Fault {
    sqlite::fault(Dependency::Events, &error)
}
