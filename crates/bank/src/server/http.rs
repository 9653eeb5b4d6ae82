//! The routes, and what they read and answer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use seckill_core::{BankAnswer, Charge, FieldError, GiveBack, OrderId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::books::{Books, Done, Entry, Wanted};
use super::connections::NoAnswer;
use super::effects::{Effects, Outcome};
use super::faults::{FaultSwitch, Faults, Mishap};
use super::problem::Refusal;
use crate::protocol::KEY_HEADER;

/// The largest body, in bytes.
const MAX_BYTES: usize = 16 * 1024;
/// The largest amount: 1,000 units at the largest price of a sale.
const MAX_AMOUNT_CENTS: u64 = 100_000_000_000_000;
/// The longest name of a card.
const MAX_CARD: usize = 200;

#[derive(Clone)]
struct Service {
    effects: Arc<Effects>,
    faults: Arc<FaultSwitch>,
}

pub(super) fn router(effects: Arc<Effects>, faults: Arc<FaultSwitch>) -> Router {
    let service = Service { effects, faults };
    Router::new()
        .route("/v1/charges", post(charge).get(charges))
        .route("/v1/charges/{key}", get(charge_state))
        .route("/v1/charges.csv", get(csv))
        .route("/v1/refunds", post(refund))
        .route("/v1/refunds/{key}", get(refund_state))
        .route("/v1/totals", get(totals))
        .route_layer(middleware::from_fn_with_state(service.clone(), slow))
        // What the faults are can be read and changed at once, however slow the rest is told to be.
        .route("/v1/faults", get(faults_now).put(set_faults))
        .route("/readyz", get(|| async { "ready\n" }))
        .fallback(|uri: Uri| async { Refusal::NoSuchPath(uri) })
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .with_state(service)
}

async fn slow(State(service): State<Service>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let late = service.faults.now().slow_ms;
    if late > 0 {
        tokio::time::sleep(Duration::from_millis(late)).await;
    }
    response
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChargeBody {
    order_id: OrderId,
    amount_cents: u64,
    currency: String,
    card: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    charge: Uuid,
    amount_cents: u64,
}

/// `POST /v1/charges`
async fn charge(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Result<Json<ChargeBody>, JsonRejection>,
) -> Result<Response, Refusal> {
    let key = key(&headers)?;
    let Json(ChargeBody { order_id, amount_cents, currency, card }) = body?;
    check_amount(amount_cents)?;
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(FieldError::new("currency", "is not three capital letters, such as USD").into());
    }
    if !card.starts_with("tok_") || card.len() > MAX_CARD {
        let message = format!("is not `tok_` and a name, {MAX_CARD} characters at the most");
        return Err(FieldError::new("card", message).into());
    }
    service.carry_out(key, Wanted::Charge(Charge { key, order_id, amount_cents, currency, card })).await
}

/// `POST /v1/refunds`
async fn refund(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Result<Json<RefundBody>, JsonRejection>,
) -> Result<Response, Refusal> {
    let key = key(&headers)?;
    let Json(RefundBody { charge, amount_cents }) = body?;
    check_amount(amount_cents)?;
    service.carry_out(key, Wanted::Refund(GiveBack { key, charge, amount_cents })).await
}

fn key(headers: &HeaderMap) -> Result<Uuid, Refusal> {
    let given = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok());
    given.and_then(|key| key.parse().ok()).ok_or(Refusal::NoKey)
}

fn check_amount(cents: u64) -> Result<(), FieldError> {
    let message = || format!("is {cents}; allowed are 0 to {MAX_AMOUNT_CENTS}");
    if cents <= MAX_AMOUNT_CENTS { Ok(()) } else { Err(FieldError::new("amount_cents", message())) }
}

impl Service {
    async fn carry_out(&self, key: Uuid, wanted: Wanted) -> Result<Response, Refusal> {
        let mishap = self.faults.draw();
        match mishap {
            Mishap::NoAnswerBefore => return Ok(NoAnswer.into_response()),
            Mishap::Error => return Err(Refusal::OnPurpose),
            Mishap::None | Mishap::NoAnswerAfter => {}
        }
        let outcome = self.effects.carry_out(wanted).await;
        if mishap == Mishap::NoAnswerAfter {
            return Ok(NoAnswer.into_response());
        }
        match outcome? {
            Outcome::New(entry) => Ok((StatusCode::CREATED, Json(answer(entry))).into_response()),
            Outcome::Known(entry) => Ok(Json(answer(entry)).into_response()),
            Outcome::Differs => Err(Refusal::KeyReused(key)),
        }
    }

    async fn state(&self, key: String, find: fn(&Books, Uuid) -> Option<Entry>) -> Result<Response, Refusal> {
        // What is no UUID was never a key.
        let Ok(uuid) = key.parse() else { return Err(Refusal::UnknownKey(key)) };
        let found = self.effects.read(|books| find(books, uuid)).await?;
        found.map(|entry| Json(answer(entry)).into_response()).ok_or(Refusal::UnknownKey(key))
    }
}

/// A charge or a refund as callers see it. The card stays inside.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Charge {
        key: Uuid,
        order_id: OrderId,
        amount_cents: u64,
        currency: String,
        #[serde(flatten)]
        answer: BankAnswer,
        created_at: Timestamp,
    },
    Refund(Done<GiveBack>),
}

fn answer(entry: Entry) -> Answer {
    match entry {
        Entry::Charge(Done { wanted, answer, created_at }) => {
            let Charge { key, order_id, amount_cents, currency, card: _ } = wanted;
            Answer::Charge { key, order_id, amount_cents, currency, answer, created_at }
        }
        Entry::Refund(refund) => Answer::Refund(refund),
    }
}

/// `GET /v1/charges/{key}`
async fn charge_state(State(service): State<Service>, Path(key): Path<String>) -> Result<Response, Refusal> {
    service.state(key, Books::charge).await
}

/// `GET /v1/refunds/{key}`
async fn refund_state(State(service): State<Service>, Path(key): Path<String>) -> Result<Response, Refusal> {
    service.state(key, Books::refund).await
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: Option<String>,
}

/// `GET /v1/charges?order_id=`: oldest first.
async fn charges(
    State(service): State<Service>,
    Query(OfOrder { order_id }): Query<OfOrder>,
) -> Result<Response, Refusal> {
    let order = order_id.and_then(|id| id.parse().ok());
    let order = order.ok_or_else(|| FieldError::new("order_id", "is needed in the query, a UUID"))?;
    let found = service.effects.read(|books| books.charges_of(order)).await?;
    Ok(Json(found.into_iter().map(answer).collect::<Vec<_>>()).into_response())
}

/// `GET /v1/totals`
async fn totals(State(service): State<Service>) -> Result<Response, Refusal> {
    Ok(Json(service.effects.read(Books::totals).await?).into_response())
}

/// `GET /v1/charges.csv`
async fn csv(State(service): State<Service>) -> Result<Response, Refusal> {
    let text = service.effects.read(Books::csv).await?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response())
}

/// `GET /v1/faults`
async fn faults_now(State(service): State<Service>) -> Json<Faults> {
    Json(service.faults.now())
}

/// `PUT /v1/faults`: what is not named is off.
async fn set_faults(
    State(service): State<Service>,
    body: Result<Json<Faults>, JsonRejection>,
) -> Result<Json<Faults>, Refusal> {
    let Json(faults) = body?;
    faults.check()?;
    tracing::info!(?faults, "the faults are set");
    service.faults.set(faults);
    Ok(Json(faults))
}
