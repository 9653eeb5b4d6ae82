//! Every answer of the interface, over real HTTP.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use loadtest::{CancellationToken, Clients, Outcome, Progress};

use crate::server::{ORDERS, job, order, order_id, plan, problem, serve, user};

/// Answers by the user's number, if the request has the form of the interface.
async fn answer(headers: HeaderMap, Json(body): Json<serde_json::Value>) -> Response {
    if body != serde_json::json!({"quantity": 1}) {
        return problem(400, "bad-test", None);
    }
    let user = user(&headers);
    let id = order_id(user);
    match user - 100 {
        0 => order(StatusCode::ACCEPTED, id, "queued"),
        1 => ([("Idempotent-Replayed", "true")], order(StatusCode::OK, id, "queued")).into_response(),
        2 => problem(409, "sold-out", None),
        3 => problem(409, "order-differs", None),
        4 => problem(429, "rate-limited", None),
        5 => problem(403, "not-open", None),
        6 => problem(403, "closed", None),
        7 => problem(503, "outcome-unknown", Some(id)),
        8 => problem(503, "overloaded", None),
        9 => (StatusCode::ACCEPTED, "{}").into_response(),
        10 => (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response(),
        11 => (StatusCode::ACCEPTED, "x".repeat(100_000)).into_response(),
        _ => std::future::pending().await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_its_outcome() {
    let target = serve(Router::new().route(ORDERS, post(answer))).await;
    let timeout = Duration::from_secs(3);
    let mut clients = Clients::connect_with(target, 2, timeout).await.unwrap();
    let progress = Progress::shared();
    let job = job(plan(13, Duration::from_millis(50)));
    let run = loadtest::run(&mut clients, &job, &progress, &CancellationToken::new()).await.unwrap();

    let refused = |status, problem: &str| Outcome::Refused { status, problem: problem.into() };
    let outcomes: Vec<_> = run.records.iter().map(|record| record.outcome.clone()).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Accepted { order_id: order_id(100) },
            Outcome::Replayed { order_id: order_id(101) },
            Outcome::SoldOut,
            refused(409, "order-differs"),
            Outcome::RateLimited,
            refused(403, "not-open"),
            refused(403, "closed"),
            Outcome::Unknown { order_id: order_id(107) },
            refused(503, "overloaded"),
            Outcome::Malformed { status: 202 },
            refused(502, "unnamed"),
            Outcome::ConnectionError,
            Outcome::TimedOut,
        ]
    );
    assert!(run.connection_error.as_deref().unwrap().contains("longer than 65536 bytes"));
    assert!(run.records[12].service_us >= 3_000_000, "the time-out is the time that was waited");
    let counts = progress.counts();
    assert_eq!(counts, run.counts());
    assert_eq!((counts.sent, counts.ended(), counts.refused, counts.malformed), (13, 13, 5, 1));
    let promised: Vec<_> = run.orders().iter().map(|order| (order.buyer, order.promised)).collect();
    assert_eq!(promised, [(0, true), (1, true), (7, false)]);
}
