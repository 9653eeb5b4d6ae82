//! Placing an order: each answer, and that a refusal costs nobody a unit.

use reqwest::header::CONTENT_TYPE;
use seckill_core::SaleId;
use seckill_testkit::eventually;
use serde_json::{Value, json};

use crate::gateway::{Gateway, sale, sale_id, send};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

/// A gateway with a sale of ten units, two a user.
async fn open() -> (TestBed, Gateway, SaleId) {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    (bed, gateway, sale)
}

/// Expects that nothing was ever deducted.
async fn expect_untouched(bed: &TestBed, sale: SaleId) {
    let level = bed.level(sale).await;
    assert_eq!((level.remaining, level.orders), (10, 0));
}

#[tokio::test]
async fn a_buyer_gets_an_order_and_a_retry_gets_the_same_one() {
    let (bed, gateway, sale) = open().await;
    let first = gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(202);
    let id = first.order_id();
    let body = json!({"order_id": id, "sale_id": sale, "quantity": 2, "status": "queued"});
    assert_eq!(first.json, body);
    assert_eq!(first.header("location"), Some(format!("/api/v1/orders/{id}").as_str()));
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(200);
    assert_eq!(again.json, body);
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(bed.level(sale).await.remaining, 8);
    bed.expect_at_rest(sale, 1).await;
    // And still after the order has reached the ledger.
    assert_eq!(gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(200).order_id(), id);
    gateway.stop().await;
}

#[tokio::test]
async fn no_body_and_an_empty_object_both_mean_one_unit() {
    let (bed, gateway, sale) = open().await;
    assert_eq!(gateway.buy(sale, 1).await.expect(202).json["quantity"], 1);
    assert_eq!(gateway.buy_with(sale, 2, json!({})).await.expect(202).json["quantity"], 1);
    assert_eq!(bed.level(sale).await.remaining, 8);
}

#[tokio::test]
async fn a_retry_for_another_quantity_gets_the_first_order() {
    let (bed, gateway, sale) = open().await;
    let first = gateway.buy(sale, 7).await.expect(202).order_id();
    let other = gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect_problem(409, "order-differs");
    assert_eq!(other.order_id(), first);
    assert!(other.json["detail"].as_str().unwrap().contains("quantity 1"), "{other:?}");
    assert_eq!(bed.level(sale).await.remaining, 9);
}

#[tokio::test]
async fn the_refusal_of_more_than_is_left_says_how_much_is_left() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(3).await;
    gateway.buy_with(sale, 1, json!({"quantity": 2})).await.expect(202);
    let refused = gateway.buy_with(sale, 2, json!({"quantity": 2})).await.expect_problem(409, "sold-out");
    assert_eq!(refused.json["remaining"], 1);
    gateway.buy(sale, 2).await.expect(202);
    assert_eq!(gateway.buy(sale, 3).await.expect_problem(409, "sold-out").json["remaining"], 0);
    gateway.buy(sale, 2).await.expect(200);
    bed.expect_at_rest(sale, 2).await;
}

#[tokio::test]
async fn the_refusal_of_a_quantity_says_what_is_allowed() {
    let (bed, gateway, sale) = open().await;
    for quantity in [json!(0), json!(-1), json!(1.5), json!(3), json!(u64::MAX), json!(1e300)] {
        let refused =
            gateway.buy_with(sale, 7, json!({"quantity": quantity})).await.expect_problem(422, "invalid");
        let [(field, message)] = refused.wrong_fields()[..] else { panic!("{refused:?}") };
        assert_eq!(field, "quantity");
        assert!(message.contains(&format!("is {quantity}")) && message.contains("1 to 2 units"), "{message}");
    }
    expect_untouched(&bed, sale).await;
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_refused_with_the_reason() {
    let (bed, gateway, sale) = open().await;
    let bodies = [
        (json!({"quantity": 1, "user_id": 8}), "user_id"),
        (json!({"quantity": "1"}), "string"),
        (json!({"quantity": [1]}), "sequence"),
        (json!(5), "integer"),
        (json!([1]), "array"),
        (json!("buy"), "string"),
    ];
    for (body, reason) in bodies {
        let refused = gateway.buy_with(sale, 7, body).await.expect_problem(422, "invalid");
        let [("body", message)] = refused.wrong_fields()[..] else { panic!("{refused:?}") };
        assert!(message.contains(reason), "{message}");
    }
    expect_untouched(&bed, sale).await;
}

/// An order whose body is this text, of this media type.
async fn buy_raw(gateway: &Gateway, sale: SaleId, media_type: Option<&str>, body: &str) -> Reply {
    let mut request = gateway.buying(sale, 7).body(body.to_owned());
    if let Some(media_type) = media_type {
        request = request.header(CONTENT_TYPE, media_type);
    }
    send(request).await
}

#[tokio::test]
async fn malformed_json_is_refused_with_its_line_and_column() {
    let (bed, gateway, sale) = open().await;
    let json = Some("application/json");
    for (body, place) in [
        ("{\n  \"quantity\": 1,,\n}", "line 2 column 17"),
        ("{\"quantity\": ", "line 1 column 13"),
        ("quantity=1", "line 1 column 1"),
        ("{}{}", "line 1 column 3"),
        ("\0", "line 1 column 1"),
    ] {
        let refused = buy_raw(&gateway, sale, json, body).await.expect_problem(400, "malformed");
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(detail.contains(place), "{body:?}: {detail}");
    }
    expect_untouched(&bed, sale).await;
}

#[tokio::test]
async fn a_body_may_have_sixteen_kibibytes_and_no_more() {
    const MOST: usize = 16 * 1024;
    let (bed, gateway, sale) = open().await;
    let json = Some("application/json");
    let body = |bytes| format!("{:bytes$}", "{}");
    buy_raw(&gateway, sale, json, &body(MOST + 1)).await.expect_problem(413, "too-large");
    expect_untouched(&bed, sale).await;
    buy_raw(&gateway, sale, json, &body(MOST)).await.expect(202);
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let (bed, gateway, sale) = open().await;
    for media_type in
        [Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonl"), None]
    {
        buy_raw(&gateway, sale, media_type, "{}").await.expect_problem(415, "media-type");
    }
    expect_untouched(&bed, sale).await;
    buy_raw(&gateway, sale, Some("Application/JSON; charset=utf-8"), "{}").await.expect(202);
}

#[tokio::test]
async fn an_unknown_sale_and_what_is_no_id_are_not_found() {
    let (bed, gateway, sale) = open().await;
    gateway.buy(SaleId(sale.0 + 1), 7).await.expect_problem(404, "not-found");
    for id in ["0", "-1", "1.5", "one", "18446744073709551616", "%00", "1%2F2", "9223372036854775808"] {
        let path = format!("/api/v1/sales/{id}/orders");
        let request = gateway.request(reqwest::Method::POST, &path).bearer_auth(crate::gateway::token(7));
        send(request).await.expect_problem(404, "not-found");
    }
    expect_untouched(&bed, sale).await;
}

#[tokio::test]
async fn a_sale_that_has_not_started_says_when_it_will() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let body = sale(10, 600, 3_600);
    let sale = sale_id(&gateway.create_sale(&body).await.expect(201));
    let refused = gateway.buy(sale, 7).await.expect_problem(403, "not-open");
    assert!((500..=600).contains(&refused.retry_after()), "{refused:?}");
    let time = |value: &Value| chrono::DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap();
    assert_eq!(time(&refused.json["starts_at"]), time(&body["starts_at"]));
    expect_untouched(&bed, sale).await;
}

#[tokio::test]
async fn no_order_is_accepted_before_the_first_moment_of_the_sale() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let starts_at = seckill_core::now() + chrono::TimeDelta::milliseconds(800);
    let mut body = sale(10, 0, 3_600);
    body["starts_at"] = json!(starts_at);
    let sale = sale_id(&gateway.create_sale(&body).await.expect(201));
    let accepted = eventually(SOON, async || match gateway.buy(sale, 7).await {
        refused if refused.status == 403 => {
            let refused = refused.expect_problem(403, "not-open");
            assert_eq!(refused.retry_after(), 1);
            Err(refused)
        }
        other => Ok(other.expect(202)),
    })
    .await;
    assert!(seckill_core::now() >= starts_at, "{accepted:?}");
}

#[tokio::test]
async fn after_the_end_nobody_can_buy_and_a_buyer_still_gets_the_order() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = sale_id(&gateway.create_sale(&sale(3, -3_600, 2)).await.expect(201));
    let first = gateway.buy(sale, 1).await.expect(202).order_id();
    // Who wants more than is ever left learns of the end without taking a unit before it.
    gateway.buy_with(sale, 2, json!({"quantity": 2})).await.expect(202);
    eventually(SOON, async || {
        let reply = gateway.buy_with(sale, 3, json!({"quantity": 2})).await;
        if reply.status == 409 { Err(reply) } else { Ok(reply.expect_problem(403, "closed")) }
    })
    .await;
    assert_eq!(gateway.buy(sale, 1).await.expect(200).order_id(), first);
}

#[tokio::test]
async fn a_sale_that_is_over_refuses_every_order() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.closed_sale().await;
    let refused = gateway.buy(sale, 7).await.expect_problem(403, "closed");
    assert_eq!(refused.header("retry-after"), None, "coming back is no use");
    expect_untouched(&bed, sale).await;
}
