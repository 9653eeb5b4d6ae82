//! The audits of a sale: a summary for everybody, from one copy; and what only admins may ask for, because it is read anew.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use futures_util::stream;
use seckill_api::{AuditView, EffectList};
use seckill_core::{AuditReport, Backend, Claim, Dependency, Fault, LedgerOrder, OrderId, SaleId, now};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::auth::{Admin, Audit};
use super::copies::Copies;
use super::problem::Refusal;
use super::{App, Id};

/// How old the summary may be.
const SUMMARY_AGE: Duration = Duration::from_secs(1);
/// Full audits, lists of orders and of effects that may be under way at the same time.
const MAX_FULL: usize = 2;
/// How long the client may take to read one page of the list of orders.
const PAGE_READ: Duration = Duration::from_secs(30);
/// Orders that the audit of a whole sale reads at a time.
const PAGE: u32 = 5_000;
/// The first line of that audit; times are milliseconds since 1970.
const HEAD: &str = "order_id,user_id,quantity,status,accepted_at_ms,recorded_at_ms\n";

/// What the audits of a gateway are read with.
pub(super) struct Audits {
    summaries: Copies<AuditView>,
    full: Arc<Semaphore>,
}

impl Audits {
    pub(super) fn new(backend: Backend) -> Self {
        let read = move |id| {
            let backend = backend.clone();
            Box::pin(async move { read_audit(&backend, id).await }) as _
        };
        Self { summaries: Copies::new(SUMMARY_AGE, 1, read), full: Arc::new(Semaphore::new(MAX_FULL)) }
    }

    /// The right to read a sale anew.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = Arc::clone(&self.full).try_acquire_owned();
        full.map_err(|_| Refusal::TooBusy("as many full audits are under way as this gateway makes at once"))
    }

    /// Reads in a task of its own, which holds a permit to its end: an admin who hangs up and asks again has no second read beside
    /// the first.
    async fn in_full<T: Send + 'static>(
        &self,
        read: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = self.permit()?;
        let task = tokio::spawn(async move {
            let _held_until_it_is_read = permit;
            read.await
        });
        let broken_off = |_| Fault::unavailable(Dependency::Ledger, "the audit was broken off");
        Ok(task.await.map_err(broken_off)??)
    }
}

async fn read_audit(backend: &Backend, id: SaleId) -> Result<Option<AuditView>, Fault> {
    let as_of = now();
    Ok(AuditReport::read(backend, id).await?.map(|report| AuditView { report, as_of }))
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    fresh: bool,
}

/// `GET /api/v1/sales/{id}/audit`: the newest summary; with `?fresh=true`, for admins, one that is begun now.
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    admin: Result<Admin<Audit>, Refusal>,
) -> Result<Json<AuditView>, Refusal> {
    let Query(Wanted { fresh }) = wanted
        .map_err(|error| Refusal::Malformed(format!("The query allows `fresh=true` only: {error}.")))?;
    app.known_sale(id).await?;
    let audit = if fresh {
        admin?;
        let backend = app.backend.clone();
        app.audits.in_full(async move { read_audit(&backend, id).await }).await?
    } else {
        app.audits.summaries.get(id).await?
    };
    audit.map(Json).ok_or(Refusal::NoSuchSale(id))
}

/// `GET /api/v1/sales/{id}/audit/orders`: every order of the sale that has reached its end, by id, as CSV, a line each.
/// For checking a whole sale that is at rest; however many there are, few pages of them are held at a time.
pub(super) async fn orders(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Audit>,
) -> Result<impl IntoResponse, Refusal> {
    app.known_sale(id).await?;
    let permit = app.audits.permit()?;
    let (send, receive) = mpsc::channel(1);
    let backend = app.backend.clone();
    tokio::spawn(async move {
        let _held_until_all_is_read = permit;
        send_orders(&backend, id, &send).await;
    });
    // Without its end the body is broken off, so that no client takes a part for the whole.
    let lines = stream::unfold(Some(receive), async |receive| {
        let mut receive = receive?;
        let cut = || Err(Fault::unavailable(Dependency::Ledger, "the list was read too slowly"));
        match receive.recv().await.unwrap_or_else(cut) {
            Ok(Some(lines)) => Some((Ok(lines), Some(receive))),
            Ok(None) => None,
            Err(fault) => Some((Err(fault), None)),
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(lines)))
}

/// Sends the lines, and at last `None`. Ends early where the client has gone or does not read on.
async fn send_orders(backend: &Backend, id: SaleId, to: &mpsc::Sender<Result<Option<String>, Fault>>) {
    let mut next = Some(Ok(Some(HEAD.to_owned())));
    let mut after = Some(None);
    while let Some(item) = next.take() {
        let more = matches!(item, Ok(Some(_)));
        if to.send_timeout(item, PAGE_READ).await.is_err() || !more {
            return;
        }
        next = Some(match after {
            None => Ok(None),
            Some(last) => read_page(backend, id, last).await.map(|(lines, last)| {
                after = last;
                Some(lines)
            }),
        });
    }
}

/// The lines after the order `after`, and where the next page begins, if there is one.
async fn read_page(
    backend: &Backend,
    id: SaleId,
    after: Option<OrderId>,
) -> Result<(String, Option<Option<OrderId>>), Fault> {
    let page = backend.ledger.orders_after(id, after, PAGE).await?;
    // A page that is not full is the last.
    let next = (page.len() == PAGE as usize).then(|| page.last().map(|last| last.claim.order_id));
    Ok((page.iter().map(line).collect(), next))
}

fn line(LedgerOrder { claim, status, recorded_at, .. }: &LedgerOrder) -> String {
    let Claim { order_id, user_id, quantity, accepted_at } = claim;
    let status = status.as_str();
    let (accepted, recorded) = (accepted_at.timestamp_millis(), recorded_at.timestamp_millis());
    format!("{order_id},{user_id},{quantity},{status},{accepted},{recorded}\n")
}

/// `GET /api/v1/sales/{id}/audit/effects`: empty for a sale without payments, which has no such events. Read anew for each call.
pub(super) async fn effects(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    _admin: Admin<Audit>,
) -> Result<Json<EffectList>, Refusal> {
    let sale = app.known_sale(id).await?;
    let effects = match sale.payment_window_ms {
        Some(_) => {
            let backend = app.backend.clone();
            app.audits.in_full(async move { backend.lifecycle.refund_effects(id).await }).await?.checks()
        }
        None => Vec::new(),
    };
    Ok(Json(EffectList { sale_id: id, effects }))
}
