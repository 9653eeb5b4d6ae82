//! The queue's file: what cannot be read, who reads what, and how it comes through a failure.

use std::collections::BTreeSet;
use std::time::Duration;

use seckill_core::{Backend, Fault, OrderBatch, SaleId};
use seckill_testkit::eventually;
use sqlx::Row;

use crate::harness::*;

const SALE: SaleId = SaleId(1);

fn batch(users: impl IntoIterator<Item = u64>) -> OrderBatch {
    OrderBatch::new(SALE, EPOCH, users.into_iter().map(claim).collect())
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_parked_and_those_behind_them_arrive() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).await);
    let mut stranger = connect(dir.path(), "queue.db").await;
    for body in ["'no JSON'", "CAST(x'ff00fe' AS TEXT)", "'{\"orders\":[]}'"] {
        let sql = sqlx::AssertSqlSafe(format!("INSERT INTO batches (orders, body) VALUES (5, {body})"));
        sqlx::query(sql).execute(&mut stranger).await.unwrap();
    }

    let backend = open(dir.path()).await;
    let good = batch([1, 2]);
    backend.queue.publisher().await.unwrap().publish(&good).await.unwrap();
    assert_eq!(backend.queue.depth().await.unwrap().orders, Some(17));
    let mut consumer = backend.queue.consumer(1).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, good);
    assert_eq!(backend.queue.depth().await.unwrap().orders, Some(2));

    let mut sql = async |sql: &'static str| {
        let row = sqlx::query(sql).fetch_one(&mut stranger).await.unwrap();
        (row.get::<i64, _>(0), row.get::<i64, _>(1))
    };
    eventually(DEADLINE, async || {
        match sql("SELECT COUNT(*), SUM(orders) FROM parked WHERE reason <> ''").await {
            (3, 15) => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    assert_eq!(sql("SELECT COUNT(*), SUM(orders) FROM batches").await, (1, 2));
}

#[tokio::test]
async fn consumers_share_many_pages_and_none_gets_what_another_holds() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut publisher = backend.queue.publisher().await.unwrap();
    for user in 0..300 {
        publisher.publish(&batch([user])).await.unwrap();
    }
    let mut lazy = backend.queue.consumer(100).await.unwrap();
    for _ in 0..100 {
        next(&mut lazy).await;
    }
    assert_eq!(backend.queue.depth().await.unwrap().ready_batches, 200);

    let mut busy = backend.queue.consumer(7).await.unwrap();
    let mut users = Vec::new();
    let mut lazy = Some(lazy);
    for count in 0..300 {
        if count == 150 {
            // Its batches go on at once, in their turn: before those that nobody had yet.
            drop(lazy.take());
        }
        let delivery = next(&mut busy).await;
        users.push(delivery.batch.orders[0].user_id.0);
        busy.ack(delivery.tag).await.unwrap();
    }
    let expected: Vec<_> = (100..250).chain(0..100).chain(250..300).collect();
    assert_eq!(users, expected);
    assert_eq!(users.iter().collect::<BTreeSet<_>>().len(), 300);
    let depth = backend.queue.depth().await.unwrap();
    assert_eq!((depth.ready_batches, depth.orders), (0, Some(0)));
}

#[tokio::test]
async fn acknowledged_batches_stay_away_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut publisher = backend.queue.publisher().await.unwrap();
    publisher.publish(&batch([1])).await.unwrap();
    publisher.publish(&batch([2])).await.unwrap();
    let mut consumer = backend.queue.consumer(2).await.unwrap();
    let (first, _second) = (next(&mut consumer).await, next(&mut consumer).await);
    consumer.ack(first.tag).await.unwrap();
    drop((backend, publisher, consumer));

    let backend = open(dir.path()).await;
    let mut consumer = backend.queue.consumer(2).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch.orders[0].user_id.0, 2);
    let depth = backend.queue.depth().await.unwrap();
    assert_eq!((depth.ready_batches, depth.orders), (0, Some(1)));
}

#[tokio::test]
async fn a_file_that_fails_takes_nothing_and_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut publisher = backend.queue.publisher().await.unwrap();
    publisher.publish(&batch([1])).await.unwrap();
    let mut consumer = backend.queue.consumer(2).await.unwrap();
    let delivery = next(&mut consumer).await;

    let mut stranger = connect(dir.path(), "queue.db").await;
    sqlx::query("ALTER TABLE batches RENAME TO hidden").execute(&mut stranger).await.unwrap();
    let failed = publisher.publish(&batch([2])).await.unwrap_err();
    assert!(matches!(failed, Fault::Unavailable { .. }), "{failed}");
    assert!(!publisher.accepting());
    consumer.ack(delivery.tag).await.unwrap();
    sqlx::query("ALTER TABLE hidden RENAME TO batches").execute(&mut stranger).await.unwrap();

    eventually(DEADLINE, async || if publisher.accepting() { Ok(()) } else { Err("not accepting") }).await;
    publisher.publish(&batch([3])).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch.orders[0].user_id.0, 3);
    assert_eq!(backend.queue.depth().await.unwrap().orders, Some(1));
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM batches").fetch_one(&mut stranger).await.unwrap();
    assert_eq!(left, 1, "what was acknowledged meanwhile has left the file");
}

#[tokio::test]
async fn a_commit_that_fails_is_an_unknown_outcome_and_the_counters_stay_right() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut publisher = backend.queue.publisher().await.unwrap();
    publisher.publish(&batch([1])).await.unwrap();

    // A constraint that is checked at the commit, and broken by every insert.
    let mut stranger = connect(dir.path(), "queue.db").await;
    for sql in [
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TRIGGER broken AFTER INSERT ON batches BEGIN INSERT INTO child VALUES (1); END",
    ] {
        sqlx::query(sql).execute(&mut stranger).await.unwrap();
    }
    let failed = publisher.publish(&batch([2, 3])).await.unwrap_err();
    assert!(failed.may_have_happened(), "{failed}");
    assert_eq!(backend.queue.depth().await.unwrap().orders, Some(1));
    sqlx::query("DROP TRIGGER broken").execute(&mut stranger).await.unwrap();
    // As if the commit had gone through all the same.
    let body = serde_json::to_string(&batch([4, 5, 6])).unwrap();
    let insert = sqlx::query("INSERT INTO batches (orders, body) VALUES (3, ?)").bind(body);
    insert.execute(&mut stranger).await.unwrap();

    publisher.publish(&batch([7])).await.unwrap();
    let depth = backend.queue.depth().await.unwrap();
    assert_eq!((depth.ready_batches, depth.orders), (3, Some(5)));
    drain_queue(&backend).await;
    let depth = backend.queue.depth().await.unwrap();
    assert_eq!((depth.ready_batches, depth.orders), (0, Some(0)));
}

async fn drain_queue(backend: &Backend) {
    let mut consumer = backend.queue.consumer(1).await.expect("a consumer");
    while backend.queue.depth().await.expect("a depth").ready_batches > 0 {
        let delivery = next(&mut consumer).await;
        consumer.ack(delivery.tag).await.expect("the queue takes it");
    }
}

#[tokio::test]
async fn a_batch_of_no_orders_or_too_many_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut publisher = backend.queue.publisher().await.unwrap();
    for users in [0..0, 0..257] {
        assert!(publisher.publish(&batch(users)).await.is_err());
    }
    publisher.publish(&batch(0..256)).await.unwrap();
    let mut consumer = backend.queue.consumer(2).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch.orders.len(), 256);
    let nothing = tokio::time::timeout(Duration::from_millis(50), consumer.next()).await;
    assert!(nothing.is_err(), "nothing else is there");
}
