//! The receiving half of the queue.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Consumer, Delivery, DeliveryTag, Fault, MESSAGE_VERSION};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::shelf::{Row, Unfit};
use super::writer::Job;
use super::{Shared, writer_ended};

const LOG_NEWER_EVERY: Duration = Duration::from_secs(60);

/// Holds up to `prefetch` batches. The tag of a delivery is the row's id.
pub(super) struct SqliteConsumer {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    prefetch: usize,
    unacked: HashSet<i64>,
}

impl SqliteConsumer {
    pub(super) fn new(shared: Arc<Shared>, jobs: mpsc::Sender<Job>, prefetch: u16) -> Self {
        shared.consumers.fetch_add(1, Ordering::AcqRel);
        Self { shared, jobs, prefetch: prefetch.into(), unacked: HashSet::new() }
    }

    /// Has a row that is not for this program moved out of the way. Where this is cancelled the row goes back, and the next
    /// consumer to come to it parks it.
    async fn park_row(&self, row: &Row, reason: String) -> Result<(), Fault> {
        let unparked = GiveBack { shared: &self.shared, id: row.id };
        let permit = self.jobs.reserve().await.map_err(|_| writer_ended())?;
        self.shared.shelf().finish(row.id);
        permit.send(Job::Park { id: row.id, reason });
        // It is done with: giving it back has no effect any more.
        drop(unparked);
        Ok(())
    }
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        if self.unacked.len() >= self.prefetch {
            // An acknowledgement needs this consumer too, so nothing can change while this future is waited for.
            return std::future::pending().await;
        }
        loop {
            // Made before looking, so that what arrives in between is not missed.
            let arrived = self.shared.arrived.notified();
            let Some(row) = self.shared.take().await? else {
                arrived.await;
                continue;
            };
            match row.parse() {
                Ok(batch) => {
                    self.unacked.insert(row.id);
                    return Ok(Delivery { batch, tag: DeliveryTag(row.id.cast_unsigned()) });
                }
                // It stays held for as long as this process lives; the next one may be able to read it.
                Err(Unfit::Newer(version)) => self.shared.log_newer(row.id, version),
                Err(Unfit::Park(reason)) => self.park_row(&row, reason).await?,
            }
        }
    }

    /// Returns once the batch is sure not to come again while this process lives. It leaves the file with the writer's
    /// next transaction; after a crash before that it comes again, and the ledger knows its orders.
    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        let id = tag.0.cast_signed();
        let permit = self.jobs.reserve().await.map_err(|_| writer_ended())?;
        if self.unacked.remove(&id) {
            self.shared.shelf().finish(id);
            permit.send(Job::Ack { id });
        }
        Ok(())
    }

    /// Returns once the batch is sure not to come again while this process lives. It is moved with the writer's next
    /// transaction; after a crash before that it comes again.
    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault> {
        let id = delivery.tag.0.cast_signed();
        let permit = self.jobs.reserve().await.map_err(|_| writer_ended())?;
        if self.unacked.remove(&id) {
            self.shared.shelf().finish(id);
            permit.send(Job::Park { id, reason: reason.to_owned() });
        }
        Ok(())
    }
}

impl Shared {
    /// Counts a batch of a newer version, and warns of them once a minute.
    fn log_newer(&self, id: i64, version: u64) {
        self.newer.fetch_add(1, Ordering::AcqRel);
        metrics::counter!("seckill_newer_messages_total").increment(1);
        let mut logged_at =
            self.newer_logged_at.lock().expect("nothing that is done under this lock can panic");
        if logged_at.is_none_or(|at| at.elapsed() >= LOG_NEWER_EVERY) {
            *logged_at = Some(Instant::now());
            tracing::warn!(
                batch = id,
                version,
                known = MESSAGE_VERSION,
                "the queue has batches of a newer version of seckill; they wait until that version is started"
            );
        }
    }
}

impl Drop for SqliteConsumer {
    fn drop(&mut self) {
        self.shared.consumers.fetch_sub(1, Ordering::AcqRel);
        self.shared.shelf().give_back(self.unacked.drain());
        self.shared.arrived.notify_waiters();
    }
}

struct GiveBack<'a> {
    shared: &'a Shared,
    id: i64,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        self.shared.shelf().give_back([self.id]);
        self.shared.arrived.notify_waiters();
    }
}
