//! The waiting room of a sale: coming in, and how it goes on.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{StreamExt, stream};
use seckill_api::PlaceView;
use seckill_core::waiting::Standing;
use seckill_core::{Dependency, Phase, SaleId, Timestamp, UserId, now};
use tokio::time::Instant;

use super::auth::Buyer;
use super::problem::{NotAdmitted, Refusal};
use super::{App, Id};
use crate::admission::rooms::{Latest, is_open, opens_at};
use crate::admission::status;
use crate::directory::Desk;

/// The longest time for which an event stream is silent about a room that moves.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest `Retry-After` of somebody who is not admitted, in seconds.
const MAX_RETRY_SECONDS: u64 = 30;

/// The desk of a sale that has a room.
async fn desk_with_room(app: &App, id: SaleId) -> Result<Arc<Desk>, Refusal> {
    let desk = app.directory.desk(id).await?.ok_or(Refusal::NoSuchSale(id))?;
    if desk.sale.admission.waiting_room.is_none() {
        return Err(NotAdmitted::NoRoom(id).into());
    }
    Ok(desk)
}

/// The room as it was read last.
async fn latest(app: &App, desk: &Desk) -> Result<Latest, Refusal> {
    if let Some(from) = opens_at(&desk.sale).filter(|from| now() < *from) {
        return Err(NotAdmitted::RoomOpensLater { from }.into());
    }
    if !is_open(&desk.sale, now()) {
        return Err(Refusal::Closed { ends_at: desk.sale.ends_at });
    }
    app.rooms.latest(desk).await?.ok_or_else(|| Refusal::away(Dependency::WaitingRooms))
}

/// `GET /api/v1/sales/{id}/waiting-room`: the same for everybody, at most a second old.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
) -> Result<impl IntoResponse, Refusal> {
    let desk = desk_with_room(&app, id).await?;
    let document = match latest(&app, &desk).await {
        Ok(_) => app.rooms.published(&desk).await?.borrow().document.clone(),
        Err(Refusal::Admission(NotAdmitted::RoomOpensLater { .. })) => status::upcoming_document(&desk.sale),
        Err(refusal) => return Err(refusal),
    };
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=1")], document))
}

/// `POST /api/v1/sales/{id}/waiting-room`: comes in, once; a buyer whose turn has passed comes in again, behind everyone.
pub(super) async fn enter(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    Buyer(user): Buyer,
) -> Result<impl IntoResponse, Refusal> {
    app.order_limit.check(user)?;
    let desk = desk_with_room(&app, id).await?;
    let room = latest(&app, &desk).await?;
    if desk.sale.phase(now()) == Phase::Closed {
        return Err(Refusal::Closed { ends_at: desk.sale.ends_at });
    }
    let full = || Refusal::from(NotAdmitted::RoomFull);
    let mut number = app.rooms.arrive(&desk, user, None).await?.ok_or_else(full)?;
    if let Standing::Expired { .. } = room.standing(number) {
        number = app.rooms.arrive(&desk, user, Some(number)).await?.ok_or_else(full)?;
    }
    Ok(private(Json(status::me(&desk.sale, &room, number))))
}

/// `GET /api/v1/sales/{id}/waiting-room/me`
pub(super) async fn mine(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    Buyer(user): Buyer,
) -> Result<impl IntoResponse, Refusal> {
    app.read_limit.check(user)?;
    let desk = desk_with_room(&app, id).await?;
    let room = latest(&app, &desk).await?;
    let number = number(&app, id, user, &room).await?;
    Ok(private(Json(status::me(&desk.sale, &room, number))))
}

fn private(body: Json<PlaceView>) -> impl IntoResponse {
    ([(CACHE_CONTROL, "private, no-store")], body)
}

async fn number(app: &App, id: SaleId, user: UserId, room: &Latest) -> Result<u64, Refusal> {
    let number = app.rooms.number(id, user, room).await?;
    number.ok_or_else(|| NotAdmitted::NotArrived(id).into())
}

/// Until when the buyer may fetch a ticket.
///
/// # Errors
/// The buyer has not been admitted, or not in time.
pub(super) async fn admitted_until(app: &App, desk: &Desk, user: UserId) -> Result<Timestamp, Refusal> {
    let room = latest(app, desk).await?;
    let number = number(app, desk.sale.id, user, &room).await?;
    let until_ms = match room.standing(number) {
        Standing::Admitted { until_ms, .. } => until_ms,
        Standing::Expired { .. } => return Err(NotAdmitted::TurnPassed.into()),
        Standing::BeforeTheDraw | Standing::Waiting { .. } => {
            let seconds = status::me(&desk.sale, &room, number).cloudflare.refresh_interval_seconds;
            return Err(NotAdmitted::StillWaiting { seconds: seconds.min(MAX_RETRY_SECONDS) }.into());
        }
    };
    let until = i64::try_from(until_ms).ok().and_then(Timestamp::from_timestamp_millis);
    until.ok_or_else(|| Refusal::away(Dependency::WaitingRooms))
}

/// `GET /api/v1/sales/{id}/waiting-room/events`: an event `place` whenever the buyer's place changes, and every 5 s at the least.
/// Woken by what is published for everybody, so a stream by itself asks no store.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Id(id): Id<SaleId>,
    Buyer(user): Buyer,
) -> Result<impl IntoResponse, Refusal> {
    app.read_limit.check(user)?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
    let desk = desk_with_room(&app, id).await?;
    let room = latest(&app, &desk).await?;
    let number = number(&app, id, user, &room).await?;
    let mut published = app.rooms.published(&desk).await?;
    let first = status::me(&desk.sale, &room, number);
    published.mark_unchanged();
    let draining = app.draining.clone();
    let changes = stream::unfold(
        (published, desk, first.clone(), Instant::now()),
        move |(mut published, desk, mut last, mut shown)| async move {
            loop {
                // An error says that the room is gone: the stream ends.
                published.changed().await.ok()?;
                let latest = published.borrow_and_update().latest.clone();
                let me = status::me(&desk.sale, &latest, number);
                if status::is_news(&me, &last) || (me != last && shown.elapsed() >= SILENCE) {
                    (last, shown) = (me, Instant::now());
                    return Some((last.clone(), (published, desk, last, shown)));
                }
            }
        },
    );
    let places = stream::once(async { first }).chain(changes);
    let events = places.take_until(draining.cancelled_owned()).map(move |me| {
        let _held_until_the_stream_ends = &permit;
        Ok::<_, Infallible>(Event::default().event("place").json_data(&me).unwrap_or_default())
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
