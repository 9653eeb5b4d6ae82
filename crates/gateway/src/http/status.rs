//! What has become of orders: asked for, listed, and sent as it happens. How it is known is in [`crate::status`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use seckill_api::{OrderList, OrderView, Reason};
use seckill_core::{LedgerOrder, OrderId, OrderStatus, SaleId, UserId};

use super::auth::Buyer;
use super::problem::{REBUILD_SECONDS, Refusal};
use super::{App, Id};
use crate::status::{Known, NotKnown, Waiter, has_ended};

/// How often a stream with nothing to tell sends a comment: before proxies take it for dead, mostly after 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(45);
/// How long a stream waits, on average, before it asks again about an order whose state could not be read.
const AGAIN: Duration = Duration::from_secs(1);

/// A recorded order, as its buyer sees it.
pub(super) fn recorded(order: &LedgerOrder) -> OrderView {
    let LedgerOrder { sale_id, claim, amount_cents, status, rejected, cancelled, recorded_at, .. } = *order;
    OrderView {
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

fn known_order(known: &Known) -> OrderView {
    match known {
        Known::Recorded(order) => recorded(order),
        Known::Queued { sale_id, claim } => OrderView {
            order_id: claim.order_id,
            sale_id: *sale_id,
            quantity: claim.quantity,
            status: OrderStatus::Queued,
            amount_cents: None,
            reason: None,
            pay_by: None,
            accepted_at: claim.accepted_at,
            recorded_at: None,
        },
    }
}

/// Whether nothing more happens to it unless its buyer asks for it.
fn rests(order: &OrderView) -> bool {
    has_ended(order.status)
        || order.status == OrderStatus::Paid
        || (order.status == OrderStatus::Committed && order.pay_by.is_none())
}

impl From<NotKnown> for Refusal {
    fn from(why: NotKnown) -> Self {
        match why {
            NotKnown::Fault(fault) => fault.into(),
            NotKnown::TooMany => Self::TooManyReads,
            NotKnown::Rebuilding => Self::Rebuilding { seconds: REBUILD_SECONDS },
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

/// The user's order as it stood within the last second.
pub(super) async fn find(app: &App, id: OrderId, user: UserId) -> Result<OrderView, Refusal> {
    let known = app.statuses.find(id, user).await?.ok_or(Refusal::NoSuchOrder(id))?;
    Ok(view(app, &known).await)
}

/// The user's order as it is now, for requests that change it.
pub(super) async fn find_now(app: &App, id: OrderId, user: UserId) -> Result<OrderView, Refusal> {
    let known = app.statuses.find_now(id, user).await?.ok_or(Refusal::NoSuchOrder(id))?;
    Ok(view(app, &known).await)
}

/// Says until when an order can be paid, where its sale has payments.
async fn view(app: &App, known: &Known) -> OrderView {
    let view = known_order(known);
    let (OrderStatus::Committed, Some(recorded_at)) = (view.status, view.recorded_at) else { return view };
    let sale = app.directory.desk(view.sale_id).await.ok().flatten();
    let window = sale.and_then(|desk| desk.sale.payment_window_ms);
    let pay_by = window.and_then(|window| {
        recorded_at.checked_add_signed(chrono::Duration::milliseconds(i64::try_from(window).ok()?))
    });
    OrderView { pay_by, ..view }
}

/// `GET /api/v1/sales/{id}/orders/mine`
pub(super) async fn mine(
    State(app): State<Arc<App>>,
    Id(sale): Id<SaleId>,
    Buyer(user): Buyer,
) -> Result<Json<OrderList>, Refusal> {
    app.read_limit.check(user)?;
    app.directory.desk(sale).await?.ok_or(Refusal::NoSuchSale(sale))?;
    let orders = app.statuses.of_user(user, sale).await?;
    Ok(Json(OrderList { orders: orders.iter().map(|known| known_order(known)).collect() }))
}

/// `GET /api/v1/orders/{id}/events`: an event `status` whenever the order's status changes, up to its end.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
) -> Result<impl IntoResponse, Refusal> {
    app.read_limit.check(user)?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
    // Before the first look, so that nothing is missed after it.
    let waiter = app.statuses.wait_for(id);
    let known = app.statuses.find(id, user).await?.ok_or(Refusal::NoSuchOrder(id))?;
    let first = view(&app, &known).await;
    waiter.told(known.stage());
    let draining = app.draining.clone();
    let events =
        status_events(app, waiter, &first, user).take_until(draining.cancelled_owned()).map(move |event| {
            let _held_until_the_stream_ends = &permit;
            Ok::<_, Infallible>(event)
        });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The order as it is, and then whenever it has changed.
fn status_events(
    app: Arc<App>,
    waiter: Waiter,
    first: &OrderView,
    user: UserId,
) -> impl Stream<Item = Event> + use<> {
    let event = |order: &OrderView| Event::default().event("status").json_data(order).unwrap_or_default();
    let seen = (first.order_id, first.status, rests(first));
    let opening = event(first);
    let changes =
        stream::unfold((app, waiter, seen), move |(app, waiter, (id, status, at_rest))| async move {
            if at_rest {
                return None;
            }
            loop {
                waiter.news().await;
                let known = loop {
                    if let Ok(Some(known)) = app.statuses.find(id, user).await {
                        break known;
                    }
                    // While a back end is away the stream waits.
                    tokio::time::sleep(AGAIN.mul_f64(rand::random_range(0.5..=1.5))).await;
                };
                waiter.told(known.stage());
                if known.status() != status {
                    let order = view(&app, &known).await;
                    let seen = (id, order.status, rests(&order));
                    return Some((event(&order), (app, waiter, seen)));
                }
            }
        });
    stream::once(async { opening }).chain(changes)
}
