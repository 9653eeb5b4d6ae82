//! Sales: opening one, looking at them, and the audit.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use futures_util::{StreamExt, stream};
use moka::future::Cache;
use seckill_core::effects::EffectCheck;
use seckill_core::{
    AuditReport, Backend, Claim, Fault, FieldError, GateLevel, LedgerOrder, NewSale, Phase, RequestKey, Sale,
    SaleId, Timestamp, now,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Admin, Audit, Sales};
use super::problem::Refusal;
use super::{App, Id, body, idempotency};
use crate::directory::OnceCreated;

/// Sales whose views are kept at hand.
const MAX_VIEWS: u64 = 1_000;

/// Orders that the audit of a whole sale reads at a time.
const AUDIT_PAGE: u32 = 5_000;
/// The first line of that audit; times are milliseconds since 1970.
const AUDIT_HEAD: &str = "order_id,user_id,quantity,status,accepted_at_ms,recorded_at_ms\n";

/// A sale, as anybody sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct SaleView {
    #[serde(flatten)]
    sale: Sale,
    phase: Phase,
    /// When all of this was read; at most a tenth of a second ago.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// Units that the gate has not set aside; `null` while the gate cannot say.
    remaining: Option<u32>,
    /// Orders that the gate has set aside.
    reserved_orders: Option<u64>,
    /// Of these, orders that the queue has yet to confirm.
    pending_orders: Option<u64>,
}

/// What anybody may ask for is read from the back ends once per interval, however many ask: a page that every buyer
/// reloads must not become the load that the queue takes off the database.
pub(super) struct Views {
    backend: Backend,
    sales: Cache<SaleId, Option<SaleView>>,
    audits: Cache<SaleId, Option<AuditReport>>,
}

impl Views {
    pub(super) fn new(backend: Backend) -> Self {
        let sales = Cache::builder().max_capacity(MAX_VIEWS).time_to_live(Duration::from_millis(100)).build();
        let audits = Cache::builder().max_capacity(MAX_VIEWS).time_to_live(Duration::from_secs(1)).build();
        Self { backend, sales, audits }
    }

    async fn sale(&self, id: SaleId) -> Result<Option<SaleView>, Arc<Fault>> {
        self.sales.try_get_with(id, read_sale(&self.backend, id)).await
    }

    async fn audit(&self, id: SaleId) -> Result<Option<AuditReport>, Arc<Fault>> {
        self.audits.try_get_with(id, AuditReport::read(&self.backend, id)).await
    }
}

pub(super) async fn read_sale(backend: &Backend, id: SaleId) -> Result<Option<SaleView>, Fault> {
    // The ledger before the gate: so the ledger never seems to have sold what the gate has not set aside.
    let as_of = now();
    let Some(sale) = backend.ledger.sale(id).await? else { return Ok(None) };
    let level = backend.gate.level(id).await.ok().flatten();
    Ok(Some(SaleView::new(sale, as_of, level)))
}

impl SaleView {
    pub(super) fn new(sale: Sale, as_of: Timestamp, level: Option<GateLevel>) -> Self {
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

impl From<Arc<Fault>> for Refusal {
    fn from(fault: Arc<Fault>) -> Self {
        (*fault).clone().into()
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
    let view = match read_sale(&app.backend, id).await {
        Ok(Some(view)) => view,
        Ok(None) | Err(_) => SaleView::new(created, now(), None),
    };
    let location = HeaderValue::try_from(format!("/api/v1/sales/{id}")).expect("an id is plain text");
    let replayed = replayed.then_some([("idempotent-replayed", HeaderValue::from_static("true"))]);
    Ok((StatusCode::CREATED, replayed, [(header::LOCATION, location)], Json(view)))
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

/// The newest sales.
#[derive(Debug, Serialize, ToSchema)]
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
    app.views.sale(id).await?.map(Json).ok_or(Refusal::NoSuchSale(id))
}

/// `GET /api/v1/sales/{id}/audit/orders`: every order of the sale that has reached its end, by id, as CSV, a line each.
/// For checking a whole sale that is at rest; however many there are, one page of them is held at a time.
pub(super) async fn audit_orders(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Audit>,
) -> Result<impl IntoResponse, Refusal> {
    app.backend.ledger.sale(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    let head = stream::once(async { Ok(AUDIT_HEAD.to_owned()) });
    let pages = stream::try_unfold(Some(None), move |after| {
        let app = Arc::clone(&app);
        async move {
            let Some(after) = after else { return Ok::<_, Fault>(None) };
            let page = app.backend.ledger.orders_after(id, after, AUDIT_PAGE).await?;
            // A page that is not full is the last.
            let next =
                (page.len() == AUDIT_PAGE as usize).then(|| page.last().map(|last| last.claim.order_id));
            Ok(Some((page.iter().map(audit_line).collect::<String>(), next)))
        }
    });
    // A fault in the middle breaks the body off, so that no client takes a part for the whole.
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(head.chain(pages))))
}

fn audit_line(LedgerOrder { claim, status, recorded_at, .. }: &LedgerOrder) -> String {
    let Claim { order_id, user_id, quantity, accepted_at } = claim;
    let status = status.as_str();
    let (accepted, recorded) = (accepted_at.timestamp_millis(), recorded_at.timestamp_millis());
    format!("{order_id},{user_id},{quantity},{status},{accepted},{recorded}\n")
}

/// What the refund events of a sale have caused at the subscribers that are part of seckill.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EffectList {
    sale_id: SaleId,
    effects: Vec<EffectCheck>,
}

/// `GET /api/v1/sales/{id}/audit/effects`: empty for a sale without payments, which has no such events. Read anew for each call.
pub(super) async fn audit_effects(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Audit>,
) -> Result<Json<EffectList>, Refusal> {
    let sale = app.backend.ledger.sale(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    let effects = match sale.payment_window_ms {
        Some(_) => app.backend.lifecycle.refund_effects(id).await?.checks(),
        None => Vec::new(),
    };
    Ok(Json(EffectList { sale_id: id, effects }))
}

/// `GET /api/v1/sales/{id}/audit`
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
) -> Result<Json<AuditReport>, Refusal> {
    app.views.audit(id).await?.map(Json).ok_or(Refusal::NoSuchSale(id))
}
