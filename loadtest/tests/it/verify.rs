//! Broken promises are found, and nothing else is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use loadtest::{
    CancellationToken, Clients, End, Order, Plan, Progress, Status, Target, Verification, VerifySettings,
};
use uuid::Uuid;

use crate::server::{ORDERS, job, order, order_id, plan, problem, serve, tokens, user};

/// The state of a user's order when it is looked up for the n-th time, counted from 0.
type States = fn(user: u64, asked: u32) -> Option<&'static str>;

#[derive(Clone)]
struct Shop {
    state: States,
    asked: Arc<Mutex<HashMap<u64, u32>>>,
}

/// Promises everyone an order, except that every tenth user's outcome is unknown.
async fn promise(headers: HeaderMap) -> Response {
    let user = user(&headers);
    match user % 10 {
        9 => problem(503, "outcome-unknown", Some(order_id(user))),
        _ => order(StatusCode::ACCEPTED, order_id(user), "queued"),
    }
}

async fn look_up(State(shop): State<Shop>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    let user = user(&headers);
    let mut asked = shop.asked.lock().unwrap();
    let times = asked.entry(user).or_default();
    let state = (shop.state)(user, *times).filter(|_| id == order_id(user));
    *times += 1;
    match state {
        Some("broken") => problem(500, "internal", None),
        Some(status) => order(StatusCode::OK, id, status),
        None => problem(404, "not-found", None),
    }
}

async fn shop(state: States) -> Target {
    let shop = Shop { state, asked: Arc::default() };
    let router = Router::new().route(ORDERS, post(promise)).route("/api/v1/orders/{id}", get(look_up));
    serve(router.with_state(shop)).await
}

fn settings(within: Duration) -> VerifySettings {
    VerifySettings { within, pause: Duration::from_millis(10), ..VerifySettings::default() }
}

/// Users 100 to 1099 order. Orders without an end are given up after five seconds.
async fn verified(state: States) -> Verification {
    let mut clients = Clients::connect(shop(state).await, 8).await.unwrap();
    let (job, cancel) = (job(plan(1_000, Duration::ZERO)), CancellationToken::new());
    let run = loadtest::run(&mut clients, &job, &Progress::shared(), &cancel).await.unwrap();
    assert_eq!((run.counts().accepted, run.counts().unknown), (900, 100));
    let settings = settings(Duration::from_secs(5));
    loadtest::verify(&mut clients, &run.orders(), &job.tokens, &settings, &cancel).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_paid_cancelled_or_refunded_has_a_final_row() {
    let words = ["paid", "cancelled", "refunding", "refund_held", "refunded"];
    let checked = verified(|user, _| {
        Some(["paid", "cancelled", "refunding", "refund_held", "refunded"][(user % 5) as usize])
    })
    .await;
    assert_eq!((checked.count(End::Committed), checked.lost()), (1_000, 0));
    for (at, word) in words.into_iter().enumerate() {
        let status = Status::read(word.as_bytes()).unwrap();
        assert_eq!(checked.checks[at].status, Some(status), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_gets_a_final_row_in_time_is_not_lost() {
    let checked = verified(|user, asked| match (asked, user % 4) {
        (0, 0) => None,
        (0, 1) => Some("broken"),
        (0, _) => Some("queued"),
        (_, 3) => Some("rejected"),
        _ => Some("committed"),
    })
    .await;
    assert_eq!(checked.checks.len(), 1_000);
    assert_eq!((checked.count(End::Committed), checked.count(End::Rejected), checked.lost()), (750, 250, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_one_order_of_a_hundred_is_found_out() {
    let checked = verified(|user, _| (user % 100 != 0).then_some("committed")).await;
    assert_eq!((checked.lost(), checked.count(End::Missing), checked.count(End::Committed)), (10, 10, 990));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_promised_orders_can_be_lost() {
    let checked = verified(|user, _| match user {
        100 => Some("queued"),
        101 => Some("broken"),
        102 => None,
        // Their outcome was unknown: one stays in the queue, one is never recorded.
        109 => Some("queued"),
        119 => None,
        _ => Some("committed"),
    })
    .await;
    let count = |end| checked.count(end);
    assert_eq!((count(End::Queued), count(End::Unclear), count(End::Missing)), (2, 1, 2));
    assert_eq!(checked.lost(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_with_two_orders_is_found() {
    let forgetful = async || order(StatusCode::ACCEPTED, Uuid::now_v7(), "queued");
    let committed = async |Path(id): Path<Uuid>| order(StatusCode::OK, id, "committed");
    let router = Router::new().route(ORDERS, post(forgetful)).route("/api/v1/orders/{id}", get(committed));
    let mut clients = Clients::connect(serve(router).await, 4).await.unwrap();
    let job = job(Plan { retry_ratio: 0.2, ..plan(50, Duration::from_millis(20)) });
    let cancel = CancellationToken::new();
    let run = loadtest::run(&mut clients, &job, &Progress::shared(), &cancel).await.unwrap();
    let settings = settings(Duration::from_secs(10));
    let checked = loadtest::verify(&mut clients, &run.orders(), &job.tokens, &settings, &cancel).await;
    assert_eq!((checked.count(End::Committed), checked.buyers_with_two_orders()), (60, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_is_over_when_one_of_the_newest_orders_has_a_final_row() {
    let plan = plan(50, Duration::ZERO);
    let orders: Vec<Order> = (0..50)
        .map(|buyer| Order { buyer, order_id: order_id(plan.user(buyer)), promised: true, due_us: 0 })
        .collect();
    let drained = async |state, within| {
        let mut clients = Clients::connect(shop(state).await, 2).await.unwrap();
        let cancel = CancellationToken::new();
        loadtest::wait_for_drain(&mut clients, &orders, &tokens(&plan), &settings(within), &cancel).await
    };
    let slow: States = |user, asked| (user != 149).then_some(if asked < 5 { "queued" } else { "committed" });
    assert!(drained(slow, Duration::from_secs(30)).await, "the newest is lost, the next is committed");
    assert!(!drained(|_, _| Some("queued"), Duration::from_millis(100)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_verification_keeps_what_it_has() {
    let target = shop(|_, _| Some("committed")).await;
    let mut clients = Clients::connect(target, 2).await.unwrap();
    let plan = plan(1, Duration::ZERO);
    let orders = [Order { buyer: 0, order_id: order_id(100), promised: true, due_us: 0 }];
    let cancel = CancellationToken::new();
    cancel.cancel();
    let settings = settings(Duration::from_secs(60));
    let checked = loadtest::verify(&mut clients, &orders, &tokens(&plan), &settings, &cancel).await;
    assert_eq!((checked.count(End::Unclear), checked.cancelled), (1, true));
}
