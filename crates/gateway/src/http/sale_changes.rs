//! What operators change about a sale: its name and end, its pause, its end now, its stock. All of them may be sent again: they
//! name what is to be reached.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use seckill_api::{SalePatch, SaleView};
use seckill_core::{Change, NotChanged, Sale, SaleChange, SaleChanged, SaleId, now};

use super::auth::{Admin, Sales};
use super::problem::Refusal;
use super::sales::{self, read_sale};
use super::{App, Id, body};

/// `PATCH /api/v1/sales/{id}`: 200 and the sale; 202 where the gate has not applied the change yet.
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Sales>,
    body::MergePatch(patch): body::MergePatch<SalePatch>,
) -> Result<Response, Refusal> {
    let SalePatch { name, product, stock, ends_at } = patch;
    change(app, id, SaleChange { name, product, stock, ends_at, ..SaleChange::default() }).await
}

/// `POST /api/v1/sales/{id}/pause`: buyers are asked to come back; who holds an order still gets it.
pub(super) async fn pause(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Sales>,
) -> Result<Response, Refusal> {
    change(app, id, SaleChange { paused: Some(true), ..SaleChange::default() }).await
}

/// `POST /api/v1/sales/{id}/resume`
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Sales>,
) -> Result<Response, Refusal> {
    change(app, id, SaleChange { paused: Some(false), ..SaleChange::default() }).await
}

/// `POST /api/v1/sales/{id}/close`: ends the sale now.
pub(super) async fn close(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Sales>,
) -> Result<Response, Refusal> {
    change(app, id, SaleChange { close: true, ..SaleChange::default() }).await
}

async fn change(app: Arc<App>, id: SaleId, change: SaleChange) -> Result<Response, Refusal> {
    let changing = Arc::clone(&app);
    // In a task of its own: an operator who hangs up leaves no change half made.
    let made = tokio::spawn(async move { changing.directory.change(id, &change).await }).await;
    let made = made.map_err(|_| Refusal::SaleChangeUnknown(id))?;
    let Change { changed, unapplied } = made.map_err(|fault| unknown_or(fault, id))?;
    let sale = match changed {
        SaleChanged::Done(sale) => *sale,
        SaleChanged::NoSuchSale => return Err(Refusal::NoSuchSale(id)),
        SaleChanged::Refused(NotChanged::ClosedOut) => return Err(Refusal::SaleClosedOut(id)),
        SaleChanged::Refused(NotChanged::Invalid(fields)) => return Err(Refusal::Invalid(fields)),
    };
    let status = if unapplied.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(view(&app, sale).await)).into_response())
}

/// The sale was changed, whatever the back end says now.
async fn view(app: &App, sale: Sale) -> SaleView {
    match read_sale(&app.backend, sale.id).await {
        Ok(Some(view)) => view,
        Ok(None) | Err(_) => sales::view(sale, now(), None),
    }
}

fn unknown_or(fault: seckill_core::Fault, id: SaleId) -> Refusal {
    if fault.may_have_happened() {
        tracing::warn!(sale_id = %id, error = %fault, "nobody knows whether a sale was changed");
        Refusal::SaleChangeUnknown(id)
    } else {
        fault.into()
    }
}
