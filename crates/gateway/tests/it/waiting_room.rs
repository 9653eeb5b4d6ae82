//! The waiting room over HTTP: entering, the draw, being let in, and ordering.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use seckill_core::waiting::{Seed, draw};
use seckill_core::{Dependency, SaleId};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use serde_json::{Value, json};

use crate::gateway::{ADMIN_TOKEN, Gateway, config, sale, sale_id, send, token};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

async fn open(gateway: &Gateway, stock: u32, starts: i64, room: Value, more: &Value) -> SaleId {
    let mut body = sale(stock, starts, 3_600);
    body["require_ticket"] = json!(true);
    body["waiting_room"] = room;
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    sale_id(&gateway.create_sale(&body).await.expect(201))
}

fn path(sale: SaleId, rest: &str) -> String {
    format!("/api/v1/sales/{sale}{rest}")
}

async fn enter(gateway: &Gateway, sale: SaleId, user: u64) -> Reply {
    send(gateway.request(Method::POST, &path(sale, "/waiting-room")).bearer_auth(token(user))).await
}

async fn ticket(gateway: &Gateway, sale: SaleId, user: u64) -> Reply {
    send(gateway.request(Method::POST, &path(sale, "/ticket")).bearer_auth(token(user))).await
}

async fn me(gateway: &Gateway, sale: SaleId, user: u64) -> Value {
    gateway.get_as(user, &path(sale, "/waiting-room/me")).await.expect(200).json
}

async fn document(gateway: &Gateway, sale: SaleId) -> Value {
    gateway.get(&path(sale, "/waiting-room")).await.expect(200).json
}

/// Waits until the buyer may fetch a ticket, and fetches it.
async fn ticket_in_turn(gateway: &Gateway, sale: SaleId, user: u64) -> String {
    eventually(SOON, async || {
        let reply = ticket(gateway, sale, user).await;
        match reply.status {
            200 => Ok(reply.json["ticket"].as_str().expect("a ticket").to_owned()),
            _ => Err(reply.expect_problem(403, "not-admitted")),
        }
    })
    .await
}

async fn buy(gateway: &Gateway, sale: SaleId, user: u64, ticket: &str) -> Reply {
    send(gateway.buying(sale, user).header("Seckill-Ticket", ticket)).await
}

#[tokio::test]
async fn arrivals_are_drawn_at_the_start_and_anyone_can_check_the_draw() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let room = json!({"opens_before_ms": 600_000, "rate_per_second": 1_000});
    let sale = open(&gateway, 100, 5, room, &json!({})).await;
    for user in 1..=8 {
        let entered = enter(&gateway, sale, user).await.expect(200);
        assert_eq!((&entered.json["number"], &entered.json["position"]), (&json!(user), &Value::Null));
        assert_eq!(entered.json["cfWaitingRoom"]["isEventPrequeueing"], true);
    }
    assert_eq!(enter(&gateway, sale, 3).await.expect(200).json["number"], 3);
    ticket(&gateway, sale, 3).await.expect_problem(403, "tickets-later");
    let before = document(&gateway, sale).await;
    assert_eq!(
        (&before["state"], &before["seed"], &before["admitted"]),
        (&json!("gathering"), &Value::Null, &json!(0))
    );
    let after = eventually(SOON, async || {
        let document = document(&gateway, sale).await;
        if document["admitted"] == 8 { Ok(document) } else { Err(document) }
    })
    .await;
    assert_eq!((&after["seed_hash"], &after["drawn"]), (&before["seed_hash"], &json!(8)));
    let seed: Seed = serde_json::from_value(after["seed"].clone()).unwrap();
    assert_eq!(after["seed_hash"], seed.hash());
    for user in 1..=8 {
        let me = me(&gateway, sale, user).await;
        assert_eq!(me["position"], draw::position(&seed, 8, user), "{me}");
        assert_eq!(
            (&me["state"], &me["cfWaitingRoom"]["inWaitingRoom"]),
            (&json!("admitted"), &json!(false))
        );
    }
    // Who comes later stands behind everyone.
    assert_eq!(enter(&gateway, sale, 9).await.expect(200).json["number"], 9);
    let late = eventually(SOON, async || {
        let me = me(&gateway, sale, 9).await;
        if me["state"] == "admitted" { Ok(me) } else { Err(me) }
    })
    .await;
    assert_eq!(late["position"], 9);
    let admitted = ticket_in_turn(&gateway, sale, 1).await;
    buy(&gateway, sale, 1, &admitted).await.expect(202);
}

#[tokio::test]
async fn nobody_orders_without_being_admitted() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    // One unit: one buyer is let in, and the next only when that one's time is over.
    let room = json!({"opens_before_ms": 0, "rate_per_second": 100});
    let sale = open(&gateway, 1, -60, room, &json!({"ticket_ttl_ms": 4_000, "per_user_limit": 1})).await;
    let refused = ticket(&gateway, sale, 1).await.expect_problem(403, "not-admitted");
    assert!(refused.json["detail"].as_str().unwrap().contains("not entered"), "{refused:?}");
    gateway.get_as(1, &path(sale, "/waiting-room/me")).await.expect_problem(403, "not-admitted");
    for user in 1..=3 {
        enter(&gateway, sale, user).await.expect(200);
    }
    ticket_in_turn(&gateway, sale, 1).await;
    assert!(ticket(&gateway, sale, 3).await.expect_problem(403, "not-admitted").retry_after() >= 1);
    gateway.buy(sale, 3).await.expect_problem(403, "ticket-required");
    // The first does not order, and the place goes on.
    let second = ticket_in_turn(&gateway, sale, 2).await;
    let passed = ticket(&gateway, sale, 1).await.expect_problem(403, "not-admitted");
    assert!(passed.json["detail"].as_str().unwrap().contains("has passed"), "{passed:?}");
    assert_eq!(me(&gateway, sale, 1).await["state"], "expired");
    assert_eq!(enter(&gateway, sale, 1).await.expect(200).json["number"], 4);
    buy(&gateway, sale, 2, &second).await.expect(202);
    // Nobody is let in to a sale that is sold out.
    eventually(SOON, async || {
        let document = document(&gateway, sale).await;
        if document["state"] == "sold_out" { Ok(()) } else { Err(document) }
    })
    .await;
    assert_eq!(bed.level(sale).await.orders, 1);
}

#[tokio::test]
async fn the_inlet_stops_while_the_gate_is_away() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let room = json!({"opens_before_ms": 0, "rate_per_second": 100_000});
    let sale = open(&gateway, 100, -60, room, &json!({})).await;
    bed.faults.always(Call::ReadGate, Mishap::Away);
    enter(&gateway, sale, 1).await.expect(200);
    eventually(SOON, async || {
        let document = document(&gateway, sale).await;
        if document["state"] == "paused" && document["arrivals"] == 1 { Ok(()) } else { Err(document) }
    })
    .await;
    let me_now = me(&gateway, sale, 1).await;
    assert_eq!((&me_now["state"], &me_now["estimated_wait_seconds"]), (&json!("waiting"), &Value::Null));
    ticket(&gateway, sale, 1).await.expect_problem(403, "not-admitted");
    bed.faults.heal(Call::ReadGate);
    ticket_in_turn(&gateway, sale, 1).await;
    bed.faults.back(Dependency::Gate);
}

#[tokio::test]
async fn two_gateways_have_one_room_and_a_restart_keeps_places() {
    let bed = TestBed::new().await;
    let (first, second) = (Gateway::start(&bed.backend).await, Gateway::with(&bed.backend, config()).await);
    let room = json!({"opens_before_ms": 600_000, "rate_per_second": 5});
    let sale = open(&first, 100, 3, room, &json!({})).await;
    for user in 1..=30 {
        let gateway = if user % 2 == 0 { &first } else { &second };
        assert_eq!(enter(gateway, sale, user).await.expect(200).json["number"], user);
    }
    // Together they let in no more than one would.
    let mut admitted = BTreeMap::new();
    eventually(SOON, async || {
        for gateway in [&first, &second] {
            let document = document(gateway, sale).await;
            let as_of: chrono::DateTime<chrono::Utc> =
                serde_json::from_value(document["as_of"].clone()).unwrap();
            admitted.insert(as_of, document["admitted"].as_u64().unwrap());
        }
        match admitted.values().last() {
            Some(20..) => Ok(()),
            last => Err(format!("{last:?}")),
        }
    })
    .await;
    let starts: chrono::DateTime<chrono::Utc> =
        serde_json::from_value(document(&first, sale).await["starts_at"].clone()).unwrap();
    for (as_of, admitted) in admitted {
        let seconds = (as_of - starts).num_milliseconds().max(0) as f64 / 1_000.0;
        assert!(admitted as f64 <= seconds * 5.0 + 1.0, "{admitted} after {seconds} s");
    }
    let before = me(&first, sale, 7).await;
    first.stop().await;
    second.stop().await;
    let again = Gateway::start(&bed.backend).await;
    let after = me(&again, sale, 7).await;
    assert_eq!((&after["number"], &after["position"]), (&before["number"], &before["position"]));
}

#[tokio::test]
async fn a_room_has_its_times() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let room = json!({"opens_before_ms": 1_000, "rate_per_second": 5});
    let sale = open(&gateway, 100, 600, room, &json!({})).await;
    let refused = enter(&gateway, sale, 1).await.expect_problem(403, "room-opens-later");
    assert!((500..=600).contains(&refused.retry_after()), "{refused:?}");
    let shown = gateway.get(&path(sale, "/waiting-room")).await.expect(200);
    assert_eq!(shown.header("cache-control"), Some("public, max-age=1"));
    assert_eq!((&shown.json["state"], &shown.json["seed_hash"]), (&json!("upcoming"), &Value::Null));
    let plain = gateway.open_sale(10).await;
    enter(&gateway, plain, 1).await.expect_problem(409, "no-waiting-room");
    gateway.get(&path(plain, "/waiting-room")).await.expect_problem(409, "no-waiting-room");
    gateway.get(&path(SaleId(99), "/waiting-room")).await.expect_problem(404, "not-found");
    let anonymous = gateway.request(Method::POST, &path(sale, "/waiting-room"));
    send(anonymous).await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_event_stream_tells_when_the_turn_comes() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let room = json!({"opens_before_ms": 600_000, "rate_per_second": 100});
    let sale = open(&gateway, 100, 2, room, &json!({})).await;
    enter(&gateway, sale, 1).await.expect(200);
    let stream = gateway.request(Method::GET, &path(sale, "/waiting-room/events")).bearer_auth(token(1));
    let mut response = stream.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    let read = async {
        while !text.contains("\"state\":\"admitted\"") {
            let chunk = response.chunk().await.unwrap().expect("the stream goes on");
            text += std::str::from_utf8(&chunk).unwrap();
        }
    };
    tokio::time::timeout(SOON, read).await.expect("the turn comes");
    assert!(text.starts_with("event: place"), "{text}");
    assert!(text.contains("\"state\":\"waiting\""), "{text}");
}

/// The load generator's scenario: it plays the buyers, and judges rate, draw and admission by what it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_generator_finds_nothing_wrong() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let target = loadtest::Target::parse(&format!("http://{}", gateway.address)).unwrap();
    let plan = loadtest::WaitingPlan {
        buyers: 120,
        stock: 100,
        rate: 20,
        starts_in: Duration::from_secs(5),
        proof_of_work: true,
        deadline: Duration::from_secs(120),
    };
    let tokens = loadtest::Tokens::from_list((1..=120).map(token)).unwrap();
    let admin = loadtest::bearer(ADMIN_TOKEN).unwrap();
    let clients = loadtest::Clients::connect(target, 1).await.unwrap();
    let report = loadtest::waiting::play(&clients, &admin, &tokens, plan).await.unwrap();
    assert!(report.holds(), "{report}");
    assert_eq!((report.entered, report.orders, report.tickets), (120, 100, 100), "{report:?}");
    assert_eq!(bed.level(SaleId(report.sale)).await.orders, 100);
}
