//! Repairs that an operator asks for: rebuilding a gate, reconciling a sale, and the parked messages. All of them may be asked
//! for again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use seckill_api::{ParkedList, Reconciled};
use seckill_core::{GateCondition, Mode, Sale, SaleId, SaleState};

use super::auth::{Admin, Operate};
use super::problem::Refusal;
use super::{App, Id};
use crate::reconcile;

/// Parked messages that one list shows.
const PARKED_LIMIT: usize = 1_000;

/// `POST /api/v1/sales/{id}/rebuild`: has a worker fill the sale's gate again; 202 and the sale, whose `rebuild` shows how far it
/// is.
pub(super) async fn rebuild(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Operate>,
) -> Result<impl IntoResponse, Refusal> {
    let sale = gated(&app, id).await?;
    if sale.state == SaleState::Open {
        // Above every epoch that the gate knows, so that it lets itself be filled.
        let newest = match app.backend.gate.condition(id, sale.epoch).await? {
            GateCondition::OtherRun { epoch } => epoch.max(sale.epoch),
            GateCondition::OtherEpoch { epoch, fenced } => epoch.max(fenced).max(sale.epoch),
            GateCondition::Sound | GateCondition::Missing => sale.epoch,
        };
        app.backend.ledger.begin_rebuild(id, sale.epoch, newest + 1, 0).await?;
    }
    let sale = app.backend.ledger.sale(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    app.directory.put(sale.clone());
    Ok((StatusCode::ACCEPTED, Json(sale)))
}

/// `POST /api/v1/sales/{id}/reconcile`: compares all orders that the gate holds with the ledger, and sends again what is missing.
pub(super) async fn reconcile(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Operate>,
) -> Result<Json<Reconciled>, Refusal> {
    let sale = gated(&app, id).await?;
    // A gate that has lost the sale holds nobody's order: to find nothing missing there would be no answer.
    let missing = app.backend.gate.condition(id, sale.epoch).await? == GateCondition::Missing;
    if missing || sale.state == SaleState::Rebuilding {
        return Err(Refusal::Rebuilding { seconds: super::problem::REBUILD_SECONDS });
    }
    Ok(Json(reconcile::reconcile(&app.backend, &sale, None).await?))
}

async fn gated(app: &App, id: SaleId) -> Result<Sale, Refusal> {
    let sale = app.backend.ledger.sale(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    if sale.mode == Mode::Direct || sale.epoch == 0 || sale.state == SaleState::ClosedOut {
        return Err(Refusal::NoGate(id));
    }
    Ok(sale)
}

/// `GET /api/v1/parked`: oldest first, 1,000 at the most.
pub(super) async fn parked(
    State(app): State<Arc<App>>,
    _admin: Admin<Operate>,
) -> Result<Json<ParkedList>, Refusal> {
    Ok(Json(ParkedList { messages: app.backend.queue.parked(PARKED_LIMIT).await? }))
}

/// `POST /api/v1/parked/{id}/redrive`: back into the queue.
pub(super) async fn redrive(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _admin: Admin<Operate>,
) -> Result<StatusCode, Refusal> {
    match app.backend.queue.redrive(&id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NoSuchMessage(id)),
    }
}

/// `DELETE /api/v1/parked/{id}`: removed for good.
pub(super) async fn discard(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    _admin: Admin<Operate>,
) -> Result<StatusCode, Refusal> {
    match app.backend.queue.discard(&id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NoSuchMessage(id)),
    }
}
