//! A small gateway: it makes sales, takes orders, records them, lists and audits them, either honestly or with one kind of lie.

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

use crate::payments::{self, Payments};
use crate::server::{problem, serve};

pub(crate) const SECRET: &str = "a-secret-of-a-test";
pub(crate) const ADMIN: &str = "an-admin-token-of-a-test";

/// What the gateway does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    /// One order in a thousand is promised and dropped.
    Drops,
    /// A user who asks again gets another order.
    SellsTwice,
    /// It sells without regard to the stock.
    Oversells,
    /// Every 1.5 s nothing moves for 300 ms.
    Stalls,
    /// The sale is not open yet.
    Upcoming,
    /// Every tenth outcome is unknown; half of these orders are recorded.
    Unsure,
    /// There is no list of recorded orders.
    NoList,
    /// The gate has lost its data. Every order is recorded all the same.
    GateLost,
    /// The gate has lost its data, and every tenth order has no row and never gets one.
    GateLostAndDrops,
    /// The workers are paused: no order is recorded, and the audit says that all are in flight.
    Paused,
    /// As `Paused`, and every row arrives three seconds after its order.
    Late,
    /// The gate is being rebuilt, and no order is recorded meanwhile.
    Rebuilding,
    /// Every tenth order is dropped, and the audit says that these are lost.
    AuditFindsLost,
    /// Every tenth order is dropped, and the audit says that fewer than these are in flight.
    Miscounts,
    /// There is no audit.
    NoAudit,
    /// Every order goes straight into the ledger: there is no gate.
    Direct,
    /// Payments, cancellations and refunds succeed only after every answer that means "again".
    Busy,
    /// Payments after the window are taken, and the money goes back.
    TakesLate,
    /// The same, and the bank keeps the money.
    KeepsLate,
    /// Buyers are told that they have paid, and nothing happens.
    TellsPaid,
    /// Buyers are told that their order is cancelled, and it is paid.
    TellsCancelled,
    /// Buyers are told that the bank has declined, and their orders are paid.
    DeclinesAndCharges,
    /// Two payments under one key have two ids.
    TwoAnswers,
    /// Orders that nobody pays for are paid when their window is over.
    PaysUnasked,
    /// Orders that nobody pays for stay as they are.
    NeverExpires,
    /// Orders expire when a quarter of their window is over.
    ExpiresEarly,
    /// Refunds wait for a human.
    HoldsRefunds,
    /// The bank has charged every order twice.
    ChargesTwice,
    /// The bank has a charge for an order that there is not.
    ChargesOthers,
    /// The bank does not give back what the orders say has gone back.
    KeepsRefunds,
    /// The audit has a cent too much in its paid orders.
    WrongSum,
    /// The audit has entries that do not add up to zero.
    Unbalanced,
    /// The audit has a unit that never comes back.
    NeverReturns,
    /// The audit has no money.
    NoMoney,
    /// One refund's part was counted twice by the funnel.
    CountsTwice,
    /// The points of one order were given twice.
    GivesPointsTwice,
    /// One notice was never written.
    ForgetsNotice,
    /// The subscribers come to the last events a moment later.
    EffectsLater,
    /// What the subscribers have done cannot be read.
    EffectsAway,
    /// There are no counts of what the subscribers have done.
    NoEffects,
}

/// How long a row of [`Lie::Late`] takes.
const LATE: Duration = Duration::from_secs(3);

impl Lie {
    /// Whether the order with this number, counted from 1, never gets a row.
    fn drops(self, number: u64) -> bool {
        match self {
            Self::Drops => number.is_multiple_of(1_000),
            Self::GateLostAndDrops | Self::AuditFindsLost | Self::Miscounts => number.is_multiple_of(10),
            Self::Paused | Self::Rebuilding => true,
            _ => false,
        }
    }

    /// How long an order takes from its promise to its row.
    fn delay(self) -> Duration {
        if self == Self::Late { LATE } else { Duration::ZERO }
    }
}

#[derive(Clone)]
pub(crate) struct App {
    pub(crate) lie: Lie,
    began: Instant,
    pub(crate) books: Arc<Mutex<Books>>,
}

#[derive(Default)]
pub(crate) struct Books {
    stock: u64,
    by_user: BTreeMap<u64, Uuid>,
    promised: u64,
    /// Order, user, when; in milliseconds since 1970, which may be in the future for a row that arrives late.
    ledger: BTreeMap<Uuid, (u64, u128)>,
    pub(crate) payments: Payments,
}

impl Books {
    /// The rows that have arrived.
    fn rows(&self) -> impl Iterator<Item = (&Uuid, &(u64, u128))> {
        let now = unix_ms();
        self.ledger.iter().filter(move |(_, (_, at))| *at <= now)
    }
}

pub(crate) fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// Starts a gateway, and returns its base address. It has sale 1 with 5,000 units; a new sale replaces it.
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
        .route("/api/v1/sales/{id}/audit/effects", get(effects))
        .route("/api/v1/orders/{id}", get(look_up))
        .route("/api/v1/orders/{id}/payment", post(payments::pay))
        .route("/api/v1/orders/{id}/cancel", post(payments::cancel))
        .route("/api/v1/orders/{id}/refund", post(payments::refund))
        .route("/v1/charges.csv", get(payments::charges))
        .with_state(app);
    serve(router).await.to_string()
}

#[derive(Deserialize)]
struct NewSale {
    stock: u64,
    ends_at: String,
    #[serde(default)]
    price_cents: u64,
    #[serde(default)]
    payment_window_ms: u64,
}

fn is_admin(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {ADMIN}"))
}

async fn create(State(app): State<App>, headers: HeaderMap, Json(new): Json<NewSale>) -> Response {
    if !is_admin(&headers) {
        return problem(401, "unauthorized", None);
    }
    assert!(humantime::parse_rfc3339(&new.ends_at).unwrap() > SystemTime::now());
    *app.books.lock().unwrap() = Books {
        stock: new.stock,
        payments: Payments::new(app.lie, new.payment_window_ms, new.price_cents),
        ..Books::default()
    };
    (StatusCode::CREATED, view(&app)).into_response()
}

async fn show(State(app): State<App>, Path(id): Path<u64>) -> Response {
    if id == 1 { view(&app).into_response() } else { problem(404, "not-found", None) }
}

/// The sale. Unless the lie is about the gate, its counts claim that every order is recorded.
fn view(app: &App) -> Json<Value> {
    let books = app.books.lock().unwrap();
    let orders = books.rows().count() as u64;
    let reserved = match app.lie {
        Lie::GateLost | Lie::GateLostAndDrops | Lie::Rebuilding | Lie::Direct => None,
        Lie::Paused | Lie::Late => Some(books.promised),
        _ => Some(orders),
    };
    let phase = if app.lie == Lie::Upcoming { "upcoming" } else { "open" };
    // The gate is there when the run looks first, and is lost once somebody has an order.
    let state = if app.lie == Lie::Rebuilding && books.promised > 0 { "rebuilding" } else { "open" };
    let (mode, epoch) = if app.lie == Lie::Direct { ("direct", 0) } else { ("queue", 1) };
    Json(json!({
        "id": 1, "name": "Load test", "product": "Load test", "currency": "USD", "per_user_limit": 1, "sold": orders,
        "created_at": "2099-01-01T00:00:00Z", "as_of": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "stock": books.stock, "orders": orders, "rejected_orders": 0, "reserved_orders": reserved,
        "remaining": reserved.map(|reserved| books.stock.saturating_sub(reserved)), "phase": phase, "mode": mode,
        "price_cents": books.payments.price_cents,
        "payment_window_ms": Some(books.payments.window_ms as u64).filter(|window| *window > 0),
        "state": state, "epoch": epoch, "starts_at": "2100-01-01T00:00:00Z", "ends_at": "2100-01-02T00:00:00Z",
    }))
}

async fn audit(State(app): State<App>) -> Response {
    let books = app.books.lock().unwrap();
    let open = books.promised.saturating_sub(books.rows().count() as u64);
    let (verdict, conserved, in_flight) = match app.lie {
        Lie::NoAudit => return problem(404, "not-found", None),
        Lie::GateLost | Lie::GateLostAndDrops | Lie::Rebuilding | Lie::Direct => {
            ("gate_missing", false, None)
        }
        Lie::Paused => ("in_flight", true, Some(open)),
        Lie::Late if open > 0 => ("in_flight", true, Some(open)),
        Lie::Miscounts => ("in_flight", true, Some(open / 2)),
        Lie::AuditFindsLost => ("violated", false, Some(open)),
        _ => ("clean", true, Some(0)),
    };
    Json(json!({
        "sale_id": 1, "stock": books.stock, "sold": books.rows().count(), "queued_batches": 0, "rejected_units": 0,
        "as_of": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "oversold": 0, "duplicates": 0, "conserved": conserved, "verdict": verdict, "findings": [],
        "money": books.payments.money(), "returning": books.payments.returning(),
        "in_flight": in_flight, "committed_orders": books.rows().count(), "rejected_orders": 0,
    }))
    .into_response()
}

pub(crate) fn user(headers: &HeaderMap) -> Option<u64> {
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
    let (id, at) = (Uuid::now_v7(), unix_ms() + app.lie.delay().as_millis());
    books.by_user.insert(user, id);
    let unsure = app.lie == Lie::Unsure && user.is_multiple_of(10);
    let dropped = app.lie.drops(books.promised) || (unsure && user.is_multiple_of(20));
    if !dropped {
        books.ledger.insert(id, (user, at));
        if books.payments.are_on() {
            books.payments.open(id, user, at);
        }
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
    let row = books.ledger.get(&id).filter(|(_, at)| *at <= unix_ms());
    match row {
        Some(&(owner, at)) if owner == user => {
            let at = UNIX_EPOCH + Duration::from_millis(at as u64);
            let at = humantime::format_rfc3339_millis(at).to_string();
            let (status, reason) = books.payments.status(id);
            let amount = Some(books.payments.price_cents).filter(|cents| *cents > 0);
            let body = json!({
                "order_id": id, "status": status, "reason": reason, "amount_cents": amount, "recorded_at": at,
            });
            Json(body).into_response()
        }
        None if !matches!(app.lie, Lie::Unsure | Lie::Nothing) => {
            Json(json!({"order_id": id, "status": "queued"})).into_response()
        }
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
    let books = app.books.lock().unwrap();
    for (id, (user, at)) in books.rows() {
        let (status, _) = books.payments.status(*id);
        text += &format!("{id},{user},1,{status},{at},{at}\n");
    }
    ([(header::CONTENT_TYPE, "text/csv")], text).into_response()
}

async fn effects(State(app): State<App>, headers: HeaderMap) -> Response {
    if !is_admin(&headers) {
        return problem(401, "unauthorized", None);
    }
    match app.lie {
        Lie::NoEffects => problem(404, "not-found", None),
        Lie::EffectsAway => problem(503, "unavailable", None),
        _ => {
            let effects = app.books.lock().unwrap().payments.effects();
            Json(json!({"sale_id": 1, "effects": effects})).into_response()
        }
    }
}
