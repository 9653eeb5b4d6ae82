//! Purchase tickets: no order without one, and none with one that is not the buyer's own.

use std::sync::Arc;

use reqwest::Method;
use seckill_core::{SaleId, now};
use seckill_gateway::Config;
use seckill_testkit::eventually;
use seckill_token::challenge::{Challenge, solve};
use seckill_token::ticket::{Keys, Ticket};
use serde_json::{Value, json};

use crate::gateway::{Gateway, JWT_SECRET, config, sale, sale_id, send, token};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

/// The body of a sale that needs tickets, with these members besides.
fn with_tickets(starts: i64, more: &Value) -> Value {
    let mut body = sale(10, starts, 3_600);
    body["require_ticket"] = json!(true);
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

async fn open(gateway: &Gateway, starts: i64, more: &Value) -> SaleId {
    sale_id(&gateway.create_sale(&with_tickets(starts, more)).await.expect(201))
}

async fn fetch(gateway: &Gateway, sale: SaleId, user: u64) -> Reply {
    let path = format!("/api/v1/sales/{sale}/ticket");
    send(gateway.request(Method::POST, &path).bearer_auth(token(user))).await
}

fn text(reply: &Reply) -> &str {
    reply.json["ticket"].as_str().unwrap_or_else(|| panic!("no ticket in {reply:?}"))
}

async fn buy(gateway: &Gateway, sale: SaleId, user: u64, ticket: &str) -> Reply {
    send(gateway.buying(sale, user).header("Seckill-Ticket", ticket)).await
}

fn in_a_minute() -> u64 {
    now().timestamp_millis().unsigned_abs() + 60_000
}

#[tokio::test]
async fn an_order_needs_a_ticket_of_its_own_buyer() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (sale, other) = (open(&gateway, -60, &json!({})).await, open(&gateway, -60, &json!({})).await);
    let refused = gateway.buy(sale, 7).await.expect_problem(403, "ticket-required");
    assert!(refused.json["detail"].as_str().unwrap().contains("without a ticket"), "{refused:?}");
    let handed = fetch(&gateway, sale, 7).await.expect(200);
    assert_eq!(handed.header("cache-control"), Some("no-store"));
    let ticket = text(&handed).to_owned();
    for (sale, user, said) in [(sale, 8, "another user's"), (other, 7, "another sale")] {
        let refused = buy(&gateway, sale, user, &ticket).await.expect_problem(403, "ticket-invalid");
        assert!(refused.json["detail"].as_str().unwrap().contains(said), "{refused:?}");
    }
    let order = buy(&gateway, sale, 7, &ticket).await.expect(202).order_id();
    // The same ticket again is a retry, as anywhere.
    assert_eq!(buy(&gateway, sale, 7, &ticket).await.expect(200).order_id(), order);
    assert_eq!(bed.level(sale).await.orders, 1);
    assert_eq!(bed.level(other).await.orders, 0);
}

#[tokio::test]
async fn what_is_no_ticket_is_refused_with_its_reason() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = open(&gateway, -60, &json!({})).await;
    let signed = |secret: &str, epoch, expires_ms| {
        Keys::derived([secret]).sign(&Ticket { user: 7, sale: sale.0, epoch, expires_ms })
    };
    let good = signed(JWT_SECRET, 1, in_a_minute());
    let mut tampered = good.clone().into_bytes();
    let last = tampered.len() - 1;
    tampered[last] = if tampered[last] == b'A' { b'B' } else { b'A' };
    for (ticket, said) in [
        (signed("another secret, as long as the first", 1, in_a_minute()), "does not know"),
        (signed(JWT_SECRET, 1, now().timestamp_millis().unsigned_abs() - 1), "expired"),
        (String::from_utf8(tampered).unwrap(), "signature"),
        ("nonsense".to_owned(), "not a ticket"),
        (signed(JWT_SECRET, 3, in_a_minute()), "rebuilt"),
    ] {
        let refused = buy(&gateway, sale, 7, &ticket).await.expect_problem(403, "ticket-invalid");
        assert!(refused.json["detail"].as_str().unwrap().contains(said), "{refused:?}");
    }
    assert_eq!(bed.level(sale).await.orders, 0);
    // Of the filling before, and of one that this gateway has not heard of yet.
    for (epoch, status) in [(0, 202), (2, 200)] {
        buy(&gateway, sale, 7, &signed(JWT_SECRET, epoch, in_a_minute())).await.expect(status);
    }
}

#[tokio::test]
async fn tickets_are_handed_out_from_a_moment_on() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    // By default that is the start of the sale.
    let upcoming = open(&gateway, 600, &json!({})).await;
    let refused = fetch(&gateway, upcoming, 7).await.expect_problem(403, "tickets-later");
    assert!((500..=600).contains(&refused.retry_after()), "{refused:?}");
    let from = now() + chrono::Duration::milliseconds(500);
    let early = open(&gateway, 600, &json!({"tickets_from": from, "ticket_ttl_ms": 3_600_000})).await;
    let ticket = eventually(SOON, async || {
        let reply = fetch(&gateway, early, 7).await;
        if reply.status == 200 { Ok(reply) } else { Err(reply.expect_problem(403, "tickets-later")) }
    })
    .await;
    assert!(now() >= from);
    // A ticket does not open a sale.
    buy(&gateway, early, 7, text(&ticket)).await.expect_problem(403, "not-open");
    let over = gateway.closed_sale().await;
    fetch(&gateway, over, 7).await.expect_problem(409, "no-tickets");
    fetch(&gateway, SaleId(99), 7).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_ticket_ends() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = open(&gateway, -60, &json!({"ticket_ttl_ms": 1_000})).await;
    let ticket = fetch(&gateway, sale, 7).await.expect(200);
    let refused = eventually(SOON, async || {
        // Before its end it is good: the order is made, and then found again.
        let reply = buy(&gateway, sale, 7, text(&ticket)).await;
        if reply.status == 403 { Ok(reply) } else { Err(reply) }
    })
    .await
    .expect_problem(403, "ticket-invalid");
    assert!(refused.json["detail"].as_str().unwrap().contains("expired"), "{refused:?}");
}

#[tokio::test]
async fn keys_are_replaced_while_gateways_sell() {
    let bed = TestBed::new().await;
    let (old, new) = ("old 0123456789abcdef0123456789abcdef\n", "new fedcba9876543210fedcba9876543210\n");
    let keys = |text: &str| Some(Arc::new(Keys::parse(text).unwrap()));
    let with = |text: &str| Config { ticket_keys: keys(text), ..config() };
    // Not yet restarted, restarted with the new key in front, and with the old one gone.
    let first = Gateway::with(&bed.backend, with(&format!("{old}{new}"))).await;
    let second = Gateway::with(&bed.backend, with(&format!("{new}{old}"))).await;
    let third = Gateway::with(&bed.backend, with(new)).await;
    let sale = open(&first, -60, &json!({})).await;
    let (by_old, by_new) =
        (fetch(&first, sale, 7).await.expect(200), fetch(&second, sale, 8).await.expect(200));
    buy(&second, sale, 7, text(&by_old)).await.expect(202);
    buy(&first, sale, 8, text(&by_new)).await.expect(202);
    buy(&third, sale, 8, text(&by_new)).await.expect(200);
    let refused = buy(&third, sale, 7, text(&by_old)).await.expect_problem(403, "ticket-invalid");
    assert!(refused.json["detail"].as_str().unwrap().contains("does not know"), "{refused:?}");
}

#[tokio::test]
async fn a_sale_without_tickets_ignores_them_and_a_new_sale_says_what_is_wrong() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let plain = gateway.open_sale(10).await;
    buy(&gateway, plain, 7, "nonsense").await.expect(202);
    fetch(&gateway, plain, 7).await.expect_problem(409, "no-tickets");
    let mut body = sale(10, 0, 60);
    body["proof_of_work"] = json!(true);
    let refused = gateway.create_sale(&body).await.expect_problem(422, "invalid");
    assert_eq!(refused.wrong_fields()[0].0, "proof_of_work");
    let shown = open(&gateway, -60, &json!({"ticket_ttl_ms": 5_000})).await;
    let shown = gateway.get(&format!("/api/v1/sales/{shown}")).await.expect(200);
    assert_eq!((&shown.json["require_ticket"], &shown.json["ticket_ttl_ms"]), (&json!(true), &json!(5_000)));
}

async fn fetch_with(gateway: &Gateway, sale: SaleId, user: u64, altcha: &str) -> Reply {
    let path = format!("/api/v1/sales/{sale}/ticket");
    let body = json!({"altcha": altcha});
    send(gateway.request(Method::POST, &path).bearer_auth(token(user)).json(&body)).await
}

async fn solution(gateway: &Gateway, sale: SaleId, user: u64) -> String {
    let challenge = gateway.get_as(user, &format!("/api/v1/sales/{sale}/challenge")).await.expect(200);
    let challenge: Challenge = serde_json::from_value(challenge.json).expect("a challenge");
    assert_eq!(challenge.algorithm, "SHA-256");
    solve(&challenge).expect("it has a solution").to_payload()
}

#[tokio::test]
async fn a_ticket_may_cost_a_proof_of_work_that_is_good_once() {
    let bed = TestBed::new().await;
    let (gateway, second) = (Gateway::start(&bed.backend).await, Gateway::start(&bed.backend).await);
    let sale = open(&gateway, -60, &json!({"proof_of_work": true})).await;
    let other = open(&gateway, -60, &json!({"proof_of_work": true})).await;
    fetch(&gateway, sale, 7).await.expect_problem(403, "proof-required");
    let altcha = solution(&gateway, sale, 7).await;
    for (sale, user, altcha, said) in [
        (sale, 8, altcha.as_str(), "another user"),
        (other, 7, &altcha, "another sale"),
        (sale, 7, "nonsense", "cannot be read"),
    ] {
        let refused = fetch_with(&gateway, sale, user, altcha).await.expect_problem(403, "proof-invalid");
        assert!(refused.json["detail"].as_str().unwrap().contains(said), "{refused:?}");
    }
    let ticket = fetch_with(&gateway, sale, 7, &altcha).await.expect(200);
    for gateway in [&gateway, &second] {
        let refused = fetch_with(gateway, sale, 7, &altcha).await.expect_problem(403, "proof-invalid");
        assert!(refused.json["detail"].as_str().unwrap().contains("used before"), "{refused:?}");
    }
    buy(&gateway, sale, 7, text(&ticket)).await.expect(202);
    let plain = open(&gateway, -60, &json!({})).await;
    gateway.get_as(7, &format!("/api/v1/sales/{plain}/challenge")).await.expect_problem(409, "no-tickets");
}
