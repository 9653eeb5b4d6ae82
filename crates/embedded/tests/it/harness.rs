//! What the tests here share: a sale that is open, claims, a worker's step, and the audit.

use std::path::Path;
use std::time::Duration;

use seckill_core::{Backend, Claim, Consumer, Decision, Delivery, OrderBatch, Reserved, Sale};
use seckill_testkit::fixtures;
pub(crate) use seckill_testkit::fixtures::{EPOCH, audit, claim, new_sale, order};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

/// Long enough for a machine that does much else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn open(dir: &Path) -> Backend {
    seckill_embedded::open(dir).await.expect("the folder can be opened")
}

/// Runs `work` on a runtime of its own and then drops everything at once, as a process that ends without a word does.
pub(crate) fn in_a_process_of_its_own<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// A sale that is open, two units a user.
pub(crate) async fn opened_sale(backend: &Backend, stock: u32) -> Sale {
    fixtures::open_sale(backend, stock, 2).await
}

pub(crate) async fn reserve(backend: &Backend, sale: &Sale, claims: &[Claim]) -> Reserved {
    backend.gate.reserve(sale.id, EPOCH, &[], claims).await.expect("the gate decides")
}

/// What a gateway lane does with one batch; the orders that it may call accepted.
pub(crate) async fn accept(backend: &Backend, sale: &Sale, claims: &[Claim]) -> Vec<Claim> {
    let reserved = reserve(backend, sale, claims).await;
    let winners: Vec<_> = claims
        .iter()
        .zip(&reserved.decisions)
        .filter(|(_, decision)| **decision == Decision::Reserved)
        .map(|(claim, _)| *claim)
        .collect();
    if !winners.is_empty() {
        let mut publisher = backend.queue.publisher().await.expect("a publisher");
        let batch = OrderBatch::new(sale.id, EPOCH, winners.clone());
        publisher.publish(&batch).await.expect("the queue takes it");
        backend.gate.settle(sale.id, reserved.reservation.as_slice()).await.expect("it is settled");
    }
    winners
}

pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(DEADLINE, consumer.next())
        .await
        .expect("a batch arrives in time")
        .expect("the queue answers")
}

/// What a worker does until nothing waits.
pub(crate) async fn drain(backend: &Backend) {
    let mut writer = backend.ledger.writer().await.expect("a writer");
    let mut consumer = backend.queue.consumer(10).await.expect("a consumer");
    while backend.queue.depth().await.expect("a depth").orders != Some(0) {
        let Delivery { batch, tag } = next(&mut consumer).await;
        let orders: Vec<_> = batch.into_orders().collect();
        writer.commit(&orders).await.expect("the ledger takes it");
        consumer.ack(tag).await.expect("the queue takes it back");
    }
}

/// Makes a ledger's file one of the version before payments.
pub(crate) const BEFORE_PAYMENTS: &str = "\
    DROP TABLE unpaid; DROP TABLE outbox; DROP TABLE inbox; DROP TABLE points; DROP TABLE notices; DROP TABLE funnel; \
    ALTER TABLE sales DROP COLUMN payment_window_ms; ALTER TABLE sales DROP COLUMN admission; ALTER TABLE sales DROP COLUMN ended_orders; \
    ALTER TABLE sales DROP COLUMN ended_units; ALTER TABLE sales DROP COLUMN returned_orders; \
    ALTER TABLE sales DROP COLUMN returned_units; ALTER TABLE orders DROP COLUMN sequence; \
    ALTER TABLE orders DROP COLUMN cancel_reason; DROP TABLE sagas; DROP TABLE entries; DROP TABLE balances; \
    DROP TABLE coupons; DROP TABLE requests; DROP INDEX one_sale_a_key; \
    ALTER TABLE sales DROP COLUMN paused; ALTER TABLE sales DROP COLUMN revision; \
    ALTER TABLE sales DROP COLUMN request_key; ALTER TABLE sales DROP COLUMN request_hash; DELETE FROM _sqlx_migrations WHERE version >= 4";

/// A connection of a stranger to one of the files.
pub(crate) async fn connect(dir: &Path, file: &str) -> SqliteConnection {
    SqliteConnectOptions::new().filename(dir.join(file)).connect().await.expect("the file is there")
}
