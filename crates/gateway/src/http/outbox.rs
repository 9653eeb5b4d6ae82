//! Events for operators: what waits in the outbox, and what waits for a subscriber. All of it needs the admin token.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use seckill_api::{OutboxEventView, OutboxList, Redriven, SubscriberView};
use seckill_core::{FieldError, OutboxDepth, OutboxEvent, OutboxState, SubscriberName};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::auth::{Admin, Operate};
use super::problem::Refusal;
use super::{App, Id};

/// Events that one list shows.
const LIMIT: u32 = 1_000;

/// Which events to list.
#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default = "parked")]
    state: OutboxState,
}

fn parked() -> OutboxState {
    OutboxState::Parked
}

/// One event of the outbox, as an operator sees it.
fn view(event: OutboxEvent) -> OutboxEventView {
    let OutboxEvent { message, subject, state, attempts, next_attempt_at, created_at, error } = event;
    // Whoever wrote the row wrote JSON; a row that somebody edited is shown as `null`.
    let event = RawValue::from_string(message.text).or_else(|_| RawValue::from_string("null".to_owned()));
    OutboxEventView {
        id: message.id,
        kind: message.kind,
        subject,
        state,
        attempts,
        next_attempt_at,
        created_at,
        error,
        event: event.expect("null is JSON"),
    }
}

/// `GET /api/v1/outbox?state=parked|pending|sent`: oldest first, 1,000 at the most.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _admin: Admin<Operate>,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<OutboxList>, Refusal> {
    let allowed = "is none of these: pending, sent, parked";
    let Query(which) = which.map_err(|_| Refusal::Invalid(vec![FieldError::new("state", allowed)]))?;
    let OutboxDepth { pending, parked, oldest_pending, .. } = app.backend.outbox.depth().await?;
    let events = app.backend.outbox.list(which.state, LIMIT).await?;
    let events = events.into_iter().map(view).collect();
    Ok(Json(OutboxList { pending, parked, oldest_pending, events }))
}

/// `GET /api/v1/outbox/{id}`
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(id): Id<Uuid>,
    _admin: Admin<Operate>,
) -> Result<impl axum::response::IntoResponse, Refusal> {
    let event = app.backend.outbox.find(id).await?;
    event.map(view).map(Json).ok_or(Refusal::NoSuchEvent(id))
}

/// `POST /api/v1/outbox/{id}/redrive`: published once more, at once.
pub(super) async fn redrive(
    State(app): State<Arc<App>>,
    Id(id): Id<Uuid>,
    _admin: Admin<Operate>,
) -> Result<StatusCode, Refusal> {
    match app.backend.outbox.redrive(id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NoSuchEvent(id)),
    }
}

/// `DELETE /api/v1/outbox/{id}`: removes a parked event for good.
pub(super) async fn discard(
    State(app): State<Arc<App>>,
    Id(id): Id<Uuid>,
    _admin: Admin<Operate>,
) -> Result<StatusCode, Refusal> {
    match app.backend.outbox.discard(id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NoSuchEvent(id)),
    }
}

fn name(text: &str) -> Result<SubscriberName, Refusal> {
    text.parse().map_err(|_| Refusal::NoSuchSubscriber(text.to_owned()))
}

/// `GET /api/v1/subscribers/{name}`
pub(super) async fn subscriber(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    _admin: Admin<Operate>,
) -> Result<Json<SubscriberView>, Refusal> {
    let waiting = app.backend.events.waiting(&name(&text)?).await?;
    let waiting = waiting.ok_or_else(|| Refusal::NoSuchSubscriber(text.clone()))?;
    Ok(Json(SubscriberView { name: text, waiting_events: waiting.events, parked_events: waiting.parked }))
}

/// `DELETE /api/v1/subscribers/{name}`: ends its subscription and throws away what waits for it.
pub(super) async fn unsubscribe(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    _admin: Admin<Operate>,
) -> Result<StatusCode, Refusal> {
    match app.backend.events.unsubscribe(&name(&text)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NoSuchSubscriber(text)),
    }
}

/// `POST /api/v1/subscribers/{name}/redrive`: gives it all events again that it had parked.
pub(super) async fn redrive_parked(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    _admin: Admin<Operate>,
) -> Result<Json<Redriven>, Refusal> {
    Ok(Json(Redriven { events: app.backend.events.redrive_parked(&name(&text)?).await? }))
}
