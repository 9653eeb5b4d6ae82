//! The ledger's file after an order's commit: what is written in one transaction, and what is not.

use std::time::Duration;

use seckill_core::{
    Backend, CancelReason, Effect, Ended, Fate, GateLevel, OrderId, OrderRecord, OrderStatus, OutboxState,
    Sale, Step, Verdict,
};
use seckill_testkit::fixtures;

use crate::harness::*;

const WINDOW_MS: u64 = 60_000;

async fn paid_sale(backend: &Backend, stock: u32) -> Sale {
    let new = seckill_core::NewSale { payment_window_ms: Some(WINDOW_MS), ..new_sale(stock, 2) };
    fixtures::open(backend, &new).await
}

async fn commit(backend: &Backend, sale: &Sale, users: std::ops::Range<u64>) -> Vec<OrderId> {
    let orders: Vec<_> = users.map(|user| order(sale.id, user)).collect();
    let fates = backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
    assert!(fates.iter().all(|fate| *fate == Fate::Committed), "{fates:?}");
    orders.iter().map(|order| order.claim.order_id).collect()
}

async fn count(dir: &std::path::Path, table: &'static str) -> i64 {
    let mut stranger = connect(dir, "ledger.db").await;
    sqlx::query_scalar(table).fetch_one(&mut stranger).await.unwrap()
}

const UNPAID: &str = "SELECT COUNT(*) FROM unpaid";
const OUTBOX: &str = "SELECT COUNT(*) FROM outbox";

fn cancelled(orders: &[OrderRecord]) -> Vec<OrderRecord> {
    orders.iter().map(|order| order.after(Step::Cancel, Some(CancelReason::Buyer)).unwrap()).collect()
}

async fn cancel(backend: &Backend, orders: &[OrderId]) {
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let found = transaction.lock_orders(orders, false).await.unwrap();
    transaction.move_orders(&found, &cancelled(&found)).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn only_orders_that_are_to_be_paid_wait_and_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let free = opened_sale(&backend, 1_000).await;
    commit(&backend, &free, 0..10).await;
    assert_eq!((count(dir.path(), UNPAID).await, count(dir.path(), OUTBOX).await), (0, 0));

    let sale = paid_sale(&backend, 1_000).await;
    assert_eq!(sale.payment_window_ms, Some(WINDOW_MS));
    let ids = commit(&backend, &sale, 0..250).await;
    let waiting = backend.outbox.list(OutboxState::Pending, 10).await.unwrap();
    let told = |event: &seckill_core::OutboxEvent| match event.message.event().unwrap().body {
        seckill_core::EventBody::OrderCommitted(orders) => orders.orders,
        other => panic!("{other:?}"),
    };
    let sizes: Vec<_> = waiting.iter().map(|event| told(event).len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    let told: Vec<_> = waiting.iter().flat_map(told).map(|order| (order.order_id, order.sequence)).collect();
    assert_eq!(told, ids.iter().map(|id| (*id, 1)).collect::<Vec<_>>());
    let mut stranger = connect(dir.path(), "ledger.db").await;
    let late = "SELECT COUNT(*) FROM unpaid JOIN orders ON id = order_id WHERE pay_by = committed_at + 60000";
    let on_time: i64 = sqlx::query_scalar(late).fetch_one(&mut stranger).await.unwrap();
    assert_eq!((on_time, count(dir.path(), UNPAID).await), (250, 250));
}

#[tokio::test]
async fn a_commit_that_cannot_tell_of_its_orders_has_not_happened() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = paid_sale(&backend, 10).await;
    let mut stranger = connect(dir.path(), "ledger.db").await;
    sqlx::query("ALTER TABLE outbox RENAME TO hidden").execute(&mut stranger).await.unwrap();
    let orders = [order(sale.id, 1)];
    let mut writer = backend.ledger.writer().await.unwrap();
    writer.commit(&orders).await.unwrap_err();
    assert_eq!(count(dir.path(), UNPAID).await, 0);
    assert_eq!(backend.ledger.totals(sale.id).await.unwrap().orders, 0);
    sqlx::query("ALTER TABLE hidden RENAME TO outbox").execute(&mut stranger).await.unwrap();
    assert_eq!(writer.commit(&orders).await.unwrap(), [Fate::Committed]);
    // Of what had come before nobody is told again.
    assert_eq!(writer.commit(&orders).await.unwrap(), [Fate::AlreadyCommitted]);
    assert_eq!((count(dir.path(), UNPAID).await, count(dir.path(), OUTBOX).await), (1, 1));
}

#[tokio::test]
async fn a_batch_that_fits_in_part_tells_of_that_part() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = paid_sale(&backend, 3).await;
    let orders: Vec<_> = (0..5).map(|user| order(sale.id, user)).collect();
    let fates = backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Committed).count(), 3);
    assert_eq!((count(dir.path(), UNPAID).await, count(dir.path(), OUTBOX).await), (3, 1));
}

#[tokio::test]
async fn a_transaction_that_is_dropped_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = paid_sale(&backend, 10).await;
    let ids = commit(&backend, &sale, 0..3).await;
    let before = backend.ledger.sale(sale.id).await.unwrap();
    let event = uuid::Uuid::now_v7();
    {
        let mut transaction = backend.lifecycle.begin().await.unwrap();
        let found = transaction.lock_orders(&ids, false).await.unwrap();
        transaction.move_orders(&found, &cancelled(&found)).await.unwrap();
        assert!(transaction.first_time("loyalty", event).await.unwrap());
        let points = Effect::Points { user: found[0].claim.user_id, points: 5 };
        transaction.apply(&points).await.unwrap();
    }
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), before);
    let order = backend.ledger.order(ids[0]).await.unwrap().unwrap();
    assert_eq!((order.status, order.cancelled), (OrderStatus::Committed, None));
    assert_eq!(backend.lifecycle.points(order.claim.user_id).await.unwrap(), 0);
    assert_eq!(count(dir.path(), UNPAID).await, 3);
    // The connection is free again, and the event is still new.
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    assert!(transaction.first_time("loyalty", event).await.unwrap());
    assert!(!transaction.first_time("loyalty", event).await.unwrap());
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn more_orders_than_one_statement_takes_end_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = paid_sale(&backend, 2_000).await;
    let ids = commit(&backend, &sale, 0..1_200).await;
    cancel(&backend, &ids[..1_100]).await;
    let sale = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((sale.sold, sale.orders), (100, 100));
    assert_eq!(sale.ended, Ended { orders: 1_100, units: 1_100, ..Ended::default() });
    assert_eq!(count(dir.path(), UNPAID).await, 100);
    let order = backend.ledger.order(ids[0]).await.unwrap().unwrap();
    assert_eq!((order.status, order.cancelled), (OrderStatus::Cancelled, Some(CancelReason::Buyer)));
    // Its user may buy again.
    commit(&backend, &sale, 0..1).await;
}

#[test]
fn a_cancelled_order_that_is_still_queued_has_no_units_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sale = in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let sale = paid_sale(&backend, 10).await;
        let accepted = accept(&backend, &sale, &[claim(1), claim(2)]).await;
        let mut consumer = backend.queue.consumer(1).await.unwrap();
        let orders: Vec<_> = next(&mut consumer).await.batch.into_orders().collect();
        // Committed and never acknowledged; then one is cancelled, and the gate takes it back.
        backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
        cancel(&backend, &[accepted[0].order_id]).await;
        let mut transaction = backend.lifecycle.begin().await.unwrap();
        transaction.apply(&Effect::Returned { sale: sale.id, orders: 1, units: 1 }).await.unwrap();
        transaction.commit().await.unwrap();
        sale
    });
    in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let level = backend.gate.level(sale.id).await.unwrap();
        assert_eq!(level, Some(GateLevel { epoch: EPOCH, remaining: 9, orders: 1, pending_orders: 0 }));
        drain(&backend).await;
        let report = audit(&backend, sale.id).await;
        assert_eq!((report.verdict, report.sold, report.returning), (Verdict::Clean, 1, 0), "{report:?}");
    });
}

#[tokio::test]
async fn a_claim_finds_nothing_without_waiting_for_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let transaction = backend.lifecycle.begin().await.unwrap();
    let claim = backend.outbox.claim(10, Duration::from_secs(1));
    assert_eq!(tokio::time::timeout(DEADLINE, claim).await.unwrap().unwrap(), []);
    let forgotten = backend.outbox.forget_sent(Duration::ZERO, 10);
    assert_eq!(tokio::time::timeout(DEADLINE, forgotten).await.unwrap().unwrap(), 0);
    drop(transaction);
}

#[tokio::test]
async fn a_file_of_the_version_before_payments_is_migrated_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (sale, committed, rejected) = {
        let backend = open(dir.path()).await;
        let sale = opened_sale(&backend, 10).await;
        let committed = commit(&backend, &sale, 0..3).await[0];
        let unfit = fixtures::order_of(sale.id, 9, 3);
        backend.ledger.writer().await.unwrap().commit(std::slice::from_ref(&unfit)).await.unwrap();
        (backend.ledger.sale(sale.id).await.unwrap().unwrap(), committed, unfit.claim.order_id)
    };
    let mut stranger = connect(dir.path(), "ledger.db").await;
    sqlx::raw_sql(BEFORE_PAYMENTS).execute(&mut stranger).await.unwrap();
    drop(stranger);

    let backend = open(dir.path()).await;
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), Some(sale.clone()));
    let status = async |id| {
        let order = backend.ledger.order(id).await.unwrap().unwrap();
        (order.status, order.cancelled)
    };
    assert_eq!(status(committed).await, (OrderStatus::Committed, None));
    assert_eq!(status(rejected).await, (OrderStatus::Rejected, None));
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let found = transaction.lock_orders(&[rejected, committed], false).await.unwrap();
    assert_eq!(found.iter().map(|order| order.sequence).collect::<Vec<_>>(), [1], "a rejected order is none");
    drop(transaction);
    commit(&backend, &sale, 3..5).await;
    commit(&backend, &paid_sale(&backend, 5).await, 0..5).await;
}
