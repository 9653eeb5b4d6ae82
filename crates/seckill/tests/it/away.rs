//! Servers that are away at the start or go away later: every process survives, reports which, and goes on.

use seckill_core::Verdict;
use seckill_testkit::{PrivateMySql, PrivateRabbit, PrivateRedis, eventually};
use serde_json::Value;

use crate::process::{Role, SOON, Urls};

struct Servers {
    redis: PrivateRedis,
    rabbit: PrivateRabbit,
    mysql: PrivateMySql,
}

impl Servers {
    async fn start() -> (Self, Urls) {
        let (redis, rabbit, mysql) =
            tokio::join!(PrivateRedis::start(), PrivateRabbit::start(), PrivateMySql::start());
        let urls = Urls { redis: redis.url(), amqp: rabbit.url(), mysql: mysql.url() };
        (Self { redis, rabbit, mysql }, urls)
    }
}

/// Waits until `/readyz` reports `status`, with exactly these dependencies down.
async fn ready(role: &Role, status: &str, down: &[&str]) {
    eventually(SOON, async || {
        let (_, report) = role.get("/readyz").await;
        let dependencies = report["dependencies"].as_object().cloned().unwrap_or_default();
        let is_down = |(_, report): &(&String, &Value)| report["status"] == "down";
        let seen: Vec<_> = dependencies.iter().filter(is_down).map(|(name, _)| name.as_str()).collect();
        if report["status"] == status && seen == down { Ok(()) } else { Err(report) }
    })
    .await;
}

/// Orders as users from `first` on, one after the other, until one is answered with `status`; returns that user.
async fn order_until(gateway: &Role, sale: u64, first: u64, status: u16) -> u64 {
    let mut user = first - 1;
    eventually(SOON, async || {
        user += 1;
        let (seen, body) = gateway.order(sale, user).await;
        if seen == status { Ok(user) } else { Err((seen, body)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_survive_every_server_being_away_at_the_start_and_later() {
    let (servers, urls) = Servers::start().await;
    urls.migrate().await;
    tokio::join!(servers.redis.stop(), servers.rabbit.stop(), servers.mysql.stop());

    // Away at the start.
    let gateway = urls.gateway(&["--stranded-after", "1s"]).await;
    let worker = urls.worker(&[]).await;
    ready(&gateway, "unready", &["gate", "ledger", "queue"]).await;
    ready(&worker, "unready", &["gate", "ledger", "queue"]).await;
    assert_eq!(gateway.get("/livez").await.0, 200);
    tokio::join!(servers.redis.start_again(), servers.rabbit.start_again(), servers.mysql.start_again());
    ready(&gateway, "ready", &[]).await;
    ready(&worker, "ready", &[]).await;
    let sale = gateway.open_sale(1_000_000).await;
    let mut user = order_until(&gateway, sale, 1, 202).await;

    // Without the gate no order is accepted.
    servers.redis.stop().await;
    user = order_until(&gateway, sale, user + 1, 503).await;
    ready(&gateway, "unready", &["gate"]).await;
    servers.redis.start_again().await;
    user = order_until(&gateway, sale, user + 1, 202).await;

    // Without the queue no order is accepted either.
    servers.rabbit.stop().await;
    user = order_until(&gateway, sale, user + 1, 503).await;
    ready(&gateway, "unready", &["queue"]).await;
    servers.rabbit.start_again().await;
    user = order_until(&gateway, sale, user + 1, 202).await;

    // Without the database orders are accepted.
    servers.mysql.stop().await;
    ready(&gateway, "degraded", &["ledger"]).await;
    ready(&worker, "unready", &["ledger"]).await;
    for _ in 0..20 {
        user += 1;
        let (status, body) = gateway.order(sale, user).await;
        assert_eq!(status, 202, "{body}");
    }
    servers.mysql.start_again().await;
    ready(&worker, "ready", &[]).await;
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!((report.verdict, report.pending_orders), (Verdict::Clean, Some(0)), "{report:?}");
    assert!(report.committed_orders >= 23, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_has_lost_its_data_takes_no_orders_until_it_is_rebuilt() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let gateway = urls.gateway(&[]).await;
    let _worker = urls.worker(&[]).await;
    let sale = gateway.open_sale(6).await;
    let mut ids = Vec::new();
    for user in 1..=5 {
        let (status, body) = gateway.order(sale, user).await;
        assert_eq!(status, 202);
        ids.push(body["order_id"].clone());
    }
    cluster.flush_redis().await;
    let (status, body) = gateway.order(sale, 6).await;
    assert_eq!((status, &body["type"]), (503, &Value::from("/problems/rebuilding")), "{body}");
    let rebuilt = eventually(SOON, async || {
        let (_, shown) = gateway.get(&format!("/api/v1/sales/{sale}")).await;
        if shown["state"] == "open" && shown["epoch"] == 2 { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!((&rebuilt["remaining"], &rebuilt["orders"]), (&Value::from(1), &Value::from(5)), "{rebuilt}");
    // The directory of a gateway is a second behind at the most, and a buyer may not ask too often.
    let (first, body) = eventually(SOON, async || {
        let (status, body) = gateway.order(sale, 1).await;
        if matches!(status, 429 | 503) { Err(body) } else { Ok((status, body)) }
    })
    .await;
    assert_eq!((first, &body["order_id"]), (200, &ids[0]), "{body}");
    assert_eq!(gateway.order(sale, 6).await.0, 202);
    let (status, body) = gateway.order(sale, 7).await;
    assert_eq!((status, &body["type"]), (409, &Value::from("/problems/sold-out")), "{body}");
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!((report.verdict, report.committed_orders), (Verdict::Clean, 6), "{report:?}");
}
