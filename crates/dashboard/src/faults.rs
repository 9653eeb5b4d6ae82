//! Trouble on purpose, between the order's path and a real back end: slow commits, messages that are in the queue twice,
//! confirms that never arrive. Only demonstrations have it; without it, the path of an order has none of this code.

use std::sync::Arc;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Backend, Consumer, Dependency, Epoch, Fate, Fault, FaultKind, Ledger, LedgerOrder, LedgerTotals,
    LedgerWriter, Mode, NewSale, Order, OrderBatch, OrderId, OrderQueue, Publisher, QueueDepth, Sale, SaleId,
    Settings, UserId,
};

/// The trouble that the settings ask for just now.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Held only to read or swap.
    settings: RwLock<Settings>,
}

impl Troubles {
    /// `backend` with this trouble between it and its user.
    pub fn wrap(self: &Arc<Self>, backend: &Backend) -> Backend {
        Backend {
            queue: Arc::new(TroubledQueue { inner: Arc::clone(&backend.queue), troubles: Arc::clone(self) }),
            ledger: Arc::new(TroubledLedger {
                inner: Arc::clone(&backend.ledger),
                troubles: Arc::clone(self),
            }),
            ..backend.clone()
        }
    }

    pub(crate) fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// What is being made just now.
    pub(crate) fn active(&self) -> Vec<FaultKind> {
        FaultKind::ALL.into_iter().filter(|kind| self.amount(*kind) > 0).collect()
    }

    fn amount(&self, kind: FaultKind) -> u32 {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).amount(kind)
    }

    /// Whether it strikes this time, by its percentage.
    fn strikes(&self, kind: FaultKind) -> bool {
        let percent = self.amount(kind);
        percent > 0 && rand::random_range(0..100) < percent
    }
}

struct TroubledQueue {
    inner: Arc<dyn OrderQueue>,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl OrderQueue for TroubledQueue {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        let (inner, troubles) = (self.inner.publisher().await?, Arc::clone(&self.troubles));
        Ok(Box::new(TroubledPublisher { inner, troubles }))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        self.inner.consumer(prefetch).await
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        self.inner.depth().await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await
    }
}

struct TroubledPublisher {
    inner: Box<dyn Publisher>,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl Publisher for TroubledPublisher {
    fn accepting(&self) -> bool {
        self.inner.accepting()
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        self.inner.publish(batch).await?;
        if self.troubles.strikes(FaultKind::DuplicateDeliveries) {
            self.inner.publish(batch).await?;
        }
        if self.troubles.strikes(FaultKind::LostConfirms) {
            // The queue has the batch, and nobody here knows.
            return Err(Fault::unknown(Dependency::Queue, "the confirm was lost, as the dashboard asked"));
        }
        Ok(())
    }
}

struct TroubledLedger {
    inner: Arc<dyn Ledger>,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl Ledger for TroubledLedger {
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
        let (inner, troubles) = (self.inner.writer().await?, Arc::clone(&self.troubles));
        Ok(Box::new(TroubledWriter { inner, troubles }))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.inner.ping().await
    }
}

struct TroubledWriter {
    inner: Box<dyn LedgerWriter>,
    troubles: Arc<Troubles>,
}

#[async_trait]
impl LedgerWriter for TroubledWriter {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        let delay = self.troubles.amount(FaultKind::SlowCommits);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay.into())).await;
        }
        self.inner.commit(orders).await
    }
}
