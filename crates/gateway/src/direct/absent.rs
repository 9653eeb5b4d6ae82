//! The gate and the queue of a gateway in direct mode: they are always empty and accept nothing.

use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Claim, Consumer, Dependency, Epoch, Fault, GateCondition, GateLevel, HolderPage, Holding, KnownSales,
    Marker, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth, QueueProgress, Release,
    Reservation, ReservationId, Reserved, Sale, SaleId, SoldOutSince, StockGate, UserId,
};
use uuid::Uuid;

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

    async fn apply_change(&self, _: &Sale) -> Result<(), Fault> {
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

    async fn condition(&self, _: SaleId, _: Epoch) -> Result<GateCondition, Fault> {
        Ok(GateCondition::Missing)
    }

    async fn fence(&self, _: SaleId, _: Epoch) -> Result<(), Fault> {
        Ok(())
    }

    async fn holders(&self, _: SaleId, _: Option<u64>, _: usize) -> Result<HolderPage, Fault> {
        Ok(HolderPage::default())
    }

    async fn stage_refill(&self, _: SaleId, _: Epoch, _: bool, _: &[Claim]) -> Result<(), Fault> {
        absent(Dependency::Gate)
    }

    async fn finish_refill(&self, _: &Sale, _: Epoch, _: u32, _: u64) -> Result<(), Fault> {
        absent(Dependency::Gate)
    }

    async fn release(&self, _: SaleId, _: &[Release]) -> Result<(), Fault> {
        Ok(())
    }

    async fn make_marker(&self, _: SaleId, _: Duration) -> Result<Option<Marker>, Fault> {
        Ok(None)
    }

    async fn marker_passed(&self, _: SaleId, _: &Marker) -> Result<(), Fault> {
        Ok(())
    }

    async fn report_held(&self, _: SaleId, _: Uuid, _: Option<u64>) -> Result<(), Fault> {
        Ok(())
    }

    async fn mark_reconciled(&self, _: SaleId, _: u64) -> Result<(), Fault> {
        Ok(())
    }

    async fn mark_resending(&self, _: SaleId) -> Result<(), Fault> {
        Ok(())
    }

    async fn progress(&self, _: SaleId) -> Result<Option<QueueProgress>, Fault> {
        Ok(None)
    }

    async fn remove(&self, _: SaleId) -> Result<(), Fault> {
        Ok(())
    }

    async fn keep_known_sales(&self, _: &KnownSales) -> Result<(), Fault> {
        Ok(())
    }

    async fn known_sales(&self) -> Result<Option<KnownSales>, Fault> {
        Ok(None)
    }

    async fn sold_out(&self, _: SaleId, _: Epoch) -> Result<Option<SoldOutSince>, Fault> {
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

    async fn consumers(&self) -> Result<u32, Fault> {
        Ok(0)
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        Ok(0)
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        Ok(QueueDepth { ready_batches: 0, orders: Some(0) })
    }

    async fn parked(&self, _: usize) -> Result<Vec<ParkedMessage>, Fault> {
        Ok(Vec::new())
    }

    async fn redrive(&self, _: &str) -> Result<bool, Fault> {
        Ok(false)
    }

    async fn discard(&self, _: &str) -> Result<bool, Fault> {
        Ok(false)
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        Ok(ParkedDepth::default())
    }

    async fn ping(&self) -> Result<(), Fault> {
        absent(Dependency::Queue)
    }
}
