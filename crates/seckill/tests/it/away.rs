//! Servers that are away at the start or go away later: every process survives, reports which, and goes on.

use seckill_client::{DependencyReport, DependencyStatus, ProblemKind, Readiness};
use seckill_core::{SaleState, Verdict};
use seckill_testkit::{PrivateMySql, PrivateRabbit, PrivateRedis, eventually};

use crate::process::{Role, SOON, Urls, accepted, refusal};

struct Servers {
    redis: PrivateRedis,
    rabbit: PrivateRabbit,
    mysql: PrivateMySql,
}

impl Servers {
    async fn start() -> (Self, Urls) {
        let (redis, rabbit, mysql) =
            tokio::join!(PrivateRedis::start(), PrivateRabbit::start(), PrivateMySql::start());
        let urls = Urls { redis: redis.url(), amqp: rabbit.url(), mysql: mysql.url(), queue_redis: None };
        (Self { redis, rabbit, mysql }, urls)
    }
}

/// Waits until `/readyz` reports `status`, with exactly these dependencies down.
async fn ready(role: &Role, status: Readiness, down: &[&str]) {
    let client = role.client();
    eventually(SOON, async || {
        let report = client.readiness().await.map_err(Err)?;
        let is_down = |(_, report): &(_, &DependencyReport)| report.status == DependencyStatus::Down;
        let seen: Vec<_> =
            report.dependencies.iter().filter(is_down).map(|(name, _)| name.as_str()).collect();
        if report.status == status && seen == down { Ok(()) } else { Err(Ok(report)) }
    })
    .await;
}

/// Orders as users from `first` on, one after the other, until one gets an order, or is refused with 503; returns that user.
async fn order_until(gateway: &Role, sale: u64, first: u64, taken: bool) -> u64 {
    let mut user = first - 1;
    eventually(SOON, async || {
        user += 1;
        match gateway.order(sale, user).await {
            Ok(_) if taken => Ok(user),
            Err(error) if !taken && error.status() == Some(503) => Ok(user),
            other => Err(other),
        }
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
    ready(&gateway, Readiness::Unready, &["gate", "ledger", "queue"]).await;
    ready(&worker, Readiness::Unready, &["gate", "ledger", "queue"]).await;
    gateway.client().alive().await.unwrap();
    tokio::join!(servers.redis.start_again(), servers.rabbit.start_again(), servers.mysql.start_again());
    ready(&gateway, Readiness::Ready, &[]).await;
    ready(&worker, Readiness::Ready, &[]).await;
    let sale = gateway.open_sale(1_000_000).await;
    let mut user = order_until(&gateway, sale, 1, true).await;

    // Without the gate no order is accepted.
    servers.redis.stop().await;
    user = order_until(&gateway, sale, user + 1, false).await;
    ready(&gateway, Readiness::Unready, &["gate"]).await;
    servers.redis.start_again().await;
    user = order_until(&gateway, sale, user + 1, true).await;

    // Without the queue no order is accepted either.
    servers.rabbit.stop().await;
    user = order_until(&gateway, sale, user + 1, false).await;
    ready(&gateway, Readiness::Unready, &["queue"]).await;
    servers.rabbit.start_again().await;
    user = order_until(&gateway, sale, user + 1, true).await;

    // Without the database orders are accepted.
    servers.mysql.stop().await;
    ready(&gateway, Readiness::Degraded, &["ledger"]).await;
    ready(&worker, Readiness::Unready, &["ledger"]).await;
    for _ in 0..20 {
        user += 1;
        accepted(gateway.order(sale, user).await);
    }
    servers.mysql.start_again().await;
    ready(&worker, Readiness::Ready, &[]).await;
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
        ids.push(accepted(gateway.order(sale, user).await));
    }
    cluster.flush_redis().await;
    assert_eq!(refusal(gateway.order(sale, 6).await), ProblemKind::Rebuilding);
    let rebuilt = eventually(SOON, async || {
        let shown = gateway.sale(sale).await;
        let open = shown.sale.state == SaleState::Open && shown.sale.epoch == 2;
        if open { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!((rebuilt.remaining, rebuilt.sale.orders), (Some(1), 5), "{rebuilt:?}");
    // The directory of a gateway is a second behind at the most, and a buyer may not ask too often.
    let first = eventually(SOON, async || match gateway.order(sale, 1).await {
        Err(error) if matches!(error.status(), Some(429 | 503)) => Err(error),
        answer => Ok(answer.unwrap()),
    })
    .await;
    assert_eq!((first.replayed, first.value.order_id), (true, ids[0]), "{first:?}");
    accepted(gateway.order(sale, 6).await);
    assert_eq!(refusal(gateway.order(sale, 7).await), ProblemKind::SoldOut);
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!((report.verdict, report.committed_orders), (Verdict::Clean, 6), "{report:?}");
}
