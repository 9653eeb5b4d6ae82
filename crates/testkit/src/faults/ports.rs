//! The wrapped ports: each method asks what is to go wrong, and hands the call on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Backend, Claim, Consumer, Delivery, DeliveryTag, Epoch, Fate, Fault, GateCondition, GateLevel,
    HolderPage, Holding, KnownSales, Ledger, LedgerId, LedgerOrder, LedgerTotals, LedgerWriter, LockedSale,
    Marker, Mode, NewSale, Order, OrderBatch, OrderId, OrderQueue, ParkedDepth, ParkedMessage, Publisher,
    QueueDepth, QueueProgress, RebuildStep, Release, Reservation, ReservationId, Reserved, Sale, SaleId,
    StockGate, UserId,
};
use uuid::Uuid;

use super::{Call, Faults};

pub(super) fn wrap(backend: &Backend, faults: &Arc<Faults>) -> Backend {
    Backend {
        gate: Arc::new(Faulty::new(Arc::clone(&backend.gate), faults)),
        queue: Arc::new(Faulty::new(Arc::clone(&backend.queue), faults)),
        ledger: Arc::new(Faulty::new(Arc::clone(&backend.ledger), faults)),
        ..backend.clone()
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

    async fn condition(&self, sale: SaleId, epoch: Epoch) -> Result<GateCondition, Fault> {
        self.faults.around(Call::ReadGate, 0, self.inner.condition(sale, epoch)).await
    }

    async fn fence(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.fence(sale, epoch)).await
    }

    async fn holders(&self, sale: SaleId, cursor: Option<u64>, limit: usize) -> Result<HolderPage, Fault> {
        self.faults.around(Call::ReadGate, 0, self.inner.holders(sale, cursor, limit)).await
    }

    async fn stage_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        first: bool,
        holders: &[Claim],
    ) -> Result<(), Fault> {
        let inner = self.inner.stage_refill(sale, epoch, first, holders);
        self.faults.around(Call::WriteGate, 0, inner).await
    }

    async fn finish_refill(
        &self,
        sale: &Sale,
        epoch: Epoch,
        remaining: u32,
        holders: u64,
    ) -> Result<(), Fault> {
        let inner = self.inner.finish_refill(sale, epoch, remaining, holders);
        self.faults.around(Call::WriteGate, 0, inner).await
    }

    async fn release(&self, sale: SaleId, orders: &[Release]) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.release(sale, orders)).await
    }

    async fn make_marker(&self, sale: SaleId, every: Duration) -> Result<Option<Marker>, Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.make_marker(sale, every)).await
    }

    async fn marker_passed(&self, sale: SaleId, marker: &Marker) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.marker_passed(sale, marker)).await
    }

    async fn report_held(&self, sale: SaleId, worker: Uuid, oldest_ms: Option<u64>) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.report_held(sale, worker, oldest_ms)).await
    }

    async fn mark_resending(&self, sale: SaleId) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.mark_resending(sale)).await
    }

    async fn mark_reconciled(&self, sale: SaleId, made_ms: u64) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.mark_reconciled(sale, made_ms)).await
    }

    async fn progress(&self, sale: SaleId) -> Result<Option<QueueProgress>, Fault> {
        self.faults.around(Call::ReadGate, 0, self.inner.progress(sale)).await
    }

    async fn remove(&self, sale: SaleId) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.remove(sale)).await
    }

    async fn keep_known_sales(&self, known: &KnownSales) -> Result<(), Fault> {
        self.faults.around(Call::WriteGate, 0, self.inner.keep_known_sales(known)).await
    }

    async fn known_sales(&self) -> Result<Option<KnownSales>, Fault> {
        self.faults.around(Call::ReadGate, 0, self.inner.known_sales()).await
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

    async fn consumers(&self) -> Result<u32, Fault> {
        self.faults.around(Call::Depth, 0, self.inner.consumers()).await
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        self.faults.around(Call::Parked, 0, self.inner.return_newer()).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        self.faults.around(Call::Parked, 0, self.inner.parked(limit)).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.faults.around(Call::Parked, 0, self.inner.redrive(id)).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.faults.around(Call::Parked, 0, self.inner.discard(id)).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        self.faults.around(Call::Parked, 0, self.inner.parked_depth()).await
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

    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault> {
        let orders = delivery.batch.orders.len();
        self.faults.around(Call::Park, orders, self.inner.park(delivery, reason)).await
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

    async fn id(&self) -> Result<LedgerId, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.id()).await
    }

    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.unfinished_sales(after, limit)).await
    }

    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault> {
        self.faults.around(Call::WriteSale, 0, self.inner.restore_sale(sale)).await
    }

    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault> {
        self.faults.around(Call::WriteSale, 0, self.inner.begin_rebuild(sale, from, to, gate)).await
    }

    async fn own_rebuild(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
        lease: Duration,
        progress: (RebuildStep, u64, Option<u64>),
    ) -> Result<bool, Fault> {
        let inner = self.inner.own_rebuild(sale, epoch, owner, lease, progress);
        self.faults.around(Call::WriteSale, 0, inner).await
    }

    async fn lock_for_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
    ) -> Result<Option<Box<dyn LockedSale>>, Fault> {
        let inner = self.inner.lock_for_refill(sale, epoch, owner);
        let locked = self.faults.around(Call::WriteSale, 0, inner).await?;
        Ok(locked.map(|locked| Box::new(Faulty::new(locked, &self.faults)) as Box<dyn LockedSale>))
    }

    async fn close_out(&self, sale: SaleId) -> Result<bool, Fault> {
        self.faults.around(Call::WriteSale, 0, self.inner.close_out(sale)).await
    }

    async fn missing_among(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.missing_among(orders)).await
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
impl LockedSale for Faulty<Box<dyn LockedSale>> {
    fn sale(&self) -> &Sale {
        self.inner.sale()
    }

    async fn active_orders(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<Claim>, Fault> {
        self.faults.around(Call::ReadLedger, 0, self.inner.active_orders(after, limit)).await
    }

    async fn open(self: Box<Self>) -> Result<(), Fault> {
        let Self { inner, faults } = *self;
        faults.around(Call::WriteSale, 0, inner.open()).await
    }
}

#[async_trait]
impl LedgerWriter for Faulty<Box<dyn LedgerWriter>> {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        self.faults.around(Call::Commit, orders.len(), self.inner.commit(orders)).await
    }
}
