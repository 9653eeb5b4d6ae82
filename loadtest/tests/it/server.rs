//! Starts a server for one test; plans, jobs and answers that most tests use.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loadtest::{CancellationToken, Clients, Job, Plan, Progress, Run, Target, Tokens};
use uuid::Uuid;

pub(crate) const SALE: u64 = 7;
pub(crate) const ORDERS: &str = "/api/v1/sales/7/orders";

/// Serves `router` on a free port until the test's runtime ends.
pub(crate) async fn serve(router: Router) -> Target {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Target::parse(&url).unwrap()
}

/// Users 100, 101, … arrive over `arrival`.
pub(crate) fn plan(buyers: u64, arrival: Duration) -> Plan {
    Plan::spread(buyers, 100, arrival)
}

pub(crate) fn tokens(plan: &Plan) -> Tokens {
    Tokens::sign(plan, |user| format!("user-{user}")).unwrap()
}

pub(crate) fn job(plan: Plan) -> Job {
    let tokens = tokens(&plan);
    Job::new(plan, SALE, tokens)
}

/// Connects four times and runs the plan to its end.
pub(crate) async fn run(target: Target, plan: Plan) -> Run {
    let mut clients = Clients::connect(target, 4).await.unwrap();
    loadtest::run(&mut clients, &job(plan), &Progress::shared(), &CancellationToken::new()).await.unwrap()
}

/// The user id in the bearer token.
pub(crate) fn user(headers: &HeaderMap) -> u64 {
    let value = headers[header::AUTHORIZATION].to_str().unwrap();
    value.strip_prefix("Bearer user-").unwrap().parse().unwrap()
}

/// The one order of a user.
pub(crate) fn order_id(user: u64) -> Uuid {
    Uuid::from_u128(user.into())
}

pub(crate) fn order(status: StatusCode, id: Uuid, state: &str) -> Response {
    let body = format!(r#"{{"order_id":"{id}","sale_id":{SALE},"quantity":1,"status":"{state}"}}"#);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(crate) fn problem(status: u16, name: &str, order_id: Option<Uuid>) -> Response {
    let order = order_id.map_or_else(String::new, |id| format!(r#","order_id":"{id}""#));
    let body =
        format!(r#"{{"type":"https://example.org/problems/{name}","title":"no","status":{status}{order}}}"#);
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}
