//! The ports with a hook around each call: what lets tests and demonstrations put faults between the system and a real
//! back end. The methods of gate and ledger are handed on by hand here, those of
//! the queue in `queue`, and nowhere else.

mod queue;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Backend, CreatedOnce, GateCondition, GateLevel, Ledger, LedgerTotals, LedgerWriter, LockedSale,
    QueueProgress, RequestKey, StockGate,
};
use crate::{
    Claim, Dependency, Epoch, Fate, Fault, HolderPage, Holding, KnownSales, LedgerId, LedgerOrder, Marker,
    Mode, NewSale, Order, OrderId, RebuildStep, Release, Reservation, ReservationId, Reserved, Sale,
    SaleChange, SaleChanged, SaleId, SoldOutSince, UserId,
};

/// A method of a port, or several that go wrong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `StockGate::open`.
    Open,
    /// `StockGate::reserve`.
    Reserve,
    /// `StockGate::settle`.
    Settle,
    /// `StockGate::stranded`.
    Stranded,
    /// `StockGate::holdings`, `level`, `condition`, `holders`, `progress` and `known_sales`.
    ReadGate,
    /// What changes a gate apart from orders: fence, refill, release, markers and the like.
    WriteGate,
    /// `StockGate::ping`.
    PingGate,
    /// `OrderQueue::publisher`.
    Publisher,
    /// `Publisher::publish`.
    Publish,
    /// `OrderQueue::consumer`.
    Consumer,
    /// `Consumer::next`, as asked: a wait may be cancelled and begun anew any number of times.
    Next,
    /// `Consumer::ack`.
    Ack,
    /// `Consumer::park`.
    Park,
    /// `OrderQueue::depth` and `consumers`.
    Depth,
    /// `OrderQueue::parked`, `redrive`, `discard`, `parked_depth` and `return_newer`.
    Parked,
    /// `OrderQueue::ping`.
    PingQueue,
    /// What changes a sale in the ledger, from `Ledger::create_sale` to `LockedSale::open`.
    WriteSale,
    /// What reads the ledger, except for `Ledger::orders` and `orders_after`.
    ReadLedger,
    /// `Ledger::orders_after`.
    ListOrders,
    /// `Ledger::writer`.
    Writer,
    /// `LedgerWriter::commit`.
    Commit,
    /// `Ledger::ping`.
    PingLedger,
    /// `StockGate::sold_out`.
    SoldOut,
    /// `Ledger::orders`.
    ReadOrders,
}

/// Stands around every call to a back end.
pub trait Around: Send + Sync + 'static {
    /// Makes a call: may wait first, leave `inner` out, or change its answer. `inner` has no effect before it is awaited.
    /// `orders` are the claims or orders of the call; 0 where it has none.
    fn around<T: Send>(
        &self,
        dependency: Dependency,
        call: Call,
        orders: usize,
        inner: impl Future<Output = Result<T, Fault>> + Send,
    ) -> impl Future<Output = Result<T, Fault>> + Send;

    /// Whether publishers may say that the queue takes batches.
    fn accepting(&self) -> bool {
        true
    }

    /// Whether the batch that was just published is published once more.
    fn publishes_again(&self) -> bool {
        false
    }
}

impl Backend {
    /// This back end with `around` around each call to its gate, queue and ledger.
    pub fn wrapped<A: Around>(&self, around: &Arc<A>) -> Self {
        let hook = |dependency| Hook { around: Arc::clone(around), dependency };
        Self {
            gate: Arc::new(hook(Dependency::Gate).wrap(Arc::clone(&self.gate))),
            queue: Arc::new(hook(Dependency::Queue).wrap(Arc::clone(&self.queue))),
            ledger: Arc::new(hook(Dependency::Ledger).wrap(Arc::clone(&self.ledger))),
            ..self.clone()
        }
    }
}

struct Hook<A> {
    around: Arc<A>,
    dependency: Dependency,
}

impl<A: Around> Hook<A> {
    fn call<T: Send>(
        &self,
        call: Call,
        orders: usize,
        inner: impl Future<Output = Result<T, Fault>> + Send,
    ) -> impl Future<Output = Result<T, Fault>> + Send {
        self.around.around(self.dependency, call, orders, inner)
    }

    fn wrap<P>(&self, inner: P) -> Wrapped<P, A> {
        Wrapped { inner, hook: Self { around: Arc::clone(&self.around), dependency: self.dependency } }
    }
}

struct Wrapped<P, A> {
    inner: P,
    hook: Hook<A>,
}

#[async_trait]
impl<A: Around> StockGate for Wrapped<Arc<dyn StockGate>, A> {
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault> {
        self.hook.call(Call::Open, 0, self.inner.open(sale, epoch)).await
    }

    async fn reserve(
        &self,
        sale: SaleId,
        epoch: Epoch,
        settled: &[ReservationId],
        claims: &[Claim],
    ) -> Result<Reserved, Fault> {
        let inner = self.inner.reserve(sale, epoch, settled, claims);
        self.hook.call(Call::Reserve, claims.len(), inner).await
    }

    async fn apply_change(&self, sale: &Sale) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.apply_change(sale)).await
    }

    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault> {
        self.hook.call(Call::Settle, 0, self.inner.settle(sale, settled)).await
    }

    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault> {
        self.hook.call(Call::Stranded, 0, self.inner.stranded(sale, age, limit)).await
    }

    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault> {
        self.hook.call(Call::ReadGate, 0, self.inner.holdings(user, sales)).await
    }

    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault> {
        self.hook.call(Call::ReadGate, 0, self.inner.level(sale)).await
    }

    async fn condition(&self, sale: SaleId, epoch: Epoch) -> Result<GateCondition, Fault> {
        self.hook.call(Call::ReadGate, 0, self.inner.condition(sale, epoch)).await
    }

    async fn fence(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.fence(sale, epoch)).await
    }

    async fn holders(&self, sale: SaleId, cursor: Option<u64>, limit: usize) -> Result<HolderPage, Fault> {
        self.hook.call(Call::ReadGate, 0, self.inner.holders(sale, cursor, limit)).await
    }

    async fn stage_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        first: bool,
        holders: &[Claim],
    ) -> Result<(), Fault> {
        let inner = self.inner.stage_refill(sale, epoch, first, holders);
        self.hook.call(Call::WriteGate, 0, inner).await
    }

    async fn finish_refill(
        &self,
        sale: &Sale,
        epoch: Epoch,
        remaining: u32,
        holders: u64,
    ) -> Result<(), Fault> {
        let inner = self.inner.finish_refill(sale, epoch, remaining, holders);
        self.hook.call(Call::WriteGate, 0, inner).await
    }

    async fn release(&self, sale: SaleId, orders: &[Release]) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.release(sale, orders)).await
    }

    async fn make_marker(&self, sale: SaleId, every: Duration) -> Result<Option<Marker>, Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.make_marker(sale, every)).await
    }

    async fn marker_passed(&self, sale: SaleId, marker: &Marker) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.marker_passed(sale, marker)).await
    }

    async fn report_held(&self, sale: SaleId, worker: Uuid, oldest_ms: Option<u64>) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.report_held(sale, worker, oldest_ms)).await
    }

    async fn mark_resending(&self, sale: SaleId) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.mark_resending(sale)).await
    }

    async fn mark_reconciled(&self, sale: SaleId, made_ms: u64) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.mark_reconciled(sale, made_ms)).await
    }

    async fn progress(&self, sale: SaleId) -> Result<Option<QueueProgress>, Fault> {
        self.hook.call(Call::ReadGate, 0, self.inner.progress(sale)).await
    }

    async fn remove(&self, sale: SaleId) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.remove(sale)).await
    }

    async fn keep_known_sales(&self, known: &KnownSales) -> Result<(), Fault> {
        self.hook.call(Call::WriteGate, 0, self.inner.keep_known_sales(known)).await
    }

    async fn known_sales(&self) -> Result<Option<KnownSales>, Fault> {
        self.hook.call(Call::ReadGate, 0, self.inner.known_sales()).await
    }

    async fn sold_out(&self, sale: SaleId, epoch: Epoch) -> Result<Option<SoldOutSince>, Fault> {
        self.hook.call(Call::SoldOut, 0, self.inner.sold_out(sale, epoch)).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.hook.call(Call::PingGate, 0, self.inner.ping()).await
    }
}

#[async_trait]
impl<A: Around> Ledger for Wrapped<Arc<dyn Ledger>, A> {
    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.create_sale(sale, mode)).await
    }

    async fn create_sale_once(
        &self,
        sale: &NewSale,
        mode: Mode,
        key: &RequestKey,
    ) -> Result<CreatedOnce, Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.create_sale_once(sale, mode, key)).await
    }

    async fn sale_of_key(&self, key: &str) -> Result<Option<(Sale, [u8; 32])>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.sale_of_key(key)).await
    }

    async fn change_sale(&self, sale: SaleId, change: &SaleChange) -> Result<SaleChanged, Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.change_sale(sale, change)).await
    }

    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.mark_opened(sale, epoch)).await
    }

    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.sale(id)).await
    }

    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.sales(limit)).await
    }

    async fn id(&self) -> Result<LedgerId, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.id()).await
    }

    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.unfinished_sales(after, limit)).await
    }

    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.restore_sale(sale)).await
    }

    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.begin_rebuild(sale, from, to, gate)).await
    }

    async fn take_up_rebuild(
        &self,
        seen: &Sale,
        epochs: (Epoch, Epoch),
        owner: Uuid,
        lease: Duration,
    ) -> Result<bool, Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.take_up_rebuild(seen, epochs, owner, lease)).await
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
        self.hook.call(Call::WriteSale, 0, inner).await
    }

    async fn lock_for_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
    ) -> Result<Option<Box<dyn LockedSale>>, Fault> {
        let inner = self.inner.lock_for_refill(sale, epoch, owner);
        let locked = self.hook.call(Call::WriteSale, 0, inner).await?;
        Ok(locked.map(|locked| Box::new(self.hook.wrap(locked)) as Box<dyn LockedSale>))
    }

    async fn close_out(&self, sale: SaleId, revision: u32) -> Result<bool, Fault> {
        self.hook.call(Call::WriteSale, 0, self.inner.close_out(sale, revision)).await
    }

    async fn missing_among(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.missing_among(orders)).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.order(id)).await
    }

    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<LedgerOrder>, Fault> {
        self.hook.call(Call::ReadOrders, ids.len(), self.inner.orders(ids)).await
    }

    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.orders_of(user, sale)).await
    }

    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault> {
        self.hook.call(Call::ListOrders, 0, self.inner.orders_after(sale, after, limit)).await
    }

    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.totals(sale)).await
    }

    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault> {
        let writer = self.hook.call(Call::Writer, 0, self.inner.writer()).await?;
        Ok(Box::new(self.hook.wrap(writer)))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.hook.call(Call::PingLedger, 0, self.inner.ping()).await
    }
}

#[async_trait]
impl<A: Around> LockedSale for Wrapped<Box<dyn LockedSale>, A> {
    fn sale(&self) -> &Sale {
        self.inner.sale()
    }

    async fn active_orders(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<Claim>, Fault> {
        self.hook.call(Call::ReadLedger, 0, self.inner.active_orders(after, limit)).await
    }

    async fn open(self: Box<Self>) -> Result<(), Fault> {
        let Self { inner, hook } = *self;
        hook.call(Call::WriteSale, 0, inner.open()).await
    }
}

#[async_trait]
impl<A: Around> LedgerWriter for Wrapped<Box<dyn LedgerWriter>, A> {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        self.hook.call(Call::Commit, orders.len(), self.inner.commit(orders)).await
    }
}
