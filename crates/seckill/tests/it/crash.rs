//! Processes that are killed at any moment, and reservations that their gateway never published.

use std::time::Duration;

use seckill_core::{Claim, Decision, OrderId, OrderStatus, SaleId, UserId, Verdict, now};
use seckill_testkit::eventually;

use crate::fleet::{check_in_sql, promised, send};
use crate::process::{Role, SOON, Urls};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_a_worker_killed_under_load_lose_nothing() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let stranded = ["--stranded-after", "2s"];
    let mut victim = urls.gateway(&stranded).await;
    let survivor = urls.gateway(&stranded).await;
    let mut worker = urls.worker(&["--drain-rate", "2000"]).await;
    let sale = survivor.open_sale(10_000).await;
    let (first, second) = (victim.url(), survivor.url());
    let arrival = Duration::from_secs(3);
    let (one, two, ()) = tokio::join!(
        send(&first, sale, 1, 6_000, arrival),
        send(&second, sale, 6_001, 6_000, arrival),
        async {
            // In the middle of the load, with orders in every part of their path.
            let path = format!("/api/v1/sales/{sale}");
            eventually(SOON, async || {
                let (_, sale) = survivor.get(&path).await;
                if sale["orders"].as_u64() >= Some(500) { Ok(()) } else { Err(sale) }
            })
            .await;
            victim.kill().await;
            worker.kill().await;
            worker = urls.worker(&["--drain-rate", "unlimited"]).await;
        }
    );
    let promised = promised(&[one, two]);
    assert!(promised.len() >= 500, "only {} orders were promised", promised.len());
    let report = survivor.audit_at_rest(sale).await;
    assert_eq!(
        (report.verdict, report.pending_orders),
        (Verdict::Clean, Some(0)),
        "{report:?}\n{}",
        worker.log()
    );
    check_in_sql(&urls, sale, &promised).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_whose_gateway_died_before_publishing_is_recovered_by_another() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let gateway = urls.gateway(&["--stranded-after", "1s"]).await;
    let _worker = urls.worker(&[]).await;
    let sale = gateway.open_sale(10).await;
    // As a gateway that dies after the reservation.
    let backend = urls.backend();
    let claim = Claim { order_id: OrderId::generate(), user_id: UserId(7), quantity: 1, accepted_at: now() };
    let reserved = backend.gate.reserve(SaleId(sale), 1, &[], &[claim]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);
    let row =
        eventually(SOON, async || backend.ledger.order(claim.order_id).await.unwrap().ok_or("no row yet"))
            .await;
    assert_eq!((row.claim, row.rejected), (claim, None));
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!((report.verdict, report.pending_orders), (Verdict::Clean, Some(0)), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_gateway_killed_under_load_has_every_promised_order_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let start =
        async |rate| Role::start("gateway", &["--data-dir", data_dir, "--drain-rate", rate], &[]).await;
    let mut gateway = start("1000").await;
    let sale = gateway.open_sale(3_000).await;
    let server = gateway.url();
    let (run, ()) = tokio::join!(send(&server, sale, 1, 4_000, Duration::from_secs(2)), async {
        eventually(SOON, async || {
            let shown = gateway.sale(sale).await.sale;
            if shown.orders >= 300 { Ok(()) } else { Err(shown) }
        })
        .await;
        gateway.kill().await;
    });
    let gateway = start("unlimited").await;
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!(report.verdict, Verdict::Clean, "{report:?}");
    let orders: Vec<_> = run.orders().into_iter().filter(|order| order.promised).collect();
    assert!(orders.len() >= 300, "only {} orders were promised", orders.len());
    let client = gateway.client();
    for order in &orders {
        let buyer = client.buyer(crate::process::token(1 + u64::from(order.buyer)).into());
        let shown = buyer.order_status(OrderId(order.order_id)).await.unwrap();
        assert_eq!(shown.status, OrderStatus::Committed, "{shown:?}");
    }
    assert!(report.committed_orders >= orders.len() as u64);
}
