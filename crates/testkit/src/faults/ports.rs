//! The wrapped ports: each method asks what is to go wrong, and hands the call on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Backend, Claim, Consumer, Delivery, DeliveryTag, Epoch, Fate, Fault, GateLevel, Holding, Ledger,
    LedgerOrder, LedgerTotals, LedgerWriter, Mode, NewSale, Order, OrderBatch, OrderId, OrderQueue,
    Publisher, QueueDepth, Reservation, ReservationId, Reserved, Sale, SaleId, StockGate, UserId,
};

use super::{Call, Faults};

pub(super) fn wrap(backend: &Backend, faults: &Arc<Faults>) -> Backend {
    Backend {
        name: backend.name,
        gate: Arc::new(Faulty::new(Arc::clone(&backend.gate), faults)),
        queue: Arc::new(Faulty::new(Arc::clone(&backend.queue), faults)),
        ledger: Arc::new(Faulty::new(Arc::clone(&backend.ledger), faults)),
        control: Arc::clone(&backend.control),
    }
}

struct Faulty<P> {
    inner: P,
    faults: Arc<Faults>,
}

impl<P> Faulty<P> {
    fn new(inner: P, faults: &Arc<Faults>) -> Self {
        Self { inner, faults: Arc::clone(faults) }
    }
}

#[async_trait]
impl StockGate for Faulty<Arc<dyn StockGate>> {
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault> {
        self.faults.around(Call::Open, 0, self.inner.open(sale, epoch)).await
    }

    async fn reserve(
        &self,
        sale: SaleId,
        epoch: Epoch,
        settled: &[ReservationId],
        claims: &[Claim],
    ) -> Result<Reserved, Fault> {
        let inner = self.inner.reserve(sale, epoch, settled, claims);
        self.faults.around(Call::Reserve, claims.len(), inner).await
    }

    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault> {
        self.faults.around(Call::Settle, 0, self.inner.settle(sale, settled)).await
    }

    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault> {
        self.faults.around(Call::Stranded, 0, self.inner.stranded(sale, age, limit)).await
    }

    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault> {
        self.faults.around(Call::ReadGate, 0, self.inner.holdings(user, sales)).await
    }

    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault> {
        self.faults.around(Call::ReadGate, 0, self.inner.level(sale)).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.faults.around(Call::PingGate, 0, self.inner.ping()).await
    }
}

#[async_trait]
impl OrderQueue for Faulty<Arc<dyn OrderQueue>> {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        let publisher = self.faults.around(Call::Publisher, 0, self.inner.publisher()).await?;
        Ok(Box::new(Faulty::new(publisher, &self.faults)))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        let consumer = self.faults.around(Call::Consumer, 0, self.inner.consumer(prefetch)).await?;
        Ok(Box::new(Faulty::new(consumer, &self.faults)))
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        self.faults.around(Call::Depth, 0, self.inner.depth()).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.faults.around(Call::PingQueue, 0, self.inner.ping()).await
    }
}

#[async_trait]
impl Publisher for Faulty<Box<dyn Publisher>> {
    fn accepting(&self) -> bool {
        self.faults.is_accepting() && self.inner.accepting()
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        self.faults.around(Call::Publish, batch.orders.len(), self.inner.publish(batch)).await
    }
}

#[async_trait]
impl Consumer for Faulty<Box<dyn Consumer>> {
    /// Goes wrong before a batch is taken, so that a mishap never costs a delivery that nobody sees.
    async fn next(&mut self) -> Result<Delivery, Fault> {
        let Self { inner, faults } = self;
        faults.around(Call::Next, 0, async { Ok(()) }).await?;
        let delivery = inner.next().await?;
        faults.plan().deliveries += 1;
        Ok(delivery)
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        self.faults.around(Call::Ack, 0, self.inner.ack(tag)).await
    }
}

#[async_trait]
impl Ledger for Faulty<Arc<dyn Ledger>> {
    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault> {
        self.faults.around(Call::WriteSale, 0, self.inner.create_sale(sale, mode)).await
    }

    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.faults.around(Call::WriteSale, 0, self.inner.mark_opened(sale, epoch)).await
    }

    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.sale(id)).await
    }

    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.sales(limit)).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.order(id)).await
    }

    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.orders_of(user, sale)).await
    }

    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault> {
        self.faults.around(Call::ListOrders, 0, self.inner.orders_after(sale, after, limit)).await
    }

    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.totals(sale)).await
    }

    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault> {
        let writer = self.faults.around(Call::Writer, 0, self.inner.writer()).await?;
        Ok(Box::new(Faulty::new(writer, &self.faults)))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.faults.around(Call::PingLedger, 0, self.inner.ping()).await
    }
}

#[async_trait]
impl LedgerWriter for Faulty<Box<dyn LedgerWriter>> {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        self.faults.around(Call::Commit, orders.len(), self.inner.commit(orders)).await
    }
}
