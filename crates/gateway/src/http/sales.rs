//! Sales: opening one, and looking at them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use seckill_api::{SaleList, SaleView};
use seckill_core::{
    Backend, Fault, FieldError, GateLevel, NewSale, RequestKey, Sale, SaleId, Timestamp, now,
};

use super::auth::{Admin, Sales};
use super::copies::Copies;
use super::problem::Refusal;
use super::{App, Id, body, idempotency};
use crate::directory::OnceCreated;

/// How old the view of a sale may be.
const VIEW_AGE: Duration = Duration::from_millis(100);
/// Sales that are read for their views at the same time.
const MAX_READS: usize = 4;

/// The views of sales, which everybody sees the same copy of.
pub(super) fn views(backend: Backend) -> Copies<SaleView> {
    let read = move |id| {
        let backend = backend.clone();
        Box::pin(async move { read_sale(&backend, id).await }) as _
    };
    Copies::new(VIEW_AGE, MAX_READS, read)
}

pub(super) async fn read_sale(backend: &Backend, id: SaleId) -> Result<Option<SaleView>, Fault> {
    // The ledger before the gate: so the ledger never seems to have sold what the gate has not set aside.
    let as_of = now();
    let Some(sale) = backend.ledger.sale(id).await? else { return Ok(None) };
    let level = backend.gate.level(id).await.ok().flatten();
    Ok(Some(view(sale, as_of, level)))
}

/// A sale that was read at `as_of`, and what its gate has.
pub(super) fn view(sale: Sale, as_of: Timestamp, level: Option<GateLevel>) -> SaleView {
    SaleView {
        phase: sale.phase(as_of),
        as_of,
        sale,
        remaining: level.map(|level| level.remaining),
        reserved_orders: level.map(|level| level.orders),
        pending_orders: level.map(|level| level.pending_orders),
    }
}

/// `POST /api/v1/sales`; with an `Idempotency-Key`, once for each key.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _admin: Admin<Sales>,
    headers: HeaderMap,
    body::Hashed(new, hash): body::Hashed<NewSale>,
) -> Result<impl IntoResponse, Refusal> {
    let key = idempotency::key(&headers)?.map(|key| RequestKey { key, hash });
    new.check().map_err(Refusal::Invalid)?;
    let begun = key.as_ref().map(|key| app.creating.begin(&key.key)).transpose()?;
    let creating = Arc::clone(&app);
    // In a task of its own, so that a client that hangs up leaves nothing half done.
    let created = tokio::spawn(async move {
        let _begun = begun;
        create_once(&creating, &new, key).await
    });
    let (created, replayed) = created.await.map_err(|_| Refusal::SaleUnknown { has_key: false })??;
    let id = created.id;
    // The sale is there, whatever the back end says now: a refusal would have it made a second time.
    let shown = match read_sale(&app.backend, id).await {
        Ok(Some(view)) => view,
        Ok(None) | Err(_) => view(created, now(), None),
    };
    let location = HeaderValue::try_from(format!("/api/v1/sales/{id}")).expect("an id is plain text");
    let replayed = replayed.then_some([("idempotent-replayed", HeaderValue::from_static("true"))]);
    Ok((StatusCode::CREATED, replayed, [(header::LOCATION, location)], Json(shown)))
}

/// The sale, and whether it was there before this request.
async fn create_once(app: &App, new: &NewSale, key: Option<RequestKey>) -> Result<(Sale, bool), Refusal> {
    let has_key = key.is_some();
    let unknown_or = |fault: Fault| {
        if fault.may_have_happened() {
            tracing::warn!(error = %fault, "nobody knows whether a sale was recorded");
            Refusal::SaleUnknown { has_key }
        } else {
            fault.into()
        }
    };
    // First of all: a request that comes again gets its sale also when that is over.
    if let Some(found) = of_key(app, key.as_ref()).await? {
        return Ok((found, true));
    }
    if new.ends_at <= now() {
        let message = format!("is {}, which is over; a sale takes orders only until then", new.ends_at);
        return Err(Refusal::Invalid(vec![FieldError::new("ends_at", message)]));
    }
    let Some(key) = key else {
        let desk = app.directory.create(new).await.map_err(unknown_or)?;
        return Ok((desk.sale.clone(), false));
    };
    match app.directory.create_once(new, &key).await.map_err(unknown_or)? {
        OnceCreated::Created(desk) => Ok((desk.sale.clone(), false)),
        OnceCreated::UnderWay => Err(Refusal::RequestUnderWay),
        // Another gateway was faster.
        OnceCreated::KeyTaken => match of_key(app, Some(&key)).await? {
            Some(found) => Ok((found, true)),
            None => Err(Refusal::RequestUnderWay),
        },
    }
}

async fn of_key(app: &App, key: Option<&RequestKey>) -> Result<Option<Sale>, Refusal> {
    let Some(key) = key else { return Ok(None) };
    match app.backend.ledger.sale_of_key(&key.key).await? {
        None => Ok(None),
        Some((sale, hash)) if hash == key.hash => Ok(Some(sale)),
        Some(_) => Err(Refusal::KeyReused),
    }
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
