//! Orders: placing one, and giving it back. What has become of it is in [`status`](super::status).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use metrics::Counter;
use seckill_api::{OrderRequest, OrderView, Placed};
use seckill_core::{
    Changed, Claim, FieldError, LedgerOrder, Mode, OrderId, OrderStatus, Phase, Sale, SaleId, SaleState,
    UserId, now,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::auth::Buyer;
use super::problem::{REBUILD_SECONDS, Refusal};
use super::status::find_now;
use super::tickets::TicketHolder;
use super::{App, Id, body};
use crate::handles::Handles;
use crate::ticket::{Answer, NotTaken, new_claim};

/// How far the gate's clock may be ahead of ours: this long before a sale starts, the gate is asked after all.
const CLOCK_SKEW: chrono::Duration = chrono::Duration::seconds(1);

/// Units wanted: 1 where the body does not say.
fn quantity_of(request: &OrderRequest, limit: u32) -> Result<u32, Refusal> {
    let Some(number) = &request.quantity else { return Ok(1) };
    let quantity = number.as_u64().and_then(|units| u32::try_from(units).ok());
    quantity.filter(|units| (1..=limit).contains(units)).ok_or_else(|| over_limit(number, limit))
}

fn over_limit(given: impl std::fmt::Display, limit: u32) -> Refusal {
    let message = format!("is {given}; allowed are 1 to {limit} units in this sale");
    Refusal::Invalid(vec![FieldError::new("quantity", message)])
}

/// How many requests for an order ended how.
pub(super) struct Outcomes {
    claims: &'static str,
    by_outcome: Handles<&'static str, Counter>,
    sold_out_from_memory: Counter,
}

impl Outcomes {
    /// Two names: the orders of a direct gateway did not go through the queue, so they are not part of the shaved peak.
    pub(super) fn of(mode: Mode) -> Self {
        let claims = match mode {
            Mode::Queue => "seckill_claims_total",
            Mode::Direct => "seckill_direct_claims_total",
        };
        let sold_out_from_memory = metrics::counter!("seckill_sold_out_from_memory_total");
        Self { claims, by_outcome: Handles::default(), sold_out_from_memory }
    }

    fn count(&self, outcome: &'static str) {
        self.by_outcome
            .get(&outcome, |outcome| metrics::counter!(self.claims, "outcome" => *outcome))
            .increment(1);
    }
}

/// `POST /api/v1/sales/{id}/orders`
pub(super) async fn place(State(app): State<Arc<App>>, Id(sale): Id<SaleId>, request: Request) -> Response {
    place_in(&app, sale, request).await
}

/// [`place`], for whoever knows the sale that the path names. Boxed: it would be copied with all that holds it.
pub(super) fn place_in(app: &Arc<App>, sale: SaleId, request: Request) -> BoxFuture<'_, Response> {
    Box::pin(placing(app, sale, request))
}

async fn placing(app: &Arc<App>, sale: SaleId, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let holder = match TicketHolder::of(&mut parts, app, sale).await {
        Ok(holder) => holder,
        Err(refusal) => return refusal.into_response(),
    };
    let request: OrderRequest = match body::or_default(&parts.headers, body).await {
        Ok(request) => request,
        Err(refusal) => return refusal.into_response(),
    };
    let (outcome, response) = match try_place(app, sale, holder, &request).await {
        Ok((placed, replayed)) => {
            let outcome = if replayed { "replayed" } else { "accepted" };
            (outcome, placed_response(&placed, replayed))
        }
        Err(refusal) => {
            if matches!(refusal, Refusal::Overloaded | Refusal::OutcomeUnknown(_)) {
                app.rooms.note_trouble();
            }
            (refusal.outcome(), refusal.into_response())
        }
    };
    app.outcomes.count(outcome);
    response
}

/// The order, and whether it had been placed before.
async fn try_place(
    app: &App,
    sale: SaleId,
    holder: TicketHolder,
    request: &OrderRequest,
) -> Result<(Placed, bool), Refusal> {
    if app.draining.is_cancelled() {
        return Err(Refusal::Unavailable("this gateway is shutting down".into()));
    }
    let user = holder.user;
    app.order_limit.check(user)?;
    let desk = app.directory.desk(sale).await?.ok_or(Refusal::NoSuchSale(sale))?;
    holder.check(&desk.sale)?;
    let quantity = quantity_of(request, desk.sale.per_user_limit)?;
    // After its end a sale still answers those who hold an order, and only the gate knows who does.
    let phase = desk.sale.phase(now() + CLOCK_SKEW);
    if phase == Phase::Upcoming {
        return Err(Refusal::NotOpen { starts_at: desk.sale.starts_at });
    }
    if desk.sale.state == SaleState::ClosedOut {
        return Box::pin(from_ledger(app, &desk.sale, user, quantity)).await;
    }
    // Where the gate may say by its own clock that the sale is over, it is asked.
    if phase == Phase::Open && desk.is_sold_out_for(user) {
        app.outcomes.sold_out_from_memory.increment(1);
        return Err(Refusal::SoldOut { remaining: 0 });
    }
    let claim = new_claim(sale, user, quantity);
    let submitted = desk.submit(claim).ok_or_else(|| not_sold_here(&desk.sale))?;
    let answer = submitted.map_err(|not_taken| match not_taken {
        NotTaken::Full => Refusal::Overloaded,
        NotTaken::ShuttingDown => Refusal::Unavailable("this gateway is shutting down".into()),
    })?;
    let order_id = claim.order_id;
    // The lane goes on without us when we stop waiting, so from here on the outcome is unknown, never failed.
    let answer = timeout(app.answer_timeout, answer).await.ok().and_then(Result::ok);
    let answer = answer.unwrap_or(Answer::Unknown { order_id });
    let (mut placed, replayed) = placed_or_refused(answer, &desk.sale, order_id, quantity)?;
    if replayed {
        let status = Box::pin(app.statuses.of_replayed(placed.order_id, user)).await;
        // An order of a direct gateway was never queued.
        placed.status = if status == OrderStatus::Queued { placed.status } else { status };
    } else if !app.direct {
        app.statuses.accepted(sale, claim).await;
    }
    Ok((placed, replayed))
}

/// The answer to a request for a sale that is closed out: the gate is gone, and the ledger knows who has an order.
async fn from_ledger(app: &App, sale: &Sale, user: UserId, quantity: u32) -> Result<(Placed, bool), Refusal> {
    app.statuses.ledger_turn().await?;
    let orders = app.backend.ledger.orders_of(user, sale.id).await?;
    let stands =
        |order: &LedgerOrder| !matches!(order.status, OrderStatus::Rejected | OrderStatus::Cancelled);
    let Some(order) = orders.into_iter().find(stands) else {
        return Err(Refusal::Closed { ends_at: sale.ends_at });
    };
    let Claim { order_id, quantity: first, .. } = order.claim;
    if first != quantity {
        return Err(Refusal::OrderDiffers { order_id, quantity: first });
    }
    Ok((Placed { order_id, sale_id: sale.id, quantity, status: order.status }, true))
}

/// Seconds until a rebuild may be over: what is left of its shortest time, and for the orders that it still has to drain.
fn rebuild_seconds(sale: &Sale) -> u64 {
    let Some(rebuild) = sale.rebuild else { return REBUILD_SECONDS };
    let passed = (now() - rebuild.since).num_seconds().max(0).unsigned_abs();
    REBUILD_SECONDS.saturating_sub(passed).clamp(1, REBUILD_SECONDS)
}

/// Why this gateway takes no orders for the sale.
fn not_sold_here(sale: &Sale) -> Refusal {
    if sale.state == SaleState::Rebuilding {
        return Refusal::Rebuilding { seconds: rebuild_seconds(sale) };
    }
    let why = match (sale.mode, sale.epoch) {
        (Mode::Queue, 0) => "the gate has not been filled for this sale yet",
        (Mode::Queue, _) => "this sale has a gate, and a gateway in direct mode does not sell past it",
        (Mode::Direct, _) => "this sale has no gate, and only a gateway in direct mode sells it",
    };
    Refusal::Unavailable(why.into())
}

fn placed_or_refused(
    answer: Answer,
    sale: &Sale,
    order_id: OrderId,
    quantity: u32,
) -> Result<(Placed, bool), Refusal> {
    let status = match sale.mode {
        Mode::Queue => OrderStatus::Queued,
        Mode::Direct => OrderStatus::Committed,
    };
    let placed = |order_id| Placed { order_id, sale_id: sale.id, quantity, status };
    match answer {
        Answer::Accepted => Ok((placed(order_id), false)),
        Answer::Replayed { order_id, quantity: first } if first == quantity => Ok((placed(order_id), true)),
        Answer::Replayed { order_id, quantity } => Err(Refusal::OrderDiffers { order_id, quantity }),
        Answer::SoldOut { remaining } => Err(Refusal::SoldOut { remaining }),
        Answer::OverLimit { limit } => Err(over_limit(quantity, limit)),
        Answer::NotOpen => Err(Refusal::NotOpen { starts_at: sale.starts_at }),
        // The gate may know of an earlier end than this gateway does.
        Answer::Closed => Err(Refusal::Closed { ends_at: sale.ends_at.min(now()) }),
        Answer::Paused => Err(Refusal::Paused),
        Answer::Overloaded => Err(Refusal::Overloaded),
        Answer::Unavailable(dependency) => Err(Refusal::away(dependency)),
        Answer::Rebuilding => Err(Refusal::Rebuilding { seconds: REBUILD_SECONDS }),
        Answer::Gone => Err(Refusal::Unavailable("the sale or the order has just gone".into())),
        Answer::Unknown { order_id } => Err(Refusal::OutcomeUnknown(order_id)),
    }
}

fn placed_response(placed: &Placed, replayed: bool) -> Response {
    let mut id = Uuid::encode_buffer();
    let id = placed.order_id.0.as_hyphenated().encode_lower(&mut id);
    let location = ["/api/v1/orders/", id].concat();
    let body = serde_json::to_vec(placed).expect("its keys are strings and its values can all be written");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = if replayed { StatusCode::OK } else { StatusCode::ACCEPTED };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::LOCATION, HeaderValue::try_from(location).expect("an id is plain text"));
    if replayed {
        const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// `POST /api/v1/orders/{id}/cancel`: gives an unpaid order back; the order as it is then.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
) -> Result<Json<OrderView>, Refusal> {
    app.order_limit.check(user)?;
    let order = find_now(&app, id, user).await?;
    let desk = app.directory.desk(order.sale_id).await?.ok_or(Refusal::NoSuchSale(order.sale_id))?;
    if desk.sale.payment_window_ms.is_none() {
        return Err(Refusal::NoPayments(order.sale_id));
    }
    if matches!(order.status, OrderStatus::Queued | OrderStatus::Rejected) {
        return Err(Refusal::OrderState { order_id: id, status: order.status });
    }
    match app.orders.cancel(id).await {
        Ok(Changed::Done) => find_now(&app, id, user).await.map(Json),
        Ok(Changed::NotPossible(status)) => Err(Refusal::OrderState { order_id: id, status }),
        Ok(Changed::NoSuchOrder) => Err(Refusal::NoSuchOrder(id)),
        Err(fault) if fault.may_have_happened() => Err(Refusal::ChangeUnknown(id)),
        Err(fault) => Err(fault.into()),
    }
}
