//! A queue that confirms each batch at once and keeps none.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{
    Consumer, Fault, OrderBatch, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth,
};

/// All but publishing is left to a real queue.
pub(crate) struct AtOnce(pub(crate) Arc<dyn OrderQueue>);

struct Confirms;

#[async_trait]
impl Publisher for Confirms {
    fn accepting(&self) -> bool {
        true
    }

    async fn publish(&mut self, _: &OrderBatch) -> Result<(), Fault> {
        Ok(())
    }
}

#[async_trait]
impl OrderQueue for AtOnce {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        Ok(Box::new(Confirms))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        self.0.consumer(prefetch).await
    }

    async fn consumers(&self) -> Result<u32, Fault> {
        self.0.consumers().await
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        self.0.return_newer().await
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        self.0.depth().await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        self.0.parked(limit).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.0.redrive(id).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.0.discard(id).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        self.0.parked_depth().await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.0.ping().await
    }
}
