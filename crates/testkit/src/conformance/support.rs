//! What the checks share: a back end under test, and the worker's part in small.

use std::pin::Pin;
use std::time::{Duration, Instant};

use seckill_core::{
    Backend, Claim, Consumer, Delivery, Fate, Fault, LedgerTotals, LedgerWriter, Order, OrderBatch,
    OrderQueue, QueueDepth, ReservationId, Reserved, Sale, SaleId, StockGate,
};

use crate::eventually;
use crate::fixtures::EPOCH;

/// Long enough for the slowest server on a busy machine; what takes longer has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// How long to look out for something that must not happen.
pub(super) const NEVER: Duration = Duration::from_millis(300);

type Opening = Pin<Box<dyn Future<Output = Backend>>>;

/// A back end under test, and the way to open it again.
pub struct Subject {
    /// The back end. Taken apart by the checks; nothing else holds on to it.
    pub backend: Backend,
    open: Box<dyn Fn() -> Opening>,
}

impl Subject {
    /// Opens the back end. `open` is called again when a check wants to see what a restart leaves; it owns whatever the
    /// back end stands on, such as its data folder.
    pub async fn open<F, Opened>(open: F) -> Self
    where
        F: Fn() -> Opened + 'static,
        Opened: Future<Output = Backend> + 'static,
    {
        let open: Box<dyn Fn() -> Opening> = Box::new(move || Box::pin(open()));
        Self { backend: open().await, open }
    }

    /// Drops the back end and opens it again on the same data.
    pub(super) async fn reopen(self) -> Self {
        let Self { backend, open } = self;
        drop(backend);
        let backend = open().await;
        // As every process does at its start: a gate on Redis has to know whose sales it has.
        backend.ledger.id().await.expect("the ledger answers");
        Self { backend, open }
    }
}

/// Reserves on [`EPOCH`], with nothing to settle.
pub(super) async fn reserve(backend: &Backend, sale: &Sale, claims: &[Claim]) -> Reserved {
    backend.gate.reserve(sale.id, EPOCH, &[], claims).await.unwrap()
}

/// Publishes by a publisher of its own.
pub(super) async fn publish(queue: &dyn OrderQueue, batches: &[OrderBatch]) {
    let mut publisher = queue.publisher().await.unwrap();
    for batch in batches {
        publisher.publish(batch).await.unwrap();
    }
}

pub(super) async fn next(consumer: &mut dyn Consumer) -> Delivery {
    let next = tokio::time::timeout(DEADLINE, consumer.next()).await;
    next.expect("a batch waits, and none was delivered within the deadline").unwrap()
}

/// The next deliveries, so many.
pub(super) async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(count);
    while deliveries.len() < count {
        deliveries.push(next(consumer).await);
    }
    deliveries
}

/// Waits until the queue is as deep as `is_right` wants it.
#[track_caller]
pub(super) fn await_depth(
    queue: &dyn OrderQueue,
    is_right: impl Fn(QueueDepth) -> bool,
) -> impl Future<Output = ()> {
    eventually(DEADLINE, async move || {
        let depth = queue.depth().await.map_err(|fault| fault.to_string())?;
        if is_right(depth) { Ok(()) } else { Err(format!("{depth:?}")) }
    })
}

/// Whether nothing waits in the queue, and nothing is unacknowledged where the queue counts that.
pub(super) fn is_empty(depth: QueueDepth) -> bool {
    depth.ready_batches == 0 && depth.orders.unwrap_or(0) == 0
}

/// The worker's part, for one batch: takes it, commits it, acknowledges it.
pub(super) async fn drain_one(backend: &Backend) -> Vec<Fate> {
    let mut consumer = backend.queue.consumer(1).await.unwrap();
    let mut writer = backend.ledger.writer().await.unwrap();
    let Delivery { batch, tag } = next(consumer.as_mut()).await;
    let orders: Vec<_> = batch.into_orders().collect();
    let fates = writer.commit(&orders).await.unwrap();
    consumer.ack(tag).await.unwrap();
    fates
}

/// The rows are these, and the running totals say the same.
pub(super) async fn assert_totals(backend: &Backend, sale: &Sale, expected: LedgerTotals) {
    assert_eq!(backend.ledger.totals(sale.id).await.unwrap(), expected);
    let running = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!(
        (running.orders, u64::from(running.sold), running.rejected_orders),
        (expected.orders, expected.units, expected.rejected_orders),
        "the running totals of the sale"
    );
}

/// Reserves on [`EPOCH`], and does it again after a fault, as the port allows: of a thousand callers at once some may run
/// into a time-out.
pub(super) async fn reserve_at_last(
    gate: &dyn StockGate,
    sale: SaleId,
    settled: &[ReservationId],
    claims: &[Claim],
) -> Reserved {
    let patience = Patience::new();
    loop {
        match gate.reserve(sale, EPOCH, settled, claims).await {
            Ok(reserved) => return reserved,
            Err(fault) => patience.wait_after(&fault).await,
        }
    }
}

/// Commits, and does it again after a fault, as the port allows.
pub(super) async fn commit_at_last(writer: &mut dyn LedgerWriter, orders: &[Order]) -> Vec<Fate> {
    let patience = Patience::new();
    loop {
        match writer.commit(orders).await {
            Ok(fates) => return fates,
            Err(fault) => patience.wait_after(&fault).await,
        }
    }
}

/// How long a call is made again. Not [`eventually`], whose closures cannot be sent to another thread.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now() + DEADLINE)
    }

    async fn wait_after(&self, fault: &Fault) {
        assert!(Instant::now() < self.0, "not within {DEADLINE:?}: {fault}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
