//! A back end whose calls can go wrong, and what a test wants to know of it: the level, the audit, the ledger's rows.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Backend, GateLevel, LedgerOrder, LedgerTotals, OrderId, SaleId, Verdict};
use seckill_testkit::eventually;
use seckill_testkit::faults::Faults;
use seckill_testkit::fixtures;
use seckill_worker::{Config, DrainRate, Lane, MAX_BATCH, Pace};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; only a failing test waits so long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A back end.
pub(crate) struct TestBed {
    /// What gateways get.
    pub(crate) backend: Backend,
    /// What goes wrong with it.
    pub(crate) faults: Arc<Faults>,
    /// The same, with nothing ever going wrong.
    pub(crate) real: Backend,
    _folder: TempDir,
}

impl TestBed {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let real = seckill_embedded::open(folder.path()).await.expect("the folder can be opened");
        let (backend, faults) = Faults::wrap(&real);
        Self { backend, faults, real, _folder: folder }
    }

    /// Where the gate stands.
    pub(crate) async fn level(&self, sale: SaleId) -> GateLevel {
        fixtures::level(&self.real, sale).await
    }

    /// Waits until the gate has set aside so many orders.
    pub(crate) async fn reserved(&self, sale: SaleId, orders: u64) {
        self.until_level(sale, |level| level.orders == orders).await;
    }

    /// Waits until no order is pending.
    pub(crate) async fn settled(&self, sale: SaleId) {
        self.until_level(sale, |level| level.pending_orders == 0).await;
    }

    async fn until_level(&self, sale: SaleId, is_right: impl Fn(GateLevel) -> bool) {
        eventually(SOON, async || {
            let level = self.level(sale).await;
            if is_right(level) { Ok(()) } else { Err(level) }
        })
        .await;
    }

    /// Orders in the queue that nobody has acknowledged.
    pub(crate) async fn queued(&self) -> u64 {
        let depth = self.real.queue.depth().await.expect("the queue answers");
        depth.orders.expect("the embedded queue counts orders")
    }

    /// A worker lane, stepping until nothing is in the queue.
    pub(crate) async fn drain(&self) {
        let pace = Arc::new(Pace::new(DrainRate::Unlimited, MAX_BATCH));
        let mut lane = Lane::new(&self.real, Config::default(), pace, CancellationToken::new());
        while self.queued().await > 0 {
            let step = tokio::time::timeout(SOON, lane.step()).await;
            step.expect("a step comes to an end").expect("the back end works");
        }
    }

    /// An order as the ledger has it.
    pub(crate) async fn ledger_order(&self, id: OrderId) -> Option<LedgerOrder> {
        self.real.ledger.order(id).await.expect("the ledger answers")
    }

    pub(crate) async fn totals(&self, sale: SaleId) -> LedgerTotals {
        self.real.ledger.totals(sale).await.expect("the ledger answers")
    }

    /// Drains and expects that the sale has come to rest: so many orders in the ledger, all committed, and every unit in
    /// its one place.
    pub(crate) async fn expect_at_rest(&self, sale: SaleId, orders: u64) {
        self.drain().await;
        let report = fixtures::audit(&self.real, sale).await;
        assert_eq!(report.verdict, Verdict::Clean, "{report:?}");
        assert_eq!((report.committed_orders, report.rejected_orders), (orders, 0), "{report:?}");
    }
}
