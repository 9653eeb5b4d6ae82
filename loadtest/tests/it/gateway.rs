//! A whole small gateway: makes sales, takes orders, records them, lists and audits them; honestly, or with one kind of lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use seckill_token::Verifier;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{problem, serve};

pub(crate) const SECRET: &str = "a-secret-of-a-test";
pub(crate) const ADMIN: &str = "an-admin-token-of-a-test";

/// In what way it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    /// One order in a thousand is promised and dropped.
    Drops,
    /// A user who asks again gets another order.
    SellsTwice,
    /// The stock has no end.
    Oversells,
    /// Every 1.5 s nothing moves for 300 ms.
    Stalls,
    /// The sale is not open yet.
    Upcoming,
    /// Every tenth outcome is unknown; half of these orders come to be.
    Unsure,
    /// There is no list of recorded orders.
    NoList,
}

#[derive(Clone)]
struct App {
    lie: Lie,
    began: Instant,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    stock: u64,
    by_user: BTreeMap<u64, Uuid>,
    promised: u64,
    /// Order, user, when.
    ledger: BTreeMap<Uuid, (u64, u128)>,
}

/// Its base address. Sale 1 is there with 5,000 units; making a sale resets it.
pub(crate) async fn gateway(lie: Lie) -> String {
    let books = Books { stock: 5_000, ..Books::default() };
    let app = App { lie, began: Instant::now(), books: Arc::new(Mutex::new(books)) };
    let router = Router::new()
        .route("/api/v1/sales", post(create))
        .route("/api/v1/sales/{id}", get(show))
        .route("/api/v1/sales/{id}/orders", post(order))
        .route("/api/v1/sales/{id}/orders/mine", get(mine))
        .route("/api/v1/sales/{id}/audit", get(audit))
        .route("/api/v1/sales/{id}/audit/orders", get(list))
        .route("/api/v1/orders/{id}", get(look_up))
        .with_state(app);
    serve(router).await.to_string()
}

#[derive(Deserialize)]
struct NewSale {
    stock: u64,
    ends_at: String,
}

fn is_admin(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {ADMIN}"))
}

async fn create(State(app): State<App>, headers: HeaderMap, Json(new): Json<NewSale>) -> Response {
    if !is_admin(&headers) {
        return problem(401, "unauthorized", None);
    }
    assert!(humantime::parse_rfc3339(&new.ends_at).unwrap() > SystemTime::now());
    *app.books.lock().unwrap() = Books { stock: new.stock, ..Books::default() };
    (StatusCode::CREATED, view(&app)).into_response()
}

async fn show(State(app): State<App>, Path(id): Path<u64>) -> Response {
    if id == 1 { view(&app).into_response() } else { problem(404, "not-found", None) }
}

/// Whatever it does, it claims that all is well.
fn view(app: &App) -> Json<Value> {
    let books = app.books.lock().unwrap();
    let orders = books.ledger.len() as u64;
    let phase = if app.lie == Lie::Upcoming { "upcoming" } else { "open" };
    Json(json!({
        "id": 1, "stock": books.stock, "orders": orders, "rejected_orders": 0, "reserved_orders": orders,
        "remaining": books.stock.saturating_sub(orders), "phase": phase, "epoch": 1,
        "starts_at": "2100-01-01T00:00:00Z", "ends_at": "2100-01-02T00:00:00Z",
    }))
}

async fn audit() -> Json<Value> {
    Json(json!({"oversold": 0, "duplicates": 0, "conserved": true, "verdict": "clean", "findings": []}))
}

fn user(headers: &HeaderMap) -> Option<u64> {
    let token = headers[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    Verifier::hs256(SECRET).user(token).ok()
}

async fn mine(headers: HeaderMap) -> Response {
    if user(&headers).is_some() {
        Json(json!({"orders": []})).into_response()
    } else {
        problem(401, "unauthorized", None)
    }
}

async fn order(State(app): State<App>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if app.lie == Lie::Stalls {
        let left = Duration::from_millis((app.began.elapsed().as_millis() % 1_500) as u64);
        tokio::time::sleep(Duration::from_millis(300).saturating_sub(left)).await;
    }
    assert_eq!(body, json!({"quantity": 1}));
    decide(&app, user(&headers).unwrap())
}

fn decide(app: &App, user: u64) -> Response {
    let mut books = app.books.lock().unwrap();
    let body = |id: Uuid| Json(json!({"order_id": id, "sale_id": 1, "quantity": 1, "status": "queued"}));
    if let Some(&id) = books.by_user.get(&user)
        && app.lie != Lie::SellsTwice
    {
        return (StatusCode::OK, [("Idempotent-Replayed", "true")], body(id)).into_response();
    }
    if books.promised >= books.stock && app.lie != Lie::Oversells {
        return problem(409, "sold-out", None);
    }
    books.promised += 1;
    let (id, at) = (Uuid::now_v7(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
    books.by_user.insert(user, id);
    let unsure = app.lie == Lie::Unsure && user.is_multiple_of(10);
    let dropped = (app.lie == Lie::Drops && books.promised.is_multiple_of(1_000))
        || (unsure && user.is_multiple_of(20));
    if !dropped {
        books.ledger.insert(id, (user, at));
    }
    if unsure {
        problem(503, "outcome-unknown", Some(id))
    } else {
        (StatusCode::ACCEPTED, body(id)).into_response()
    }
}

async fn look_up(State(app): State<App>, Path(id): Path<Uuid>, headers: HeaderMap) -> Response {
    let user = user(&headers).unwrap();
    let books = app.books.lock().unwrap();
    match books.ledger.get(&id) {
        Some(&(owner, at)) if owner == user => {
            let at = UNIX_EPOCH + Duration::from_millis(at as u64);
            let at = humantime::format_rfc3339_millis(at).to_string();
            Json(json!({"order_id": id, "status": "committed", "recorded_at": at})).into_response()
        }
        None if app.lie == Lie::Drops => Json(json!({"order_id": id, "status": "queued"})).into_response(),
        _ => problem(404, "not-found", None),
    }
}

async fn list(State(app): State<App>, headers: HeaderMap) -> Response {
    if app.lie == Lie::NoList {
        return problem(404, "not-found", None);
    }
    if !is_admin(&headers) {
        return problem(401, "unauthorized", None);
    }
    let mut text = "order_id,user_id,quantity,status,accepted_at_ms,recorded_at_ms\n".to_owned();
    for (id, (user, at)) in &app.books.lock().unwrap().ledger {
        text += &format!("{id},{user},1,committed,{at},{at}\n");
    }
    ([(header::CONTENT_TYPE, "text/csv")], text).into_response()
}
