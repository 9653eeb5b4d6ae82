//! What the tests share: a back end whose calls can go wrong, a sale, orders in the queue, and workers.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Backend, Claim, LedgerTotals, Mode, OrderBatch, OrderId, QueueDepth, Sale};
use seckill_testkit::eventually;
use seckill_testkit::faults::Faults;
use seckill_testkit::fixtures::{EPOCH, claims, new_sale};
use seckill_worker::{Config, DrainRate, Lane, Pace, Progress, Step};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; only a failing test waits so long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long to look out for something that must not happen.
pub(crate) const NEVER: Duration = Duration::from_millis(200);

/// How long a lane waits for a batch to fill where a test wants it full: longer than any test may take.
pub(crate) const UNTIL_FULL: Duration = Duration::from_secs(60);

/// A back end with one open sale.
pub(crate) struct TestBed {
    /// What workers get.
    pub(crate) backend: Backend,
    /// What goes wrong with it.
    pub(crate) faults: Arc<Faults>,
    /// The same, with nothing ever going wrong.
    pub(crate) real: Backend,
    pub(crate) sale: Sale,
    _folder: TempDir,
}

impl TestBed {
    /// A sale of `stock` units, two a user.
    pub(crate) async fn new(stock: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let real = seckill_embedded::open(folder.path()).await.expect("the folder can be opened");
        let new = new_sale(stock, 2);
        let sale = real.ledger.create_sale(&new, Mode::Queue).await.expect("the ledger takes a sale");
        let (backend, faults) = Faults::wrap(&real);
        Self { backend, faults, real, sale, _folder: folder }
    }

    /// Puts one order of one unit for every user into the queue, all in one batch.
    pub(crate) async fn publish(&self, users: Range<u64>) -> Vec<OrderId> {
        self.publish_claims(claims(users)).await
    }

    /// As [`publish`](Self::publish), with a batch of its own for each user.
    pub(crate) async fn publish_apart(&self, users: Range<u64>) {
        for user in users {
            self.publish(user..user + 1).await;
        }
    }

    pub(crate) async fn publish_claims(&self, claims: Vec<Claim>) -> Vec<OrderId> {
        let ids = claims.iter().map(|claim| claim.order_id).collect();
        let mut publisher = self.real.queue.publisher().await.expect("a publisher");
        let batch = OrderBatch::new(self.sale.id, EPOCH, claims);
        publisher.publish(&batch).await.expect("the queue takes a batch");
        ids
    }

    /// A lane that nothing shuts down.
    pub(crate) fn lane(&self, config: Config, pace: Pace) -> Lane {
        Lane::new(&self.backend, config, Arc::new(pace), CancellationToken::new())
    }

    pub(crate) fn worker(&self, config: Config, pace: &Arc<Pace>) -> Worker {
        let shutdown = CancellationToken::new();
        let run = seckill_worker::run(self.backend.clone(), config, Arc::clone(pace), shutdown.clone());
        Worker { shutdown, run: tokio::spawn(run) }
    }

    pub(crate) async fn depth(&self) -> QueueDepth {
        self.real.queue.depth().await.expect("the queue answers")
    }

    pub(crate) async fn totals(&self) -> LedgerTotals {
        self.real.ledger.totals(self.sale.id).await.expect("the ledger answers")
    }

    /// Waits until nothing is in the queue, and says what is in the ledger then.
    pub(crate) async fn drained(&self) -> LedgerTotals {
        eventually(SOON, async || match self.depth().await.orders {
            Some(0) => Ok(()),
            left => Err(left),
        })
        .await;
        self.totals().await
    }

    /// Waits until the ledger holds at least so many orders.
    pub(crate) async fn committed(&self, orders: u64) {
        eventually(SOON, async || {
            let totals = self.totals().await;
            if totals.orders >= orders { Ok(()) } else { Err(totals) }
        })
        .await;
    }
}

/// A worker that runs until it is stopped.
pub(crate) struct Worker {
    pub(crate) shutdown: CancellationToken,
    pub(crate) run: JoinHandle<()>,
}

impl Worker {
    /// Shuts down and waits for the end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let end = tokio::time::timeout(SOON, self.run).await;
        end.expect("a worker that is shut down ends").expect("a worker does not panic");
    }
}

pub(crate) fn per_second(rate: u32) -> DrainRate {
    DrainRate::PerSecond(NonZeroU32::new(rate).expect("a rate above 0"))
}

/// As fast as the ledger commits, in batches of `max_batch`.
pub(crate) fn unlimited(max_batch: u32) -> Pace {
    Pace::new(DrainRate::Unlimited, NonZeroU32::new(max_batch).expect("a batch above 0"))
}

/// One step within the deadline; what it did.
pub(crate) async fn step(lane: &mut Lane) -> Progress {
    let step = tokio::time::timeout(SOON, lane.step()).await;
    match step.expect("a step comes to an end").expect("the back end works") {
        Step::Committed(progress) => progress,
        Step::Stopped => panic!("nobody shut this lane down"),
    }
}

/// So many new rows, and nothing else.
pub(crate) fn new_rows(committed: usize) -> Progress {
    Progress { committed, ..Progress::default() }
}

/// Orders in the ledger, one unit each, and nothing wrong with them.
pub(crate) fn orders(orders: u64) -> LedgerTotals {
    LedgerTotals { orders, units: orders, ..LedgerTotals::default() }
}

/// Waits until `holds`.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    eventually(SOON, async || if holds() { Ok(()) } else { Err("not yet") }).await;
}

/// Looks on for a while, and fails if `happens` meanwhile.
pub(crate) async fn never(happens: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + NEVER;
    while tokio::time::Instant::now() < end {
        assert!(!happens(), "what must not happen has happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
