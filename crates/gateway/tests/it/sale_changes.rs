//! What operators change about a sale, and what its buyers feel of it.

use reqwest::Method;
use seckill_core::{Dependency, SaleChange, SaleId, Verdict, now};
use seckill_testkit::faults::{Call, Mishap};
use seckill_testkit::{eventually, fixtures};
use serde_json::{Value, json};

use crate::gateway::{ADMIN_TOKEN, Gateway, sale, sale_id, send};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

async fn patch(gateway: &Gateway, sale: SaleId, body: &Value) -> Reply {
    let request = gateway.request(Method::PATCH, &format!("/api/v1/sales/{sale}"));
    send(request.bearer_auth(ADMIN_TOKEN).json(body)).await
}

async fn post(gateway: &Gateway, sale: SaleId, what: &str) -> Reply {
    let request = gateway.request(Method::POST, &format!("/api/v1/sales/{sale}/{what}"));
    send(request.bearer_auth(ADMIN_TOKEN)).await
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let before = gateway.get(&format!("/api/v1/sales/{sale}")).await.expect(200).json;
    let ends_at = (now() + chrono::Duration::hours(9)).to_rfc3339();
    let body = json!({"name": "tablet", "ends_at": ends_at, "stock": 12});
    for _ in 0..2 {
        let changed = patch(&gateway, sale, &body).await.expect(200).json;
        assert_eq!(
            (&changed["name"], &changed["stock"], &changed["remaining"]),
            (&json!("tablet"), &json!(12), &json!(12))
        );
        assert_eq!((&changed["product"], &changed["starts_at"]), (&before["product"], &before["starts_at"]));
        assert_eq!(changed["revision"], 1, "the second time nothing is different");
    }
    let merge = gateway.request(Method::PATCH, &format!("/api/v1/sales/{sale}")).bearer_auth(ADMIN_TOKEN);
    let merge = merge.header("content-type", "application/merge-patch+json; charset=utf-8");
    let changed = send(merge.body(r#"{"product": "pen"}"#)).await.expect(200).json;
    assert_eq!((&changed["product"], &changed["revision"]), (&json!("pen"), &json!(2)));
    assert_eq!(patch(&gateway, sale, &json!({})).await.expect(200).json["revision"], 2);
}

#[tokio::test]
async fn a_wrong_patch_says_what_is_wrong() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let past = (now() - chrono::Duration::minutes(5)).to_rfc3339();
    let wrong = json!({"name": "", "product": "x".repeat(201), "stock": 9, "ends_at": past});
    let refused = patch(&gateway, sale, &wrong).await.expect_problem(422, "invalid");
    let fields: Vec<_> = refused.wrong_fields().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["name", "product", "stock", "ends_at"]);
    assert!(refused.wrong_fields()[2].1.contains("can only get more"), "{refused:?}");
    for (body, reason) in [
        (json!({"price_cents": 1}), "price_cents"),
        (json!({"paused": true}), "paused"),
        (json!({"name": null}), "null"),
        (json!({"stock": -1}), "-1"),
        (json!({"ends_at": "soon"}), "body"),
        (json!([1]), "body"),
    ] {
        let refused = patch(&gateway, sale, &body).await.expect_problem(422, "invalid");
        assert!(refused.text.contains(reason), "{refused:?}");
    }
    let plain = gateway.request(Method::PATCH, &format!("/api/v1/sales/{sale}")).bearer_auth(ADMIN_TOKEN);
    send(plain.body("{}")).await.expect_problem(415, "media-type");
    patch(&gateway, SaleId(99), &json!({"stock": 11})).await.expect_problem(404, "not-found");
    assert_eq!(bed.real.ledger.sale(sale).await.unwrap().unwrap().revision, 0);
}

#[tokio::test]
async fn only_the_admin_changes_a_sale() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let path = format!("/api/v1/sales/{sale}");
    for (method, path) in [
        (Method::PATCH, path.clone()),
        (Method::POST, format!("{path}/pause")),
        (Method::POST, format!("{path}/resume")),
        (Method::POST, format!("{path}/close")),
        (Method::GET, "/api/v1/workers".to_owned()),
        (Method::PUT, "/api/v1/workers".to_owned()),
    ] {
        let anonymous = gateway.request(method.clone(), &path).json(&json!({"stock": 20}));
        send(anonymous).await.expect_problem(401, "unauthenticated");
        let buyer =
            gateway.request(method, &path).bearer_auth(crate::gateway::token(7)).json(&json!({"stock": 20}));
        send(buyer).await.expect_problem(401, "unauthenticated");
    }
    assert_eq!(bed.real.ledger.sale(sale).await.unwrap().unwrap().revision, 0);
}

#[tokio::test]
async fn a_paused_sale_keeps_its_orders_and_takes_none() {
    let bed = TestBed::new().await;
    let (gateway, other) = tokio::join!(Gateway::start(&bed.backend), Gateway::start(&bed.backend));
    let sale = gateway.open_sale(10).await;
    let order = gateway.buy(sale, 7).await.expect(202).order_id();
    let paused = post(&gateway, sale, "pause").await.expect(200).json;
    assert_eq!((&paused["paused"], &paused["phase"]), (&json!(true), &json!("open")));
    for gateway in [&gateway, &other] {
        let refused = gateway.buy(sale, 8).await.expect_problem(503, "paused");
        assert_eq!(refused.retry_after(), 5);
        assert_eq!(gateway.buy(sale, 7).await.expect(200).order_id(), order);
        gateway.order(7, order).await.expect(200);
    }
    post(&gateway, sale, "resume").await.expect(200);
    other.buy(sale, 8).await.expect(202);
    bed.expect_at_rest(sale, 2).await;
}

#[tokio::test]
async fn a_sale_that_is_closed_early_is_closed_at_once_everywhere() {
    let bed = TestBed::new().await;
    let (gateway, other) = tokio::join!(Gateway::start(&bed.backend), Gateway::start(&bed.backend));
    let open = gateway.open_sale(10).await;
    let upcoming = sale_id(&gateway.create_sale(&sale(10, 600, 1_200)).await.expect(201));
    let order = gateway.buy(open, 7).await.expect(202).order_id();
    for sale in [open, upcoming] {
        assert_eq!(post(&gateway, sale, "close").await.expect(200).json["phase"], "closed");
        gateway.buy(sale, 8).await.expect_problem(403, "closed");
    }
    let refused = other.buy(open, 8).await.expect_problem(403, "closed");
    let ended = refused.json["detail"].as_str().unwrap().split_whitespace().last().unwrap();
    let ended: chrono::DateTime<chrono::Utc> = ended.trim_end_matches('.').parse().unwrap();
    assert!(ended <= now(), "{refused:?}");
    assert_eq!(gateway.buy(open, 7).await.expect(200).order_id(), order);
    let again = post(&gateway, open, "close").await.expect(200).json;
    assert_eq!(again["revision"], 1, "a sale ends once");
    // Opened again, since it is not closed out.
    let later = (now() + chrono::Duration::hours(1)).to_rfc3339();
    patch(&gateway, open, &json!({"ends_at": later})).await.expect(200);
    gateway.buy(open, 8).await.expect(202);
    bed.expect_at_rest(open, 2).await;
    bed.real.ledger.close_out(open, 2).await.unwrap();
    patch(&gateway, open, &json!({"name": "late"})).await.expect_problem(409, "closed-out");
}

#[tokio::test]
async fn raised_stock_is_sold_and_the_audit_stays_good_under_load() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(5).await;
    for user in 0..5 {
        gateway.buy(sale, user).await.expect(202);
    }
    gateway.buy(sale, 5).await.expect_problem(409, "sold-out");
    let raising = async {
        for stock in (10..=40).step_by(5) {
            patch(&gateway, sale, &json!({"stock": stock})).await.expect(200);
        }
    };
    let buying = async {
        for user in 5..40 {
            eventually(SOON, async || {
                let bought = gateway.buy(sale, user).await;
                if bought.status == 202 { Ok(()) } else { Err(bought.expect_problem(409, "sold-out")) }
            })
            .await;
            bed.drain().await;
        }
    };
    let watching = async {
        loop {
            let report = fixtures::audit(&bed.real, sale).await;
            assert!(!report.verdict.is_bad(), "{report:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(raising, buying) } => {}
        () = watching => {}
    }
    gateway.buy(sale, 99).await.expect_problem(409, "sold-out");
    bed.expect_at_rest(sale, 40).await;
}

#[tokio::test]
async fn a_change_waits_for_a_gate_that_is_away() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(1).await;
    gateway.buy(sale, 1).await.expect(202);
    bed.faults.always(Call::WriteGate, Mishap::Away);
    let accepted = patch(&gateway, sale, &json!({"stock": 2})).await.expect(202);
    assert_eq!(accepted.json["stock"], 2);
    gateway.buy(sale, 2).await.expect_problem(409, "sold-out");
    bed.faults.heal(Call::WriteGate);
    eventually(SOON, async || {
        let bought = gateway.buy(sale, 2).await;
        if bought.status == 202 { Ok(()) } else { Err(bought) }
    })
    .await;
    bed.expect_at_rest(sale, 2).await;
}

#[tokio::test]
async fn a_change_whose_maker_died_reaches_the_gate() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(1).await;
    // As a gateway does that is killed between ledger and gate.
    let change = SaleChange { stock: Some(3), ..SaleChange::default() };
    bed.real.ledger.change_sale(sale, &change).await.unwrap();
    eventually(SOON, async || {
        let report = fixtures::audit(&bed.real, sale).await;
        assert!(!report.verdict.is_bad(), "{report:?}");
        if report.verdict == Verdict::Clean && report.remaining == Some(3) { Ok(()) } else { Err(report) }
    })
    .await;
}

#[tokio::test]
async fn a_ledger_that_lost_a_change_gets_it_back() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(1).await;
    let known = bed.real.ledger.sale(sale).await.unwrap().unwrap();
    // What the gate keeps of this gateway's knowledge is ahead of the ledger, as after a restore.
    let ledger_id = bed.real.ledger.id().await.unwrap();
    let ahead = seckill_core::Sale { stock: 4, revision: 2, ..known };
    bed.real.gate.apply_change(&ahead).await.unwrap();
    let kept = seckill_core::KnownSales { ledger_id, sales: vec![ahead] };
    gateway.stop().await;
    bed.real.gate.keep_known_sales(&kept).await.unwrap();
    let gateway = Gateway::start(&bed.backend).await;
    eventually(SOON, async || {
        let recorded = bed.real.ledger.sale(sale).await.unwrap().unwrap();
        if (recorded.stock, recorded.revision) == (4, 2) { Ok(()) } else { Err(recorded) }
    })
    .await;
    for user in 0..4 {
        gateway.buy(sale, user).await.expect(202);
    }
    bed.expect_at_rest(sale, 4).await;
}

#[tokio::test]
async fn a_change_without_an_answer_may_be_sent_again() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.next(Call::WriteSale, [Mishap::AnswerLost]);
    let unknown = patch(&gateway, sale, &json!({"stock": 20})).await.expect_problem(503, "change-unknown");
    assert!(unknown.json["detail"].as_str().unwrap().contains("sale"), "{unknown:?}");
    let changed = patch(&gateway, sale, &json!({"stock": 20})).await.expect(200).json;
    assert_eq!(
        (&changed["stock"], &changed["remaining"], &changed["revision"]),
        (&json!(20), &json!(20), &json!(1))
    );
    bed.faults.away(Dependency::Ledger);
    patch(&gateway, sale, &json!({"stock": 30})).await.expect_problem(503, "unavailable");
    bed.faults.back(Dependency::Ledger);
    bed.expect_at_rest(sale, 0).await;
}
