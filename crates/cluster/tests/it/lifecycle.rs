//! What only MySQL can get wrong after an order's commit: an older database, a transaction that breaks off, answers that do not
//! come, and rows that somebody else has locked.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use seckill_core::{
    Backend, CancelReason, Effect, Event, EventBody, EventOrder, Fate, Fault, Mode, NewSale, OrderId,
    OrderRecord, OrderStatus, Orders, OutboxState, Sale, SaleId, Step, UserId,
};
use seckill_testkit::proxy::{Direction, Flow};
use seckill_testkit::{FaultProxy, TestMySql, eventually};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use uuid::Uuid;

use crate::setup::{SOON, ledger_at, new_sale, order};

const LEASE: Duration = Duration::from_secs(60);
const WINDOW_MS: u64 = 90_000;

async fn backend(mysql: &TestMySql) -> Backend {
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    ledger_at(&mysql.url)
}

async fn sale_with_window(backend: &Backend) -> Sale {
    let new = NewSale { payment_window_ms: Some(WINDOW_MS), ..new_sale(10_000) };
    backend.ledger.create_sale(&new, Mode::Queue).await.unwrap()
}

/// Commits an order of each user; their ids, sorted.
async fn commit(backend: &Backend, sale: SaleId, users: std::ops::Range<u64>) -> Vec<OrderId> {
    let orders: Vec<_> = users.map(|user| order(sale, user)).collect();
    let fates = backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
    assert!(fates.iter().all(|fate| *fate == Fate::Committed), "{fates:?}");
    let mut ids: Vec<_> = orders.iter().map(|order| order.claim.order_id).collect();
    ids.sort_unstable();
    ids
}

async fn stranger(mysql: &TestMySql) -> MySqlConnection {
    MySqlConnection::connect(&mysql.url).await.unwrap()
}

async fn run(connection: &mut MySqlConnection, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await.unwrap();
}

async fn count(connection: &mut MySqlConnection, of: &str) -> i64 {
    let count = sqlx::query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {of}")));
    count.fetch_one(connection).await.unwrap()
}

fn event(sale_id: SaleId) -> Event {
    let order = EventOrder {
        order_id: OrderId::generate(),
        user_id: UserId(1),
        quantity: 1,
        amount_cents: 1,
        sequence: 2,
    };
    let orders = Orders { sale_id, reason: None, orders: vec![order] };
    Event::new(seckill_core::LedgerId(Uuid::nil()), EventBody::OrderPaid(orders))
}

fn cancelled(from: &[OrderRecord]) -> Vec<OrderRecord> {
    from.iter().map(|order| order.after(Step::Cancel, Some(CancelReason::Expired)).unwrap()).collect()
}

#[tokio::test]
async fn a_database_of_the_version_before_is_migrated_without_loss_and_as_often_as_needed() {
    let mysql = seckill_testkit::mysql().await;
    let mut stranger = stranger(&mysql).await;
    run(&mut stranger, include_str!("../../../../migrations/mysql/0001_sales_orders_rejections.sql")).await;
    run(&mut stranger, include_str!("../../../../migrations/mysql/0002_identity_and_rebuild.sql")).await;
    run(
        &mut stranger,
        "INSERT INTO sales (id, name, product, stock, sold, orders, rejected_orders, price_cents, currency, per_user_limit, \
         starts_at, ends_at, epoch, created_at) VALUES \
         (7, 'old', 'phone', 5, 2, 1, 1, 250, 'USD', 2, NOW(), NOW() + INTERVAL 1 DAY, 3, NOW()); \
         INSERT INTO orders VALUES (x'00000000000000000000000000000001', 7, 1, 2, 500, 'committed', 1, NOW(), NOW()); \
         INSERT INTO rejections VALUES (x'00000000000000000000000000000002', 7, 2, 1, 'sold_out', NOW(), NOW())",
    )
    .await;
    let backend = ledger_at(&mysql.url);
    let fault = backend.lifecycle.overdue(None, 1).await.unwrap_err();
    assert!(fault.to_string().contains("run `seckill migrate`"), "{fault}");
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    let read = async || {
        let orders = backend.ledger.orders_after(SaleId(7), None, 10).await.unwrap();
        (backend.ledger.sale(SaleId(7)).await.unwrap().unwrap(), orders)
    };
    let (sale, orders) = read().await;
    assert_eq!((sale.payment_window_ms, sale.ended.is_none(), sale.sold), (None, true, 2));
    let states: Vec<_> = orders.iter().map(|order| (order.status, order.cancelled)).collect();
    assert_eq!(states, [(OrderStatus::Committed, None), (OrderStatus::Rejected, None)]);
    let one = OrderId(Uuid::from_u128(1));
    let locked = backend.lifecycle.begin().await.unwrap().lock_orders(&[one], false).await.unwrap();
    assert_eq!((locked[0].sequence, locked[0].state.active), (1, true));

    // Interrupted after the last statement, and run again.
    run(&mut stranger, "DELETE FROM _sqlx_migrations WHERE version = 3").await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    assert_eq!(read().await, (sale, orders));
    // Interrupted in the middle.
    let undo = "DELETE FROM _sqlx_migrations WHERE version = 3; DROP TABLE funnel; \
                ALTER TABLE orders DROP COLUMN sequence, DROP COLUMN cancel_reason";
    run(&mut stranger, undo).await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    assert_eq!(read().await.1.len(), 2);
    assert_eq!(backend.lifecycle.funnel(SaleId(7)).await.unwrap(), []);
}

#[tokio::test]
async fn a_commit_writes_deadlines_and_events_with_the_orders_or_nothing() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    let mut stranger = stranger(&mysql).await;
    let plain = backend.ledger.create_sale(&new_sale(10_000), Mode::Queue).await.unwrap();
    commit(&backend, plain.id, 0..300).await;
    assert_eq!((count(&mut stranger, "unpaid").await, count(&mut stranger, "outbox").await), (0, 0));

    let sale = sale_with_window(&backend).await;
    let ids = commit(&backend, sale.id, 0..500).await;
    // One batch for both sales, and one order that is known and so has everything sorted.
    let mut mixed: Vec<_> = (500..600).map(|user| order(sale.id, user)).collect();
    mixed.push(order(plain.id, 1_000));
    mixed.push(order(sale.id, 0));
    let fates = backend.ledger.writer().await.unwrap().commit(&mixed).await.unwrap();
    assert_eq!(fates.iter().filter(|fate| **fate == Fate::Committed).count(), 101);
    assert_eq!((count(&mut stranger, "unpaid").await, count(&mut stranger, "outbox").await), (600, 6));
    // The time to pay is counted from the moment that the order's row says.
    let exact = format!(
        "unpaid JOIN orders ON orders.id = unpaid.order_id WHERE orders.sale_id = {} AND \
         unpaid.pay_by = CAST(UNIX_TIMESTAMP(orders.committed_at) * 1000 AS UNSIGNED) + {WINDOW_MS}",
        sale.id
    );
    run(&mut stranger, "SET time_zone = '+00:00'").await;
    assert_eq!(count(&mut stranger, &exact).await, 600);
    let events = backend.outbox.list(OutboxState::Pending, 10).await.unwrap();
    let EventBody::OrderCommitted(told) = events[0].message.event().unwrap().body else {
        panic!("{events:?}")
    };
    assert!(ids.contains(&told.orders[99].order_id));

    // Where the events cannot be written, neither are the orders, in either way of committing.
    run(&mut stranger, "ALTER TABLE outbox ADD CONSTRAINT no_more CHECK (subject NOT LIKE 'orders/%')").await;
    let late = order(sale.id, 2_000);
    for batch in [vec![late.clone()], vec![late.clone(), order(sale.id, 0)]] {
        let fault = backend.ledger.writer().await.unwrap().commit(&batch).await.unwrap_err();
        assert!(matches!(fault, Fault::Corrupt { .. }), "{fault}");
    }
    assert_eq!(backend.ledger.order(late.claim.order_id).await.unwrap(), None);
    assert_eq!((count(&mut stranger, "unpaid").await, count(&mut stranger, "outbox").await), (600, 6));
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap().unwrap().sold, 600);
}

#[tokio::test]
async fn many_orders_are_cancelled_at_once_and_counted() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    let mut stranger = stranger(&mysql).await;
    let (one, two) = (sale_with_window(&backend).await.id, sale_with_window(&backend).await.id);
    let mut ids = commit(&backend, one, 0..450).await;
    ids.extend(commit(&backend, two, 0..450).await);
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let from = transaction.lock_orders(&ids, false).await.unwrap();
    assert_eq!(from.len(), 900);
    transaction.move_orders(&from, &cancelled(&from)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(count(&mut stranger, "unpaid").await, 0);
    for sale in [one, two] {
        let sale = backend.ledger.sale(sale).await.unwrap().unwrap();
        assert_eq!((sale.sold, sale.orders, sale.ended.orders, sale.ended.units), (0, 0, 450, 450));
    }
    // What is not as it was read is not moved, and nothing of its transaction is committed.
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let fault = transaction.move_orders(&from[..1], &cancelled(&from[..1])).await.unwrap_err();
    assert!(matches!(fault, Fault::Corrupt { .. }), "{fault}");
    assert!(matches!(transaction.commit().await, Err(Fault::Unavailable { .. })));
}

#[tokio::test]
async fn a_lost_answer_to_commit_is_unknown_and_an_earlier_loss_changes_nothing() {
    let mysql = seckill_testkit::mysql().await;
    let direct = backend(&mysql).await;
    let proxy = FaultProxy::start(&mysql.url).await;
    let backend = ledger_at(&proxy.url(&mysql.url));
    let sale = sale_with_window(&direct).await;
    let ids = commit(&direct, sale.id, 0..2).await;
    let cancel = async |id: OrderId| {
        let mut transaction = backend.lifecycle.begin().await.unwrap();
        let from = transaction.lock_orders(&[id], false).await.unwrap();
        transaction.move_orders(&from, &cancelled(&from)).await.unwrap();
        transaction.add_event(&event(sale.id)).await.unwrap();
        transaction
    };
    let ended = async || direct.ledger.sale(sale.id).await.unwrap().unwrap().ended.orders;

    let transaction = cancel(ids[0]).await;
    proxy.set(Direction::ToServer, Flow::CutReplyTo("COMMIT"));
    let fault = transaction.commit().await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault}");
    eventually(SOON, async || if ended().await == 1 { Ok(()) } else { Err("not committed") }).await;

    proxy.set(Direction::ToServer, Flow::Pass);
    let transaction = cancel(ids[1]).await;
    proxy.set(Direction::ToServer, Flow::CutReplyTo("UPDATE sales"));
    let fault = transaction.commit().await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    proxy.set(Direction::ToServer, Flow::Pass);
    // The lock is free again, and nothing of it was done.
    cancel(ids[1]).await.commit().await.unwrap();
    assert_eq!(ended().await, 2);
}

#[tokio::test]
async fn a_connection_that_the_server_has_ended_is_replaced() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    backend.lifecycle.begin().await.unwrap().commit().await.unwrap();
    let mut stranger = stranger(&mysql).await;
    let others =
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    let ids: Vec<i64> =
        sqlx::query_scalar(AssertSqlSafe(others.replace("SELECT id", "SELECT CAST(id AS SIGNED)")))
            .fetch_all(&mut stranger)
            .await
            .unwrap();
    for id in ids {
        run(&mut stranger, format!("KILL {id}")).await;
    }
    backend.lifecycle.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn locked_orders_are_left_out_or_waited_for_until_it_is_too_long() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    let sale = sale_with_window(&backend).await;
    let ids = commit(&backend, sale.id, 0..3).await;
    let mut holder = backend.lifecycle.begin().await.unwrap();
    holder.lock_orders(&ids[..1], false).await.unwrap();
    let mut other = backend.lifecycle.begin().await.unwrap();
    let free = other.lock_orders(&ids, true).await.unwrap();
    assert_eq!(free.iter().map(|order| order.claim.order_id).collect::<Vec<_>>(), ids[1..]);
    let fault = other.lock_orders(&ids, false).await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    // A statement alone has failed; all the same the transaction is over.
    assert!(matches!(other.commit().await, Err(Fault::Unavailable { .. })));
    // A new order, and the sale itself, wait for nobody.
    commit(&backend, sale.id, 10..11).await;
    holder.commit().await.unwrap();
}

#[tokio::test]
async fn claimers_and_writers_at_once_are_in_nobodys_way() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    let sale = sale_with_window(&backend).await.id;
    let write = async |from: u64| {
        for batch in 0..10 {
            commit(&backend, sale, from + batch * 20..from + batch * 20 + 20).await;
        }
    };
    let claim = async || {
        let (mut mine, mut idle) = (Vec::new(), 0);
        while idle < 20 {
            let claimed = backend.outbox.claim(3, LEASE).await.unwrap();
            let ids: Vec<_> = claimed.iter().map(|event| event.message.id).collect();
            backend.outbox.mark_sent(&ids).await.unwrap();
            idle = if ids.is_empty() { idle + 1 } else { 0 };
            mine.extend(ids);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        mine
    };
    let ((), (), claimed) = tokio::join!(write(0), write(1_000), join_all((0..4).map(|_| claim())));
    let mut claimed = claimed.concat();
    claimed.extend(claim().await);
    let different: BTreeSet<_> = claimed.iter().collect();
    assert_eq!((claimed.len(), different.len()), (20, 20));
    assert_eq!(backend.outbox.list(OutboxState::Sent, 100).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_claim_passes_over_an_event_that_somebody_has_locked() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    let sale = sale_with_window(&backend).await.id;
    commit(&backend, sale, 0..300).await;
    let mut stranger = stranger(&mysql).await;
    run(&mut stranger, "START TRANSACTION").await;
    run(&mut stranger, "SELECT * FROM outbox WHERE number = (SELECT MIN(number) FROM outbox) FOR UPDATE")
        .await;
    assert_eq!(backend.outbox.claim(10, LEASE).await.unwrap().len(), 2);
    run(&mut stranger, "ROLLBACK").await;
    assert_eq!(backend.outbox.claim(10, LEASE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn effects_of_many_transactions_on_the_same_rows_add_up() {
    let mysql = seckill_testkit::mysql().await;
    let backend = backend(&mysql).await;
    let sale = sale_with_window(&backend).await.id;
    let add = async |number: u64| {
        for _ in 0..10 {
            eventually(SOON, async || {
                let mut transaction = backend.lifecycle.begin().await?;
                // In another order at every other one.
                let users = if number.is_multiple_of(2) { [1, 2] } else { [2, 1] };
                for user in users {
                    transaction.apply(&Effect::Points { user: UserId(user), points: 1 }).await?;
                }
                transaction.apply(&Effect::Returned { sale, orders: 1, units: 2 }).await?;
                transaction.commit().await
            })
            .await;
        }
    };
    join_all((0..6).map(add)).await;
    let ended = backend.ledger.sale(sale).await.unwrap().unwrap().ended;
    assert_eq!((ended.returned_orders, ended.returned_units), (60, 120));
    for user in [1, 2] {
        assert_eq!(backend.lifecycle.points(UserId(user)).await.unwrap(), 60);
    }
}
