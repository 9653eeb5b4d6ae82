//! A gate that has lost a sale knows of no order there. Nobody may take that for an answer.

use reqwest::Method;
use seckill_core::{Order, OrderId, RejectReason};
use seckill_testkit::fixtures;
use serde_json::json;

use crate::gateway::{ADMIN_TOKEN, Gateway, forgetful, send};
use crate::test_bed::TestBed;

#[tokio::test]
async fn a_buyer_who_asks_right_after_the_gate_is_lost_is_never_answered_that_there_is_no_order() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, forgetful()).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    let mine = format!("/api/v1/sales/{sale}/orders/mine");
    // The gate was sound a moment ago.
    gateway.order(8, OrderId::generate()).await.expect_problem(404, "not-found");
    bed.real.gate.remove(sale).await.unwrap();
    gateway.order(7, id).await.expect_problem(503, "rebuilding");
    gateway.get_as(7, &mine).await.expect_problem(503, "rebuilding");
    gateway.get_as(7, &format!("/api/v1/orders/{id}/events")).await.expect_problem(503, "rebuilding");
}

#[tokio::test]
async fn a_rejected_order_is_not_the_whole_list_while_the_gate_is_lost() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, forgetful()).await;
    let sale = gateway.open_sale(10).await;
    let mut writer = bed.real.ledger.writer().await.unwrap();
    let stale = Order { epoch: 0, ..fixtures::order(sale, 7) };
    writer.commit(&[stale]).await.unwrap();
    let mine = format!("/api/v1/sales/{sale}/orders/mine");
    let list = gateway.get_as(7, &mine).await.expect(200).json;
    assert_eq!(list["orders"][0]["reason"], json!(RejectReason::StaleEpoch), "{list}");
    gateway.buy(sale, 7).await.expect(202);
    let list = gateway.get_as(7, &mine).await.expect(200).json;
    assert_eq!(list["orders"].as_array().map(Vec::len), Some(2), "{list}");
    bed.real.gate.remove(sale).await.unwrap();
    gateway.get_as(7, &mine).await.expect_problem(503, "rebuilding");
    // What is committed is the last word.
    bed.drain().await;
    gateway.get_as(7, &mine).await.expect(200);
}

#[tokio::test]
async fn a_reconciliation_with_a_lost_gate_does_not_report_that_nothing_is_missing() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    gateway.buy(sale, 7).await.expect(202);
    let reconcile = async || {
        let request = gateway.request(Method::POST, &format!("/api/v1/sales/{sale}/reconcile"));
        send(request.bearer_auth(ADMIN_TOKEN)).await
    };
    let done = reconcile().await.expect(200).json;
    assert_eq!(done, json!({"compared": 1, "sent_again": 1}));
    bed.real.gate.remove(sale).await.unwrap();
    reconcile().await.expect_problem(503, "rebuilding");
}
