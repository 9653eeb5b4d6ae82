//! Servers that have no disk space left, and get it back. The tests mount small disks, which needs root, or sudo
//! without a password.

use std::sync::Arc;
use std::time::Duration;

use seckill_testkit::{PrivateMySql, PrivateRabbit, PrivateRedis, eventually};

use crate::bed::{GATEWAY, HEALED, Servers, turn};
use crate::buyers::Buyers;
use crate::check::{check, ready, unready};
use crate::process::Role;

const MIB: u64 = 1024 * 1024;
const PAUSE: Duration = Duration::from_millis(5);

/// A sale whose first orders are made.
struct Begun {
    gateway: Role,
    worker: Role,
    sale: u64,
    buyers: Arc<Buyers>,
}

async fn begin(servers: &Servers, stock: u32) -> Begun {
    let gateway = servers.urls.gateway(GATEWAY).await;
    let worker = servers.urls.worker(&[]).await;
    let sale = gateway.open_sale(stock).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=50, PAUSE).await.unwrap();
    Begun { gateway, worker, sale, buyers }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_of_mysql_is_full() {
    let _turn = turn("disk_of_mysql_is_full").await;
    let (redis, rabbit, mysql) = tokio::join!(
        PrivateRedis::start(),
        PrivateRabbit::start(),
        PrivateMySql::start_on_small_disk(400 * MIB)
    );
    let servers = Servers::of(redis, rabbit, mysql).await;
    let stock = 2_000;
    let Begun { gateway, worker, sale, buyers } = &begin(&servers, stock).await;
    check(&servers.urls, gateway, *sale, stock, buyers).await;
    servers.mysql.fill_disk(0).await;
    // So many that the tables have to grow.
    buyers.ordering(51..=stock.into(), Duration::from_millis(1)).await.unwrap();
    assert_eq!(buyers.promised().len() as u32, stock, "every order is answered with 202");
    let report = unready(worker).await;
    let ledger = &report["dependencies"]["ledger"];
    assert_eq!((&ledger["status"], ledger["reason"].is_string()), (&"down".into(), true), "{report}");
    servers.mysql.free_disk().await;
    ready(worker).await;
    assert_eq!(check(&servers.urls, gateway, *sale, stock, buyers).await, stock);
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_of_redis_is_full() {
    let _turn = turn("disk_of_redis_is_full").await;
    let (redis, rabbit, mysql) = tokio::join!(
        PrivateRedis::start_on_small_disk(16 * MIB),
        PrivateRabbit::start(),
        PrivateMySql::start()
    );
    let servers = Servers::of(redis, rabbit, mysql).await;
    let stock = 200;
    let Begun { gateway, sale, buyers, .. } = &begin(&servers, stock).await;
    servers.redis.fill_disk(0).await;
    let load = buyers.ordering(51..=120, PAUSE);
    let report = unready(gateway).await;
    let gate = &report["dependencies"]["gate"];
    assert_eq!(gate["status"], "down", "{report}");
    assert!(gate["reason"].as_str().is_some_and(|why| why.contains("No space left")), "{report}");
    refused_again(buyers).await;
    servers.redis.free_disk().await;
    load.await.unwrap();
    ready(gateway).await;
    buyers.retry_all().await;
    assert_eq!(check(&servers.urls, gateway, *sale, stock, buyers).await, 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_of_rabbitmq_is_full() {
    let _turn = turn("disk_of_rabbitmq_is_full").await;
    let (redis, rabbit, mysql) = tokio::join!(
        PrivateRedis::start(),
        PrivateRabbit::start_on_small_disk(128 * MIB),
        PrivateMySql::start()
    );
    let servers = Servers::of(redis, rabbit, mysql).await;
    let stock = 200;
    let Begun { gateway, sale, buyers, .. } = &begin(&servers, stock).await;
    // Below the node's limit of 1 MB.
    servers.rabbit.fill_disk(MIB / 2).await;
    // RabbitMQ looks at its disk from time to time, and blocks a connection only when it publishes.
    let mut user = 50;
    let report = eventually(HEALED, async || {
        user += 1;
        drop(buyers.try_once(user, 0).await);
        match gateway.get("/readyz").await {
            (503, report) if report["status"] == "unready" => Ok(report),
            other => Err(other),
        }
    })
    .await;
    let queue = &report["dependencies"]["queue"];
    assert_eq!((&queue["status"], queue["reason"].is_string()), (&"down".into(), true), "{report}");
    let load = buyers.ordering(51..=stock.into(), PAUSE);
    refused_again(buyers).await;
    servers.rabbit.free_disk().await;
    load.await.unwrap();
    ready(gateway).await;
    buyers.retry_all().await;
    assert_eq!(check(&servers.urls, gateway, *sale, stock, buyers).await, stock);
}

/// Waits until buyers have been refused for a while.
async fn refused_again(buyers: &Buyers) {
    let seen = buyers.refusals("unavailable");
    eventually(HEALED, async || {
        let refused = buyers.refusals("unavailable") - seen;
        if refused > 40 { Ok(()) } else { Err(refused) }
    })
    .await;
}
