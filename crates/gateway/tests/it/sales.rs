//! Opening sales and looking at them.

use reqwest::Method;
use seckill_core::{Dependency, SaleId, Verdict};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use serde_json::json;

use crate::gateway::{ADMIN_TOKEN, Gateway, sale, sale_id, send};
use crate::test_bed::{SOON, TestBed};

#[tokio::test]
async fn a_new_sale_is_open_at_once_and_says_where_it_is() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let created = gateway.create_sale(&sale(10, -1, 60)).await.expect(201);
    let id = sale_id(&created);
    let path = format!("/api/v1/sales/{id}");
    assert_eq!(created.header("location"), Some(path.as_str()));
    let shown = gateway.get(&path).await.expect(200);
    for reply in [&created, &shown] {
        assert_eq!((&reply.json["stock"], &reply.json["remaining"]), (&json!(10), &json!(10)), "{reply:?}");
        assert_eq!((&reply.json["phase"], &reply.json["epoch"]), (&json!("open"), &json!(1)), "{reply:?}");
        assert_eq!((&reply.json["name"], &reply.json["product"]), (&json!("phone"), &json!("phone")));
    }
    gateway.buy(id, 7).await.expect(202);
}

#[tokio::test]
async fn every_wrong_field_of_a_new_sale_is_named_at_once() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let mut body = sale(0, 60, 0);
    body["name"] = json!(" ");
    body["product"] = json!("");
    body["price_cents"] = json!(100_000_000_001_u64);
    body["currency"] = json!("dollars");
    body["per_user_limit"] = json!(1_001);
    let refused = gateway.create_sale(&body).await.expect_problem(422, "invalid");
    let fields: Vec<_> = refused.wrong_fields().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["name", "product", "stock", "price_cents", "currency", "per_user_limit", "ends_at"]);
    assert!(refused.wrong_fields().iter().any(|(_, message)| message.contains("1 to 100000000")));
    assert_eq!(bed.real.ledger.sales(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_body_that_is_no_sale_says_why() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let mut unknown = sale(10, 0, 60);
    unknown["colour"] = json!("red");
    for (body, reason) in [
        (unknown, "colour"),
        (json!({"name": "phone", "stock": 10}), "ends_at"),
        (json!({"name": "phone", "stock": -1, "ends_at": "2100-01-01T00:00:00Z"}), "-1"),
        (json!({"name": "phone", "stock": 10, "ends_at": "tomorrow"}), "does not fit"),
        (json!([]), "does not fit"),
    ] {
        let refused = gateway.create_sale(&body).await.expect_problem(422, "invalid");
        let [("body", message)] = refused.wrong_fields()[..] else { panic!("{refused:?}") };
        assert!(message.contains(reason), "{message}");
    }
    let over = gateway.create_sale(&sale(10, -7_200, -3_600)).await.expect_problem(422, "invalid");
    let [("ends_at", message)] = over.wrong_fields()[..] else { panic!("{over:?}") };
    assert!(message.contains("which is over"), "{message}");
    assert_eq!(bed.real.ledger.sales(10).await.unwrap(), []);
}

#[tokio::test]
async fn sales_are_listed_newest_first_and_an_unknown_one_is_not_found() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let ids = [gateway.open_sale(1).await, gateway.open_sale(2).await, gateway.open_sale(3).await];
    let list = gateway.get("/api/v1/sales").await.expect(200);
    let listed: Vec<_> = list.json["sales"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sale| SaleId(sale["id"].as_u64().unwrap()))
        .collect();
    assert_eq!(listed, [ids[2], ids[1], ids[0]]);
    for id in ["99", "none"] {
        for path in ["", "/audit"] {
            gateway.get(&format!("/api/v1/sales/{id}{path}")).await.expect_problem(404, "not-found");
        }
    }
}

#[tokio::test]
async fn the_audit_follows_an_order_from_the_gate_to_the_ledger() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(202);
    let path = format!("/api/v1/sales/{sale}/audit");
    let audit = gateway.get(&path).await.expect(200).json;
    let verdict = serde_json::to_value(Verdict::InFlight).unwrap();
    assert_eq!((&audit["verdict"], &audit["in_flight"], &audit["sold"]), (&verdict, &json!(2), &json!(0)));
    bed.expect_at_rest(sale, 1).await;
    // What was read serves everybody for a second.
    let clean = serde_json::to_value(Verdict::Clean).unwrap();
    eventually(SOON, async || {
        let audit = gateway.get(&path).await.expect(200).json;
        let seen = (&audit["verdict"], &audit["in_flight"], &audit["sold"]);
        if seen == (&clean, &json!(0), &json!(2)) { Ok(()) } else { Err(audit) }
    })
    .await;
}

#[tokio::test]
async fn the_admin_can_list_every_order_that_has_reached_the_ledger() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let path = format!("/api/v1/sales/{sale}/audit/orders");
    let list = || gateway.request(Method::GET, &path).bearer_auth(ADMIN_TOKEN);
    assert_eq!(send(list()).await.expect(200).text.lines().count(), 1, "a head and no orders");
    let mut ids = Vec::new();
    for user in [7, 8, 9] {
        ids.push(gateway.buy(sale, user).await.expect(202).order_id());
    }
    bed.expect_at_rest(sale, 3).await;
    let listed = send(list()).await.expect(200).text;
    let (head, lines) = listed.split_once('\n').unwrap();
    assert!(head.starts_with("order_id,user_id,quantity,status,"), "{head}");
    for ((line, id), user) in lines.lines().zip(&ids).zip([7, 8, 9]) {
        assert!(line.starts_with(&format!("{id},{user},1,committed,")), "{line}");
    }
    assert_eq!(lines.lines().count(), 3);
    // The sale is still read, its orders are not: a part must not pass for the whole.
    bed.faults.always(Call::ListOrders, Mishap::Away);
    let whole = async { list().send().await?.text().await };
    assert!(whole.await.is_err(), "the answer breaks off");
}

#[tokio::test]
async fn a_sale_whose_gate_cannot_be_filled_takes_no_orders_until_it_is() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    bed.faults.always(Call::Open, Mishap::Away);
    let created = gateway.create_sale(&sale(10, -1, 60)).await.expect(201);
    assert_eq!((&created.json["epoch"], &created.json["remaining"]), (&json!(0), &json!(null)));
    let sale = sale_id(&created);
    gateway.buy(sale, 7).await.expect_problem(503, "unavailable");
    bed.faults.heal(Call::Open);
    eventually(SOON, async || {
        let reply = gateway.buy(sale, 7).await;
        if reply.status == 503 { Err(reply) } else { Ok(reply.expect(202)) }
    })
    .await;
    bed.expect_at_rest(sale, 1).await;
}

#[tokio::test]
async fn a_sale_opened_by_another_gateway_is_known_here() {
    let bed = TestBed::new().await;
    let (here, there) = tokio::join!(Gateway::start(&bed.backend), Gateway::start(&bed.backend));
    let sale = there.open_sale(10).await;
    let order = here.buy(sale, 7).await.expect(202).order_id();
    assert_eq!(there.buy(sale, 7).await.expect(200).order_id(), order);
    bed.expect_at_rest(sale, 1).await;
}

#[tokio::test]
async fn without_its_ledger_a_gateway_opens_no_sale_and_goes_on_with_those_it_knows() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let known = gateway.open_sale(10).await;
    bed.faults.away(Dependency::Ledger);
    gateway.create_sale(&sale(10, -1, 60)).await.expect_problem(503, "unavailable");
    gateway.buy(SaleId(99), 7).await.expect_problem(503, "unavailable");
    gateway.buy(known, 7).await.expect(202);
    gateway.buy(known, 7).await.expect(200);
    bed.faults.back(Dependency::Ledger);
    bed.expect_at_rest(known, 1).await;
}
