//! The gate and the queue of a gateway in direct mode: they are always empty and accept nothing.

use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Claim, Consumer, Dependency, Epoch, Fault, GateLevel, Holding, OrderQueue, Publisher, QueueDepth,
    Reservation, ReservationId, Reserved, Sale, SaleId, StockGate, UserId,
};

/// A gate without data for any sale.
pub(super) struct Gate;

/// A queue that is always empty.
pub(super) struct Queue;

fn absent<T>(dependency: Dependency) -> Result<T, Fault> {
    Err(Fault::unavailable(dependency, "a direct gateway works without it"))
}

#[async_trait]
impl StockGate for Gate {
    async fn open(&self, _: &Sale, _: Epoch) -> Result<(), Fault> {
        absent(Dependency::Gate)
    }

    async fn reserve(
        &self,
        _: SaleId,
        _: Epoch,
        _: &[ReservationId],
        _: &[Claim],
    ) -> Result<Reserved, Fault> {
        absent(Dependency::Gate)
    }

    async fn settle(&self, _: SaleId, _: &[ReservationId]) -> Result<(), Fault> {
        Ok(())
    }

    async fn stranded(&self, _: SaleId, _: Duration, _: usize) -> Result<Vec<Reservation>, Fault> {
        Ok(Vec::new())
    }

    async fn holdings(&self, _: UserId, _: &[SaleId]) -> Result<Vec<Holding>, Fault> {
        Ok(Vec::new())
    }

    async fn level(&self, _: SaleId) -> Result<Option<GateLevel>, Fault> {
        Ok(None)
    }

    async fn ping(&self) -> Result<(), Fault> {
        absent(Dependency::Gate)
    }
}

#[async_trait]
impl OrderQueue for Queue {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        absent(Dependency::Queue)
    }

    async fn consumer(&self, _: u16) -> Result<Box<dyn Consumer>, Fault> {
        absent(Dependency::Queue)
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        Ok(QueueDepth { ready_batches: 0, orders: Some(0) })
    }

    async fn ping(&self) -> Result<(), Fault> {
        absent(Dependency::Queue)
    }
}
