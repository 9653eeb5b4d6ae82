//! Sales: opening one, and looking at them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use seckill_core::{Backend, Fault, FieldError, GateLevel, NewSale, Phase, Sale, SaleId, Timestamp, now};
use serde::Serialize;

use super::auth::Admin;
use super::copies::Copies;
use super::problem::Refusal;
use super::{App, Id, body};

/// How old the view of a sale may be.
const VIEW_AGE: Duration = Duration::from_millis(100);
/// Sales that are read for their views at the same time.
const MAX_READS: usize = 4;

/// A sale, as anybody sees it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SaleView {
    #[serde(flatten)]
    sale: Sale,
    phase: Phase,
    /// When all of this was read; at most a tenth of a second ago.
    as_of: Timestamp,
    /// Units that the gate has not set aside; `null` while the gate cannot say.
    remaining: Option<u32>,
    /// Orders that the gate has set aside.
    reserved_orders: Option<u64>,
    /// Of these, orders that the queue has yet to confirm.
    pending_orders: Option<u64>,
}

/// The views of sales, which everybody sees the same copy of.
pub(super) fn views(backend: Backend) -> Copies<SaleView> {
    let read = move |id| {
        let backend = backend.clone();
        Box::pin(async move { read_sale(&backend, id).await }) as _
    };
    Copies::new(VIEW_AGE, MAX_READS, read)
}

async fn read_sale(backend: &Backend, id: SaleId) -> Result<Option<SaleView>, Fault> {
    // The ledger before the gate: so the ledger never seems to have sold what the gate has not set aside.
    let as_of = now();
    let Some(sale) = backend.ledger.sale(id).await? else { return Ok(None) };
    let level = backend.gate.level(id).await.ok().flatten();
    Ok(Some(SaleView::new(sale, as_of, level)))
}

impl SaleView {
    fn new(sale: Sale, as_of: Timestamp, level: Option<GateLevel>) -> Self {
        Self {
            phase: sale.phase(as_of),
            as_of,
            sale,
            remaining: level.map(|level| level.remaining),
            reserved_orders: level.map(|level| level.orders),
            pending_orders: level.map(|level| level.pending_orders),
        }
    }
}

/// `POST /api/v1/sales`
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _admin: Admin,
    body::Json(new): body::Json<NewSale>,
) -> Result<impl IntoResponse, Refusal> {
    new.check().map_err(Refusal::Invalid)?;
    if new.ends_at <= now() {
        let message = format!("is {}, which is over; a sale takes orders only until then", new.ends_at);
        return Err(Refusal::Invalid(vec![FieldError::new("ends_at", message)]));
    }
    let created = app.directory.create(&new).await?.sale.clone();
    let id = created.id;
    // The sale is there, whatever the back end says now: a refusal would have it made a second time.
    let view = match read_sale(&app.backend, id).await {
        Ok(Some(view)) => view,
        Ok(None) | Err(_) => SaleView::new(created, now(), None),
    };
    let location = HeaderValue::try_from(format!("/api/v1/sales/{id}")).expect("an id is plain text");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)))
}

/// The newest sales.
#[derive(Debug, Serialize)]
pub(super) struct SaleList {
    sales: Vec<Sale>,
}

/// `GET /api/v1/sales`: newest first, at most a second old.
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<SaleList> {
    let mut sales: Vec<Sale> = app.directory.desks().iter().map(|desk| desk.sale.clone()).collect();
    sales.sort_by_key(|sale| std::cmp::Reverse(sale.id));
    Json(SaleList { sales })
}

/// `GET /api/v1/sales/{id}`
pub(super) async fn show(State(app): State<Arc<App>>, Id(id): Id<SaleId>) -> Result<Json<SaleView>, Refusal> {
    app.known_sale(id).await?;
    app.views.get(id).await?.map(Json).ok_or(Refusal::NoSuchSale(id))
}
