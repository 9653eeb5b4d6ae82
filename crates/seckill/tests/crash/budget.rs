//! Workers that share one drain rate, while one of them is killed, and Redis is restarted, emptied and away.

use std::time::Duration;

use seckill_core::{CAPACITY_LEASE, Mode, Publisher, Sale};
use seckill_testkit::eventually;
use seckill_testkit::fixtures::{batch, new_sale};
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};

use crate::bed::{HEALED, Servers, say, turn};

/// Orders a second, for all workers together.
const RATE: u64 = 300;
const WORKER: &[&str] = &["--drain-rate", "300"];
/// Orders between one event and the next.
const STEP: u64 = 300;
/// Orders that take longer than a lease lasts.
const LONGER_THAN_A_LEASE: u64 = RATE * (CAPACITY_LEASE.as_secs() + 1);
/// A window of two seconds: committing takes its time, too, and not always the same.
const WINDOW: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn workers_keep_one_rate_while_one_is_killed_and_redis_loses_the_leases() {
    let _turn = turn("workers_keep_one_rate_while_one_is_killed_and_redis_loses_the_leases").await;
    let servers = Servers::start().await;
    let backend = servers.urls.backend();
    backend.ledger.id().await.unwrap();
    // A sale without a gate: no gateway takes part, and nothing is rebuilt.
    let sale = backend.ledger.create_sale(&new_sale(10_000, 2), Mode::Queue).await.unwrap();
    publish(&mut *backend.queue.publisher().await.unwrap(), &sale).await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(servers.urls.worker(WORKER).await);
    }
    let mut mysql = MySqlConnection::connect(&servers.urls.mysql).await.unwrap();
    let mut wanted = 0;
    let mut drained = async |what: &str, orders: u64| {
        wanted += orders;
        eventually(HEALED, async || match backend.ledger.sale(sale.id).await {
            Ok(Some(sale)) if sale.orders >= wanted => Ok(()),
            other => Err(other.map(|sale| sale.map(|sale| sale.orders))),
        })
        .await;
        say(&format!("{what}: {wanted} orders"));
    };
    drained("three workers", STEP).await;
    workers.remove(0).kill().await;
    drained("one was killed", STEP).await;
    servers.redis.restart().await;
    drained("Redis was restarted", STEP).await;
    servers.redis.restart_empty().await;
    drained("Redis was emptied", STEP).await;
    // Each goes on at its safe capacity.
    servers.redis.kill().await;
    drained("Redis is away", LONGER_THAN_A_LEASE).await;
    servers.redis.start_again().await;
    workers.push(servers.urls.worker(WORKER).await);
    drained("Redis is back, and another worker", STEP).await;
    drop(workers);
    let busiest = busiest(&mut mysql).await;
    say(&format!("at most {busiest} orders within {WINDOW:?}"));
    // Each by itself would write 300 a second, and all of them 900.
    let allowed = RATE * WINDOW.as_secs();
    assert!(busiest <= allowed + allowed / 2, "{busiest} orders within {WINDOW:?}");
}

async fn publish(publisher: &mut dyn Publisher, sale: &Sale) {
    for first in (1..5_000).step_by(50) {
        publisher.publish(&batch(sale.id, first..first + 50)).await.unwrap();
    }
}

/// The most orders whose rows were written within any window.
async fn busiest(mysql: &mut MySqlConnection) -> u64 {
    let millis =
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', committed_at) DIV 1000 FROM orders ORDER BY 1";
    let rows = sqlx::query(millis).fetch_all(mysql).await.unwrap();
    let at: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let window = i64::try_from(WINDOW.as_millis()).unwrap();
    let within = |first: usize| at[first..].partition_point(|time| *time < at[first] + window) as u64;
    (0..at.len()).map(within).max().unwrap_or_default()
}
