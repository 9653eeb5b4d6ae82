//! The queue on Redis Streams: one stream of orders with one consumer group, a stream of parked messages, and one of messages that
//! wait for a newer program.
//!
//! What a consumer leaves behind belongs to a consumer named `free`, and is taken before anything that is new.

mod consumer;
mod entry;
mod keys;
mod parked;
mod publisher;
mod reader;
mod scripts;
mod shared;

use std::sync::Arc;

use async_trait::async_trait;
use deadpool_redis::redis::{ConnectionInfo, cmd};
use seckill_core::{Consumer, Fault, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth};

use crate::gate::keys::{PROBE, PROBE_MS};
use crate::identity::LedgerOfPlace;
use crate::redis::{Effect, Request, call};
use shared::{Shared, unavailable};

pub(crate) struct StreamQueue {
    shared: Arc<Shared>,
}

impl StreamQueue {
    /// `pool`: connections for everything but publishing and taking, at the most.
    pub(crate) fn new(server: ConnectionInfo, pool: usize, identity: LedgerOfPlace) -> Self {
        Self { shared: Arc::new(Shared::new(server, pool, identity)) }
    }
}

#[async_trait]
impl OrderQueue for StreamQueue {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(publisher::StreamPublisher::open(Arc::clone(&self.shared)).await?))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        Ok(Box::new(consumer::StreamConsumer::open(Arc::clone(&self.shared), prefetch).await?))
    }

    /// Redis notices by itself neither that a consumer is gone nor that it is silent. So whoever counts them looks for those too:
    /// while a rebuild waits for the number 0, nobody else does.
    async fn consumers(&self) -> Result<u32, Fault> {
        let keys = self.shared.keys().await?;
        self.shared.give_back(&self.shared.redis, &keys, None).await
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        self.move_newer_back().await
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        let script = &self.shared.scripts.ready;
        let ready = call(script, &[self.shared.keys().await?.orders]);
        let ready = self.shared.redis.send(Request::Script(script, &ready), Effect::Read).await?;
        Ok(QueueDepth { ready_batches: entry::read(ready)?, orders: None })
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        self.list_parked(limit).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.redrive_parked(id).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.discard_parked(id).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        self.count_parked().await
    }

    /// Writes, since a replica that is read-only and a Redis that is full still answer PING.
    async fn ping(&self) -> Result<(), Fault> {
        if let Some(reason) = self.shared.intake.reason() {
            return Err(unavailable(reason));
        }
        let mut probe = cmd("SET");
        probe.arg(PROBE).arg("1").arg("PX").arg(PROBE_MS);
        self.shared.redis.send(Request::Command(&probe), Effect::Read).await.map(drop)
    }
}
