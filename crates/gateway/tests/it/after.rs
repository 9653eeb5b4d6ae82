//! After the order: giving it back, paying it, asking for the money back, and what operators see and decide.

use reqwest::Method;
use seckill_core::{Effect, Notice, OrderId, OrderStatus, SaleId, Timestamp, UserId, now};
use serde_json::{Value, json};

use crate::gateway::{ADMIN_TOKEN, Gateway, sale, sale_id, send, token};
use crate::reply::Reply;
use crate::test_bed::TestBed;

/// A gateway with a sale of ten units for 2.50 each, which are to be paid within an hour.
async fn open() -> (TestBed, Gateway, SaleId) {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let mut body = sale(10, -3_600, 3_600);
    body["payment_window_ms"] = json!(3_600_000);
    let created = gateway.create_sale(&body).await.expect(201);
    assert_eq!(created.json["payment_window_ms"], 3_600_000);
    (bed, gateway, sale_id(&created))
}

/// An order of one unit that is in the ledger.
async fn committed(bed: &TestBed, gateway: &Gateway, sale: SaleId, user: u64) -> OrderId {
    let id = gateway.buy(sale, user).await.expect(202).order_id();
    bed.drain().await;
    id
}

async fn post(gateway: &Gateway, user: u64, path: &str) -> Reply {
    send(gateway.request(Method::POST, path).bearer_auth(token(user))).await
}

async fn admin(gateway: &Gateway, method: Method, path: &str, body: Option<Value>) -> Reply {
    let request = gateway.request(method, path).bearer_auth(ADMIN_TOKEN);
    send(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

async fn pay(gateway: &Gateway, user: u64, order: OrderId, key: &str, body: Value) -> Reply {
    let request = gateway.request(Method::POST, &format!("/api/v1/orders/{order}/payment"));
    send(request.bearer_auth(token(user)).header("Idempotency-Key", key).json(&body)).await
}

#[tokio::test]
async fn a_buyer_gives_an_unpaid_order_back_once() {
    let (bed, gateway, sale) = open().await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    let path = format!("/api/v1/orders/{id}/cancel");
    let early = post(&gateway, 7, &path).await.expect_problem(409, "order-state");
    assert!(early.json["detail"].as_str().unwrap().contains("queued"), "{early:?}");
    bed.drain().await;
    let shown = gateway.order(7, id).await.expect(200);
    assert_eq!(shown.json["status"], "committed");
    assert!(shown.json["pay_by"].as_str() > shown.json["recorded_at"].as_str(), "{shown:?}");
    post(&gateway, 8, &path).await.expect_problem(404, "not-found");
    for _ in 0..2 {
        let cancelled = post(&gateway, 7, &path).await.expect(200);
        assert_eq!(
            (&cancelled.json["status"], &cancelled.json["reason"]),
            (&json!("cancelled"), &json!("buyer"))
        );
        assert_eq!(cancelled.json["pay_by"], Value::Null);
    }
    assert_eq!(bed.totals(sale).await.orders, 0);
    pay(&gateway, 7, id, "k", json!({"card": "tok_visa"})).await.expect_problem(503, "unavailable");
    pay(&gateway, 7, id, "k", json!({"balance_cents": 250})).await.expect_problem(409, "order-state");
    gateway.stop().await;
}

#[tokio::test]
async fn an_order_of_a_sale_without_payments_stays_as_it_is() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let id = committed(&bed, &gateway, sale, 7).await;
    post(&gateway, 7, &format!("/api/v1/orders/{id}/cancel")).await.expect_problem(409, "no-payments");
    pay(&gateway, 7, id, "k", json!({"card": "tok_visa"})).await.expect_problem(409, "no-payments");
    assert_eq!(bed.ledger_order(id).await.unwrap().status, OrderStatus::Committed);
    assert_eq!(gateway.order(7, id).await.expect(200).json["pay_by"], Value::Null);
    gateway.stop().await;
}

#[tokio::test]
async fn the_same_request_to_pay_has_the_same_answer_and_takes_the_money_once() {
    let (bed, gateway, sale) = open().await;
    let id = committed(&bed, &gateway, sale, 7).await;
    let gift = admin(&gateway, Method::POST, "/api/v1/users/7/balance", Some(json!({"cents": 300}))).await;
    assert_eq!(gift.expect(200).json, json!({"user_id": 7, "balance_cents": 300}));
    let coupon = json!({"code": "SPRING", "cents": 50});
    admin(&gateway, Method::POST, "/api/v1/coupons", Some(coupon.clone())).await.expect(201);
    admin(&gateway, Method::POST, "/api/v1/coupons", Some(coupon)).await.expect_problem(422, "invalid");

    let body = json!({"balance_cents": 200, "coupon": "SPRING", "coupon_cents": 50});
    let first = pay(&gateway, 7, id, "key-1", body.clone()).await.expect(200);
    assert_eq!(first.json["status"], "paid");
    assert_eq!(pay(&gateway, 7, id, "key-1", body.clone()).await.expect(200).json, first.json);
    pay(&gateway, 7, id, "key-1", json!({"balance_cents": 250})).await.expect_problem(422, "key-reused");
    pay(&gateway, 7, id, "key-2", body).await.expect_problem(409, "order-state");
    assert_eq!(bed.real.lifecycle.balance(UserId(7)).await.unwrap(), 100);
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "paid");
    post(&gateway, 7, &format!("/api/v1/orders/{id}/cancel")).await.expect_problem(409, "order-state");
    let audit = gateway.get(&format!("/api/v1/sales/{sale}/audit")).await.expect(200);
    assert_eq!(audit.json["money"]["charged_cents"], 250);
    assert_eq!((&audit.json["money"]["paid_cents"], &audit.json["verdict"]), (&json!(250), &json!("clean")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_to_pay_that_is_wrong_takes_nothing() {
    let (bed, gateway, sale) = open().await;
    let id = committed(&bed, &gateway, sale, 7).await;
    let path = format!("/api/v1/orders/{id}/payment");
    let keyless =
        gateway.request(Method::POST, &path).bearer_auth(token(7)).json(&json!({"card": "tok_visa"}));
    let keyless = send(keyless).await.expect_problem(400, "malformed");
    assert!(keyless.json["detail"].as_str().unwrap().contains("Idempotency-Key"), "{keyless:?}");
    for (body, field) in [
        (json!({"balance_cents": 249}), "card_cents"),
        (json!({"card_cents": 250}), "card"),
        (json!({"balance_cents": 200, "coupon_cents": 50}), "coupon"),
        (json!({"balance_cents": 200, "coupon": "X"}), "coupon"),
        (json!({"card": "tok with blanks"}), "card"),
        (json!({}), "card_cents"),
    ] {
        let wrong = pay(&gateway, 7, id, "key", body).await.expect_problem(422, "invalid");
        assert!(wrong.wrong_fields().iter().any(|(name, _)| *name == field), "{field}: {wrong:?}");
    }
    pay(&gateway, 7, id, "key", json!({"balance_cents": 250})).await.expect_problem(409, "balance-too-low");
    let no_coupon = json!({"coupon": "NONE", "coupon_cents": 250});
    pay(&gateway, 7, id, "key", no_coupon).await.expect_problem(409, "bad-coupon");
    pay(&gateway, 8, id, "key", json!({"balance_cents": 250})).await.expect_problem(404, "not-found");
    // The key of a request that was refused before anything happened may be used by the corrected one.
    admin(&gateway, Method::POST, "/api/v1/users/7/balance", Some(json!({"cents": 250}))).await.expect(200);
    pay(&gateway, 7, id, "key", json!({"balance_cents": 250})).await.expect(200);
    gateway.stop().await;
}

#[tokio::test]
async fn operators_see_and_decide() {
    let (bed, gateway, sale) = open().await;
    let id = committed(&bed, &gateway, sale, 7).await;
    send(gateway.request(Method::GET, "/api/v1/outbox")).await.expect_problem(401, "unauthenticated");
    let list = admin(&gateway, Method::GET, "/api/v1/outbox?state=pending", None).await.expect(200);
    assert_eq!((&list.json["pending"], &list.json["parked"]), (&json!(1), &json!(0)));
    let event = &list.json["events"][0];
    assert_eq!(
        (&event["type"], &event["event"]["type"]),
        (&json!("order.committed"), &json!("order.committed"))
    );
    let path = format!("/api/v1/outbox/{}", event["id"].as_str().unwrap());
    assert_eq!(admin(&gateway, Method::GET, &path, None).await.expect(200).json["id"], event["id"]);
    admin(&gateway, Method::POST, &format!("{path}/redrive"), None).await.expect(204);
    admin(&gateway, Method::DELETE, &path, None).await.expect_problem(404, "not-found");
    admin(&gateway, Method::GET, "/api/v1/outbox?state=lost", None).await.expect_problem(422, "invalid");
    let unknown = format!("/api/v1/outbox/{}", uuid::Uuid::now_v7());
    admin(&gateway, Method::GET, &unknown, None).await.expect_problem(404, "not-found");
    admin(&gateway, Method::GET, "/api/v1/subscribers/nobody", None).await.expect_problem(404, "not-found");

    let refund = format!("/api/v1/orders/{id}/refund");
    post(&gateway, 7, &refund).await.expect_problem(409, "order-state");
    admin(&gateway, Method::POST, "/api/v1/users/7/balance", Some(json!({"cents": 250}))).await.expect(200);
    pay(&gateway, 7, id, "key", json!({"balance_cents": 250})).await.expect(200);
    for _ in 0..2 {
        assert_eq!(post(&gateway, 7, &refund).await.expect(202).json["status"], "refunding");
    }
    let running = admin(&gateway, Method::GET, "/api/v1/refunds?state=running", None).await.expect(200);
    assert_eq!(running.json["refunds"][0]["order_id"], json!(id));
    let approve = format!("/api/v1/refunds/{id}/approve");
    admin(&gateway, Method::POST, &approve, None).await.expect_problem(409, "order-state");

    let timeline = admin(&gateway, Method::GET, &format!("/api/v1/orders/{id}/timeline"), None).await;
    let timeline = timeline.expect(200);
    assert_eq!(timeline.json["status"], "refunding");
    assert_eq!(timeline.json["steps"][0]["what"], "order.accepted");
    assert_eq!(timeline.json["steps"][1]["what"], "order.committed");
    gateway.get_as(8, &format!("/api/v1/orders/{id}/timeline")).await.expect_problem(404, "not-found");
    gateway.stop().await;
}

/// The steps of an order's timeline: what happened, and how many milliseconds after the step before.
async fn steps(gateway: &Gateway, user: u64, id: OrderId) -> Vec<(String, Option<i64>)> {
    let timeline = gateway.get_as(user, &format!("/api/v1/orders/{id}/timeline")).await.expect(200).json;
    let steps = timeline["steps"].as_array().expect("a list");
    let text = |step: &Value, name: &str| step[name].as_str().expect("a text").to_owned();
    let at = |step: &Value| text(step, "at").parse::<Timestamp>().expect("a time");
    for pair in steps.windows(2) {
        let passed = (at(&pair[1]) - at(&pair[0])).num_milliseconds();
        assert_eq!(pair[1]["since_previous_ms"], json!(passed), "{timeline}");
    }
    steps.iter().map(|step| (text(step, "what"), step["since_previous_ms"].as_i64())).collect()
}

/// What subscribers write is in the ledger. Whoever watches an order on its way there does not ask it.
#[tokio::test]
async fn a_timeline_has_the_time_between_its_steps_and_asks_the_ledger_late() {
    let (bed, gateway, sale) = open().await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    assert_eq!(steps(&gateway, 7, id).await, [("order.accepted".to_owned(), None)]);
    bed.drain().await;
    let notice = Notice {
        order_id: id,
        user_id: UserId(7),
        kind: "order.paid".to_owned(),
        sequence: 2,
        at: now() + std::time::Duration::from_secs(2),
    };
    let mut transaction = bed.real.lifecycle.begin().await.unwrap();
    transaction.apply(&Effect::Notices(vec![notice])).await.unwrap();
    transaction.commit().await.unwrap();
    let names = async || steps(&gateway, 7, id).await.into_iter().map(|(what, _)| what).collect::<Vec<_>>();
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "committed");
    assert_eq!(names().await, ["order.accepted", "order.committed"]);
    admin(&gateway, Method::POST, "/api/v1/users/7/balance", Some(json!({"cents": 250}))).await.expect(200);
    pay(&gateway, 7, id, "key", json!({"balance_cents": 250})).await.expect(200);
    let all = steps(&gateway, 7, id).await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[2].1.is_some_and(|passed| passed > 1_000), "{all:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_admin_sees_what_refund_events_have_caused() {
    let (bed, gateway, sale) = open().await;
    let id = committed(&bed, &gateway, sale, 7).await;
    post(&gateway, 7, &format!("/api/v1/orders/{id}/cancel")).await.expect(200);
    let path = |sale: u64| format!("/api/v1/sales/{sale}/audit/effects");
    let shown = admin(&gateway, Method::GET, &path(sale.0), None).await.expect(200).json;
    assert_eq!(shown["sale_id"], json!(sale), "{shown}");
    let effects = shown["effects"].as_array().unwrap();
    let of = |name| effects.iter().filter(|one| one["subscriber"] == name).collect::<Vec<_>>();
    assert_eq!(["funnel", "notifications", "restock", "loyalty"].map(|name| of(name).len()), [3, 6, 1, 1]);
    // No subscriber runs here, so nobody has put the cancelled order's unit back on sale.
    let restock = json!({
        "subscriber": "restock", "event": "order.cancelled, refund.succeeded", "expected": 1, "actual": 0,
    });
    assert_eq!(of("restock"), [&restock]);
    assert!(of("funnel").iter().all(|one| one["expected"] == 0 && one["actual"] == 0), "{shown}");
    let without = gateway.open_sale(10).await;
    let none = admin(&gateway, Method::GET, &path(without.0), None).await.expect(200).json;
    assert_eq!(none, json!({"sale_id": without, "effects": []}));
    admin(&gateway, Method::GET, &path(77), None).await.expect_problem(404, "not-found");
    gateway.stop().await;
}
