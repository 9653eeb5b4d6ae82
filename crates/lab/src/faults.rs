//! Faults that are injected between this process and a real back end: slow commits, messages that are queued twice, confirms
//! that never arrive. Only demonstrations use these wrappers.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Backend, Consumer, Dependency, Epoch, Fate, Fault, FaultKind, Ledger, LedgerId, LedgerOrder,
    LedgerTotals, LedgerWriter, LockedSale, Mode, NewSale, Order, OrderBatch, OrderId, OrderQueue,
    ParkedDepth, ParkedMessage, Publisher, QueueDepth, RebuildStep, Sale, SaleId, Settings, UserId,
};
use uuid::Uuid;

/// The faults that the settings ask for now.
#[derive(Debug, Default)]
pub struct InjectedFaults {
    /// Held only to read or swap.
    settings: RwLock<Settings>,
}

impl InjectedFaults {
    /// `backend` with these faults between it and its user.
    pub fn wrap(self: &Arc<Self>, backend: &Backend) -> Backend {
        Backend {
            queue: Arc::new(FaultyQueue { inner: Arc::clone(&backend.queue), faults: Arc::clone(self) }),
            ledger: Arc::new(FaultyLedger { inner: Arc::clone(&backend.ledger), faults: Arc::clone(self) }),
            ..backend.clone()
        }
    }

    pub(crate) fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The kinds of faults that are injected now.
    pub(crate) fn active(&self) -> Vec<FaultKind> {
        FaultKind::ALL.into_iter().filter(|kind| self.amount(*kind) > 0).collect()
    }

    fn amount(&self, kind: FaultKind) -> u32 {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).amount(kind)
    }

    /// Decides by the percentage of a fault whether this call has it.
    fn hits(&self, kind: FaultKind) -> bool {
        let percent = self.amount(kind);
        percent > 0 && rand::random_range(0..100) < percent
    }
}

struct FaultyQueue {
    inner: Arc<dyn OrderQueue>,
    faults: Arc<InjectedFaults>,
}

#[async_trait]
impl OrderQueue for FaultyQueue {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        let (inner, faults) = (self.inner.publisher().await?, Arc::clone(&self.faults));
        Ok(Box::new(FaultyPublisher { inner, faults }))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        self.inner.consumer(prefetch).await
    }

    async fn consumers(&self) -> Result<u32, Fault> {
        self.inner.consumers().await
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        self.inner.return_newer().await
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        self.inner.depth().await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        self.inner.parked(limit).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.inner.redrive(id).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.inner.discard(id).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        self.inner.parked_depth().await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await
    }
}

struct FaultyPublisher {
    inner: Box<dyn Publisher>,
    faults: Arc<InjectedFaults>,
}

#[async_trait]
impl Publisher for FaultyPublisher {
    fn accepting(&self) -> bool {
        self.inner.accepting()
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        self.inner.publish(batch).await?;
        if self.faults.hits(FaultKind::DuplicateDeliveries) {
            self.inner.publish(batch).await?;
        }
        if self.faults.hits(FaultKind::LostConfirms) {
            // The queue has the batch, but this process does not know that.
            return Err(Fault::unknown(
                Dependency::Queue,
                "the confirm was lost, as the dashboard has ordered",
            ));
        }
        Ok(())
    }
}

struct FaultyLedger {
    inner: Arc<dyn Ledger>,
    faults: Arc<InjectedFaults>,
}

#[async_trait]
impl Ledger for FaultyLedger {
    async fn id(&self) -> Result<LedgerId, Fault> {
        self.inner.id().await
    }

    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault> {
        self.inner.create_sale(sale, mode).await
    }

    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.inner.mark_opened(sale, epoch).await
    }

    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault> {
        self.inner.sale(id).await
    }

    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.inner.sales(limit).await
    }

    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.inner.unfinished_sales(after, limit).await
    }

    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault> {
        self.inner.restore_sale(sale).await
    }

    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault> {
        self.inner.begin_rebuild(sale, from, to, gate).await
    }

    async fn own_rebuild(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
        lease: Duration,
        progress: (RebuildStep, u64, Option<u64>),
    ) -> Result<bool, Fault> {
        self.inner.own_rebuild(sale, epoch, owner, lease, progress).await
    }

    async fn lock_for_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
    ) -> Result<Option<Box<dyn LockedSale>>, Fault> {
        self.inner.lock_for_refill(sale, epoch, owner).await
    }

    async fn close_out(&self, sale: SaleId) -> Result<bool, Fault> {
        self.inner.close_out(sale).await
    }

    async fn missing_among(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, Fault> {
        self.inner.missing_among(orders).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault> {
        self.inner.order(id).await
    }

    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault> {
        self.inner.orders_of(user, sale).await
    }

    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault> {
        self.inner.orders_after(sale, after, limit).await
    }

    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault> {
        self.inner.totals(sale).await
    }

    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault> {
        let (inner, faults) = (self.inner.writer().await?, Arc::clone(&self.faults));
        Ok(Box::new(FaultyWriter { inner, faults }))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await
    }
}

struct FaultyWriter {
    inner: Box<dyn LedgerWriter>,
    faults: Arc<InjectedFaults>,
}

#[async_trait]
impl LedgerWriter for FaultyWriter {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        let delay = self.faults.amount(FaultKind::SlowCommits);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay.into())).await;
        }
        self.inner.commit(orders).await
    }
}
