//! Takes entries out of the stream for one consumer, in a task of its own: a wait that is cancelled in the middle of an answer
//! would lose it. It also shows Redis that the consumer is alive, and moves away what is not for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{Value, cmd};
use seckill_core::{Dependency, Fault, Message, OrderBatch, Unread};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::entry::{Entry, entries, read_entries};
use super::keys::Keys;
use super::shared::SharedQueue;
use crate::redis::{Effect, Redis, Request, Run, call};

/// Entries that are read at once; the largest have about 30 KiB each.
const AT_ONCE: usize = 32;
/// How long Redis holds a read open while there is nothing new. What others give back is seen between two such reads.
const BLOCK: Duration = Duration::from_millis(200);
/// How often Redis is shown that the consumer is alive, and dead ones are looked for.
const BEAT: Duration = Duration::from_secs(3);
/// The wait before a message that could not be moved is moved again.
const MOVE_AGAIN: Duration = Duration::from_secs(1);

/// An entry for the consumer.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: String,
    pub(super) batch: OrderBatch,
}

/// How many more entries a consumer may hold.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new(entries: usize) -> Self {
        Self(Arc::new(Semaphore::new(entries)))
    }

    pub(super) fn give(&self, entries: usize) {
        self.0.add_permits(entries);
    }

    fn use_up(&self, entries: usize) {
        // Only the one reader takes room away, so there is as much as it has seen.
        self.0.forget_permits(entries);
    }

    /// Waits until there is room; `None`: not until then.
    async fn wait(&self, until: Instant) -> Option<usize> {
        let _permit = timeout_at(until, self.0.acquire()).await.ok()?.ok()?;
        // The one in hand counts too.
        Some((self.0.available_permits() + 1).min(AT_ONCE))
    }
}

/// Why an entry is not handed on at once.
enum Aside {
    Park(Entry, String),
    Newer(Entry),
    /// A marker, behind messages that have not been moved yet.
    Marker(Taken),
}

pub(super) struct Reader {
    shared: SharedQueue,
    keys: Keys,
    /// The consumer's name in the group.
    name: String,
    /// One connection, which waits for new entries. Nothing else is sent on it.
    redis: Redis,
    room: Room,
    aside: VecDeque<Aside>,
    move_at: Instant,
    beat_at: Instant,
}

impl Reader {
    pub(super) fn new(shared: SharedQueue, keys: Keys, name: String, room: Room) -> Self {
        let redis = Redis::new(shared.server.clone(), 1, Dependency::Queue, Run::Any);
        let now = Instant::now();
        Self { shared, keys, name, redis, room, aside: VecDeque::new(), move_at: now, beat_at: now }
    }

    /// Reads until the first fault, which the consumer gets, or until the consumer is gone.
    pub(super) async fn run(mut self, consumer: mpsc::Sender<Result<Taken, Fault>>) {
        loop {
            match self.step().await {
                Ok(taken) => {
                    for taken in taken {
                        if consumer.send(Ok(taken)).await.is_err() {
                            return;
                        }
                    }
                }
                Err(fault) => {
                    // Fails only where the consumer is gone.
                    let _ = consumer.send(Err(fault)).await;
                    return;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Vec<Taken>, Fault> {
        if Instant::now() >= self.beat_at {
            self.beat().await?;
        }
        let mut ready = self.clear_aside().await;
        if !ready.is_empty() {
            return Ok(ready);
        }
        let due = if self.aside.is_empty() { self.beat_at } else { self.beat_at.min(self.move_at) };
        let Some(room) = self.room.wait(due).await else { return Ok(ready) };
        let read = self.read(room).await?;
        self.room.use_up(read.len());
        for entry in read {
            ready.extend(self.sort(entry)?);
        }
        Ok(ready)
    }

    /// Entries that this consumer holds from now on, oldest first.
    async fn read(&self, room: usize) -> Result<Vec<Entry>, Fault> {
        if let Some(found) = self.take(room, &[]).await?.filter(|found| !found.is_empty()) {
            return Ok(found);
        }
        let fresh = self.wait_for_new(room).await?;
        if fresh.is_empty() {
            return Ok(fresh);
        }
        // Meanwhile others may have given back what is older. A marker must not come before it.
        Ok(self.take(room, &fresh).await?.unwrap_or(fresh))
    }

    /// Takes what is there. `None`: the entries in `fresh` may be handed on.
    async fn take(&self, room: usize, fresh: &[Entry]) -> Result<Option<Vec<Entry>>, Fault> {
        let script = &self.shared.scripts.take;
        let mut take = call(script, std::slice::from_ref(&self.keys.orders));
        take.arg(&self.name).arg(room);
        for entry in fresh {
            take.arg(&entry.id);
        }
        match self.redis.send(Request::Script(script, &take), Effect::Read).await? {
            Value::Nil => Ok(None),
            found => entries(found).map(Some),
        }
    }

    async fn wait_for_new(&self, room: usize) -> Result<Vec<Entry>, Fault> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg("workers").arg(&self.name).arg("COUNT").arg(room);
        read.arg("BLOCK").arg(BLOCK.as_millis().to_string());
        read.arg("STREAMS").arg(&self.keys.orders).arg(">");
        read_entries(self.redis.send(Request::Command(&read), Effect::Read).await?)
    }

    /// Shows that this consumer is alive, and gives back what dead ones hold. A consumer that was frozen, and is taken for dead
    /// itself, learns it here.
    async fn beat(&mut self) -> Result<(), Fault> {
        let script = &self.shared.scripts.beat;
        let mut beat = call(script, std::slice::from_ref(&self.keys.orders));
        beat.arg(&self.name);
        self.redis.send(Request::Script(script, &beat), Effect::Read).await?;
        self.shared.give_back(&self.redis, &self.keys, None).await?;
        self.beat_at = Instant::now() + BEAT;
        Ok(())
    }

    /// An entry that is for the consumer; any other one is kept aside, to be moved.
    fn sort(&mut self, entry: Entry) -> Result<Option<Taken>, Fault> {
        let aside = match Message::read(entry.body()) {
            Ok(read) => match read.foreign_to(self.keys.ledger) {
                Some(reason) => Aside::Park(entry, reason),
                None => {
                    let taken = Taken { id: entry.id, batch: read.batch };
                    if taken.batch.marker.is_none() || self.aside.is_empty() {
                        return Ok(Some(taken));
                    }
                    Aside::Marker(taken)
                }
            },
            Err(Unread::Newer(version)) => {
                self.shared.newer.note(version, &self.keys.newer);
                Aside::Newer(entry)
            }
            Err(Unread::Unreadable(reason)) => Aside::Park(entry, reason),
        };
        if self.aside.is_empty() {
            self.move_at = Instant::now();
        }
        self.aside.push_back(aside);
        Ok(None)
    }

    /// Moves what was kept aside, as far as Redis takes it, and returns the markers that nothing holds back any more. While Redis is
    /// full it moves nothing, and this consumer goes on with the other messages.
    async fn clear_aside(&mut self) -> Vec<Taken> {
        let mut passed = Vec::new();
        if Instant::now() < self.move_at {
            return passed;
        }
        while let Some(aside) = self.aside.pop_front() {
            let moved = match &aside {
                Aside::Park(entry, reason) => {
                    let message = (entry.id.as_str(), entry.body());
                    self.shared.park(&self.redis, &self.keys, message, reason).await
                }
                Aside::Newer(entry) => self.shared.set_aside(&self.redis, &self.keys, entry).await,
                Aside::Marker(_) => Ok(()),
            };
            match (moved, aside) {
                (Ok(()), Aside::Marker(taken)) => passed.push(taken),
                (Ok(()), _) => self.room.give(1),
                (Err(fault), aside) => {
                    tracing::warn!(%fault, retry_in = ?MOVE_AGAIN, "a message could not be moved to another stream");
                    self.aside.push_front(aside);
                    self.move_at = Instant::now() + MOVE_AGAIN;
                    break;
                }
            }
        }
        passed
    }
}
