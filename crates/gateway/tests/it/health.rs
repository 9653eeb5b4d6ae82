//! Whether the gateway lives and can work, and its metrics.

use std::time::Duration;

use reqwest::Method;
use seckill_core::Dependency;
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use serde_json::{Value, json};

use crate::gateway::{Gateway, send};
use crate::test_bed::{SOON, TestBed};

/// Waits until `/readyz` says so; a report serves for half a second.
async fn until_ready_says(gateway: &Gateway, http: u16, status: &str) -> Value {
    eventually(SOON, async || {
        let reply = gateway.get("/readyz").await;
        if (reply.status, &reply.json["status"]) == (http, &json!(status)) {
            Ok(reply.json)
        } else {
            Err(reply)
        }
    })
    .await
}

#[tokio::test]
async fn a_gateway_lives_whatever_its_dependencies_do() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    for dependency in [Dependency::Gate, Dependency::Queue, Dependency::Ledger] {
        bed.faults.away(dependency);
    }
    assert_eq!(gateway.get("/livez").await.expect(200).text, "ok\n");
    assert!(
        [Call::PingGate, Call::PingQueue, Call::PingLedger].iter().all(|call| bed.faults.asked(*call) == 0)
    );
}

#[tokio::test]
async fn readiness_names_each_dependency() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let report = until_ready_says(&gateway, 200, "ready").await;
    assert_eq!(
        report,
        json!({
            "status": "ready", "backend": "embedded",
            "dependencies": {
                "gate": {"status": "up", "needed": true},
                "queue": {"status": "up", "needed": true},
                "ledger": {"status": "up", "needed": false},
            },
        })
    );
}

#[tokio::test]
async fn without_its_ledger_a_gateway_is_degraded_and_without_gate_or_queue_unready() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    for (call, name, http, status) in [
        (Call::PingLedger, "ledger", 200, "degraded"),
        (Call::PingGate, "gate", 503, "unready"),
        (Call::PingQueue, "queue", 503, "unready"),
    ] {
        bed.faults.always(call, Mishap::Away);
        let report = until_ready_says(&gateway, http, status).await;
        let dependency = &report["dependencies"][name];
        assert_eq!(dependency["status"], "down", "{report}");
        assert!(
            dependency["reason"].as_str().unwrap().contains(&format!("the {name} is unavailable")),
            "{report}"
        );
        bed.faults.heal(call);
        until_ready_says(&gateway, 200, "ready").await;
    }
    bed.faults.always(Call::PingGate, Mishap::Away);
    bed.faults.always(Call::PingLedger, Mishap::Away);
    let report = until_ready_says(&gateway, 503, "unready").await;
    assert_eq!(report["dependencies"]["queue"]["status"], "up");
}

#[tokio::test]
async fn a_dependency_that_never_answers_is_down() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    bed.faults.always(Call::PingQueue, Mishap::Held);
    let report = until_ready_says(&gateway, 503, "unready").await;
    let reason = report["dependencies"]["queue"]["reason"].as_str().unwrap();
    assert!(reason.contains("no answer within"), "{reason}");
}

#[tokio::test]
async fn the_metrics_count_claims_and_name_no_user() {
    const USER: u64 = 918_273_645_546_372;
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(1).await;
    gateway.buy(sale, USER).await.expect(202);
    let order = gateway.buy(sale, USER).await.expect(200).order_id();
    gateway.buy(sale, USER + 1).await.expect(409);
    gateway.order(USER, order).await.expect(200);
    gateway.get(&format!("/{USER}")).await.expect(404);
    send(gateway.request(Method::DELETE, "/livez")).await.expect_problem(405, "method-not-allowed");
    bed.settled(sale).await;
    let metrics = gateway.get("/metrics").await.expect(200).text;
    for series in [
        "seckill_claims_total{outcome=\"accepted\"}",
        "seckill_claims_total{outcome=\"replayed\"}",
        "seckill_claims_total{outcome=\"sold-out\"}",
        "seckill_intake_batch_orders",
        "seckill_pending_orders",
        "seckill_queue_orders",
        "http_route=\"/api/v1/sales/{id}/orders\"",
        "http_route=\"/api/v1/orders/{id}\"",
        "http_request_method=\"_OTHER\",url_scheme=\"http\",http_response_status_code=\"404\"",
        "http_request_method=\"DELETE\",url_scheme=\"http\",http_route=\"/livez\",http_response_status_code=\"405\"",
        "http_server_request_duration_seconds",
    ] {
        assert!(metrics.contains(series), "no {series} in\n{metrics}");
    }
    for id in [USER.to_string(), order.to_string()] {
        assert!(!metrics.contains(&id), "{id} is in\n{metrics}");
    }
}

#[tokio::test]
async fn while_it_is_shut_down_a_gateway_says_that_it_is_draining() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Publish, Mishap::Held);
    let owed = tokio::spawn(gateway.buying(sale, 7).send());
    bed.reserved(sale, 1).await;
    gateway.shutdown.cancel();
    until_ready_says(&gateway, 503, "draining").await;
    assert_eq!(gateway.get("/livez").await.status, 200);
    bed.faults.heal(Call::Publish);
    let owed = tokio::time::timeout(Duration::from_secs(20), owed).await.unwrap().unwrap().unwrap();
    assert_eq!(owed.status(), 202);
    gateway.stop().await;
}
