//! The receiving half: what its reader has taken, one by one.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Consumer, Delivery, DeliveryTag, Dependency, Fault, Message};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::keys::Keys;
use super::reader::{Reader, Room, Taken};
use super::shared::{SharedQueue, unavailable};

/// The wait before a consumer that is gone looks again whether it has left something behind, or whether Redis is back.
const LEAVE_AGAIN: Duration = Duration::from_millis(300);
/// How often it tries. After that Redis takes the consumer for dead anyway.
const LEAVE_TRIES: u32 = 60;

/// Dropping it gives back what it has not acknowledged.
pub(super) struct StreamConsumer {
    shared: SharedQueue,
    keys: Keys,
    /// Its name in the group.
    name: String,
    taken: mpsc::Receiver<Result<Taken, Fault>>,
    room: Room,
    /// The ids of the entries that were delivered and not acknowledged, by tag.
    held: HashMap<u64, String>,
    next_tag: u64,
    reader: AbortHandle,
}

impl StreamConsumer {
    pub(super) async fn open(shared: SharedQueue, prefetch: u16) -> Result<Self, Fault> {
        // Not under an id that only Redis has kept: these may be the orders of a database that was replaced.
        let keys = Keys::new(shared.ledger_for_sure()?);
        let name = Uuid::now_v7().to_string();
        // Made in vain where the answer is lost: a consumer that nobody hears of is removed after a while.
        shared.open(&keys, Some(&name)).await?;
        let prefetch = usize::from(prefetch.max(1));
        let room = Room::new(prefetch);
        let (sender, taken) = mpsc::channel(prefetch);
        let reader = Reader::new(SharedQueue::clone(&shared), keys.clone(), name.clone(), room.clone());
        let reader = tokio::spawn(reader.run(sender)).abort_handle();
        Ok(Self { shared, keys, name, taken, room, held: HashMap::new(), next_tag: 0, reader })
    }

    fn id(&self, tag: &DeliveryTag) -> Result<String, Fault> {
        self.held.get(&tag.0).cloned().ok_or_else(|| unavailable("this consumer has no delivery of that tag"))
    }

    fn finished(&mut self, tag: &DeliveryTag) {
        if self.held.remove(&tag.0).is_some() {
            self.room.give(1);
        }
    }
}

#[async_trait]
impl Consumer for StreamConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        self.shared.identity.known(Dependency::Queue)?;
        // Cancelled here, what was taken stays in the channel.
        let Taken { id, batch } = match self.taken.recv().await {
            Some(taken) => taken?,
            None => return Err(unavailable("the reader of the queue has ended")),
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        self.held.insert(tag, id);
        Ok(Delivery { batch, tag: DeliveryTag(tag) })
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        self.shared.ack(&self.keys, &self.id(&tag)?).await?;
        self.finished(&tag);
        Ok(())
    }

    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault> {
        let id = self.id(&delivery.tag)?;
        let body = Message::write(&delivery.batch, Some(self.keys.ledger)).into_bytes();
        self.shared.park(&self.shared.redis, &self.keys, (&id, &body), reason).await?;
        self.finished(&delivery.tag);
        Ok(())
    }
}

impl Drop for StreamConsumer {
    fn drop(&mut self) {
        // Its connection closes with it.
        self.reader.abort();
        let leaving =
            leave(SharedQueue::clone(&self.shared), self.keys.clone(), std::mem::take(&mut self.name));
        // Without a runtime the process is about to end; the others then notice by its silence.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(leaving);
        }
    }
}

/// Gives back what a consumer holds. Twice: a read that was under way makes the consumer again, with what it reads.
async fn leave(shared: SharedQueue, keys: Keys, name: String) {
    let mut left = false;
    for _ in 0..LEAVE_TRIES {
        match shared.give_back(&shared.redis, &keys, Some(&name)).await {
            Ok(_) if left => return,
            Ok(_) => left = true,
            Err(fault) => tracing::debug!(%fault, "a consumer could not give back what it held"),
        }
        tokio::time::sleep(LEAVE_AGAIN).await;
    }
}
