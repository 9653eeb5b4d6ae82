//! Orders: placing one, and what has become of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use seckill_core::{
    CancelReason, Changed, Claim, FieldError, Holding, LedgerOrder, Mode, OrderId, OrderStatus, Phase,
    RejectReason, Sale, SaleId, SaleState, Timestamp, UserId, now,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::auth::Buyer;
use super::body::OrDefault;
use super::problem::{REBUILD_SECONDS, Refusal};
use super::tickets::TicketHolder;
use super::{App, Id};
use crate::ticket::{Answer, NotTaken, new_claim};

/// How far the gate's clock may be ahead of ours: this long before a sale starts, the gate is asked after all.
const CLOCK_SKEW: chrono::Duration = chrono::Duration::seconds(1);
/// How often an event stream looks for news.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

/// The body of an order. The quantity is any JSON number, so that the refusal of -1 or 1.5 says what is allowed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRequest {
    quantity: Option<serde_json::Number>,
}

impl OrderRequest {
    /// Units wanted: 1 where the body does not say.
    fn quantity(&self, limit: u32) -> Result<u32, Refusal> {
        let Some(number) = &self.quantity else { return Ok(1) };
        let quantity = number.as_u64().and_then(|units| u32::try_from(units).ok());
        quantity.filter(|units| (1..=limit).contains(units)).ok_or_else(|| over_limit(number, limit))
    }
}

fn over_limit(given: impl std::fmt::Display, limit: u32) -> Refusal {
    let message = format!("is {given}; allowed are 1 to {limit} units in this sale");
    Refusal::Invalid(vec![FieldError::new("quantity", message)])
}

/// An accepted or replayed order, as its buyer sees it.
#[derive(Debug, Serialize)]
struct Placed {
    order_id: OrderId,
    sale_id: SaleId,
    quantity: u32,
    status: OrderStatus,
}

/// `POST /api/v1/sales/{id}/orders`
pub(super) async fn place(
    State(app): State<Arc<App>>,
    Id(sale): Id<SaleId>,
    holder: TicketHolder,
    OrDefault(request): OrDefault<OrderRequest>,
) -> Response {
    let (outcome, response) = match try_place(&app, sale, holder, &request).await {
        Ok((placed, replayed)) => {
            let outcome = if replayed { "replayed" } else { "accepted" };
            (outcome, placed_response(placed, replayed))
        }
        Err(refusal) => {
            if matches!(refusal, Refusal::Overloaded | Refusal::OutcomeUnknown(_)) {
                app.rooms.note_trouble();
            }
            (refusal.outcome(), refusal.into_response())
        }
    };
    // Two counters: the orders of a direct gateway did not go through the queue, so they are not part of the shaved peak.
    if app.direct {
        metrics::counter!("seckill_direct_claims_total", "outcome" => outcome).increment(1);
    } else {
        metrics::counter!("seckill_claims_total", "outcome" => outcome).increment(1);
    }
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
    let quantity = request.quantity(desk.sale.per_user_limit)?;
    // After its end a sale still answers those who hold an order, and only the gate knows who does.
    if desk.sale.phase(now() + CLOCK_SKEW) == Phase::Upcoming {
        return Err(Refusal::NotOpen { starts_at: desk.sale.starts_at });
    }
    if desk.sale.state == SaleState::ClosedOut {
        return from_ledger(app, &desk.sale, user, quantity).await;
    }
    let claim = new_claim(user, quantity);
    let submitted = desk.submit(claim).ok_or_else(|| not_sold_here(&desk.sale))?;
    let answer = submitted.map_err(|not_taken| match not_taken {
        NotTaken::Full => Refusal::Overloaded,
        NotTaken::ShuttingDown => Refusal::Unavailable("this gateway is shutting down".into()),
    })?;
    let order_id = claim.order_id;
    // The lane goes on without us when we stop waiting, so from here on the outcome is unknown, never failed.
    let answer = timeout(app.answer_timeout, answer).await.ok().and_then(Result::ok);
    let answer = answer.unwrap_or(Answer::Unknown { order_id });
    placed_or_refused(answer, &desk.sale, order_id, quantity)
}

/// The answer to a request for a sale that is closed out: the gate is gone, and the ledger knows who has an order.
async fn from_ledger(app: &App, sale: &Sale, user: UserId, quantity: u32) -> Result<(Placed, bool), Refusal> {
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
        Answer::Closed => Err(Refusal::Closed { ends_at: sale.ends_at }),
        Answer::Overloaded => Err(Refusal::Overloaded),
        Answer::Unavailable(dependency) => Err(Refusal::away(dependency)),
        Answer::Rebuilding => Err(Refusal::Rebuilding { seconds: REBUILD_SECONDS }),
        Answer::Gone => Err(Refusal::Unavailable("the sale or the order has just gone".into())),
        Answer::Unknown { order_id } => Err(Refusal::OutcomeUnknown(order_id)),
    }
}

fn placed_response(placed: Placed, replayed: bool) -> Response {
    let location =
        HeaderValue::try_from(format!("/api/v1/orders/{}", placed.order_id)).expect("an id is plain text");
    if replayed {
        let header = (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
        (StatusCode::OK, [header, (header::LOCATION, location)], Json(placed)).into_response()
    } else {
        (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(placed)).into_response()
    }
}

/// An order, as its buyer sees it.
#[derive(Debug, Serialize)]
pub(super) struct OrderView {
    order_id: OrderId,
    sale_id: SaleId,
    quantity: u32,
    status: OrderStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_cents: Option<u64>,
    /// Why it was rejected or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// The last moment for paying it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_by: Option<Timestamp>,
    accepted_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reason {
    Rejected(RejectReason),
    Cancelled(CancelReason),
}

impl From<LedgerOrder> for OrderView {
    fn from(order: LedgerOrder) -> Self {
        let LedgerOrder { sale_id, claim, amount_cents, status, rejected, cancelled, recorded_at } = order;
        Self {
            order_id: claim.order_id,
            sale_id,
            quantity: claim.quantity,
            status,
            amount_cents: rejected.is_none().then_some(amount_cents),
            reason: rejected.map(Reason::Rejected).or(cancelled.map(Reason::Cancelled)),
            pay_by: None,
            accepted_at: claim.accepted_at,
            recorded_at: Some(recorded_at),
        }
    }
}

impl OrderView {
    pub(super) fn sale_id(&self) -> SaleId {
        self.sale_id
    }

    pub(super) fn status(&self) -> OrderStatus {
        self.status
    }

    pub(super) fn amount_cents(&self) -> Option<u64> {
        self.amount_cents
    }

    pub(super) fn accepted_at(&self) -> Timestamp {
        self.accepted_at
    }

    pub(super) fn recorded_at(&self) -> Option<Timestamp> {
        self.recorded_at
    }

    /// Whether its buyer may order again.
    fn has_ended(&self) -> bool {
        matches!(self.status, OrderStatus::Rejected | OrderStatus::Cancelled | OrderStatus::Refunded)
    }

    /// Whether nothing more happens to it unless its buyer asks for it.
    fn rests(&self) -> bool {
        self.has_ended()
            || self.status == OrderStatus::Paid
            || (self.status == OrderStatus::Committed && self.pay_by.is_none())
    }
}

impl From<Holding> for OrderView {
    fn from(Holding { sale_id, order_id, quantity, accepted_at }: Holding) -> Self {
        let status = OrderStatus::Queued;
        Self {
            order_id,
            sale_id,
            quantity,
            status,
            amount_cents: None,
            reason: None,
            pay_by: None,
            accepted_at,
            recorded_at: None,
        }
    }
}

/// `GET /api/v1/orders/{id}`
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
) -> Result<Json<OrderView>, Refusal> {
    app.read_limit.check(user)?;
    find(&app, id, user).await.map(Json)
}

/// Reads the gate before the ledger. The other way round an order that reaches the ledger between the two reads, and leaves
/// the gate, would seem to be in neither.
pub(super) async fn find(app: &App, id: OrderId, user: UserId) -> Result<OrderView, Refusal> {
    let held = holding(app, id, user).await;
    if let Some(order) = app.backend.ledger.order(id).await? {
        // Another user's order is as good as none.
        if order.claim.user_id != user {
            return Err(Refusal::NoSuchOrder(id));
        }
        return Ok(with_deadline(app, order.into()).await);
    }
    match held? {
        Some(holding) => Ok(holding.into()),
        // A gate that has lost a sale does not know who holds an order there.
        None if !app.directory.gates_are_sound().await? => {
            Err(Refusal::Rebuilding { seconds: REBUILD_SECONDS })
        }
        None => Err(Refusal::NoSuchOrder(id)),
    }
}

/// Says until when an order can be paid, where its sale has payments.
async fn with_deadline(app: &App, order: OrderView) -> OrderView {
    let (OrderStatus::Committed, Some(recorded_at)) = (order.status, order.recorded_at) else { return order };
    let sale = app.directory.desk(order.sale_id).await.ok().flatten();
    let window = sale.and_then(|desk| desk.sale.payment_window_ms);
    let pay_by = window.and_then(|window| {
        recorded_at.checked_add_signed(chrono::Duration::milliseconds(i64::try_from(window).ok()?))
    });
    OrderView { pay_by, ..order }
}

/// `POST /api/v1/orders/{id}/cancel`: gives an unpaid order back; the order as it is then.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
) -> Result<Json<OrderView>, Refusal> {
    app.order_limit.check(user)?;
    let order = find(&app, id, user).await?;
    let desk = app.directory.desk(order.sale_id).await?.ok_or(Refusal::NoSuchSale(order.sale_id))?;
    if desk.sale.payment_window_ms.is_none() {
        return Err(Refusal::NoPayments(order.sale_id));
    }
    if matches!(order.status, OrderStatus::Queued | OrderStatus::Rejected) {
        return Err(Refusal::OrderState { order_id: id, status: order.status });
    }
    match app.orders.cancel(id).await {
        Ok(Changed::Done) => find(&app, id, user).await.map(Json),
        Ok(Changed::NotPossible(status)) => Err(Refusal::OrderState { order_id: id, status }),
        Ok(Changed::NoSuchOrder) => Err(Refusal::NoSuchOrder(id)),
        Err(fault) if fault.may_have_happened() => Err(Refusal::ChangeUnknown(id)),
        Err(fault) => Err(fault.into()),
    }
}

/// The user's order at the gate, in whichever known sale it is.
async fn holding(app: &App, id: OrderId, user: UserId) -> Result<Option<Holding>, Refusal> {
    let sales: Vec<_> = app.directory.desks().iter().filter(|d| d.has_gate()).map(|d| d.sale.id).collect();
    let held = app.backend.gate.holdings(user, &sales).await?;
    Ok(held.into_iter().find(|holding| holding.order_id == id))
}

/// A user's orders in one sale.
#[derive(Debug, Serialize)]
pub(super) struct Mine {
    orders: Vec<OrderView>,
}

/// `GET /api/v1/sales/{id}/orders/mine`
pub(super) async fn mine(
    State(app): State<Arc<App>>,
    Id(sale): Id<SaleId>,
    Buyer(user): Buyer,
) -> Result<Json<Mine>, Refusal> {
    app.read_limit.check(user)?;
    app.directory.desk(sale).await?.ok_or(Refusal::NoSuchSale(sale))?;
    let held = app.backend.gate.holdings(user, &[sale]).await?;
    let mut orders: Vec<OrderView> =
        app.backend.ledger.orders_of(user, sale).await?.into_iter().map(OrderView::from).collect();
    let queued =
        held.into_iter().find(|holding| orders.iter().all(|order| order.order_id != holding.order_id));
    orders.extend(queued.map(OrderView::from));
    // An order that has ended is not the last word: its buyer may have ordered again since.
    let none = orders.iter().all(OrderView::has_ended);
    if none && !app.directory.gates_are_sound().await? {
        return Err(Refusal::Rebuilding { seconds: REBUILD_SECONDS });
    }
    Ok(Json(Mine { orders }))
}

/// `GET /api/v1/orders/{id}/events`: an event `status` whenever the order's status changes, up to its end.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
) -> Result<impl IntoResponse, Refusal> {
    app.read_limit.check(user)?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
    let first = find(&app, id, user).await?;
    let draining = app.draining.clone();
    let events = status_events(app, &first, user).take_until(draining.cancelled_owned()).map(move |event| {
        let _held_until_the_stream_ends = &permit;
        Ok::<_, Infallible>(event)
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn status_events(app: Arc<App>, first: &OrderView, user: UserId) -> impl Stream<Item = Event> + use<> {
    let event = |order: &OrderView| Event::default().event("status").json_data(order).unwrap_or_default();
    let seen = (first.order_id, first.status, first.rests());
    let opening = event(first);
    let changes = stream::unfold((app, seen), move |(app, (id, status, rests))| async move {
        if rests {
            return None;
        }
        loop {
            tokio::time::sleep(EVENT_INTERVAL).await;
            // While a back end is away the stream waits.
            let Ok(order) = find(&app, id, user).await else { continue };
            if order.status != status {
                return Some((event(&order), (app, (id, order.status, order.rests()))));
            }
        }
    });
    stream::once(async { opening }).chain(changes)
}
