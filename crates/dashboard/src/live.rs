//! `GET /api/v1/live`: the feed as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::control::App;
use crate::feed::Event;
use crate::problem::problem;

/// How soon a page comes back when its stream has ended.
const RETRY: Duration = Duration::from_secs(1);

/// Five minutes of history first, or with `Last-Event-ID` what was missed; then four frames a second until shutdown.
pub(crate) async fn live(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let Ok(permit) = Arc::clone(&app.streams).try_acquire_owned() else {
        let detail = "More pages are open than this gateway feeds; close one, or try again.";
        return problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail);
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = last.and_then(|id| id.rsplit_once('-')).filter(|(instance, _)| *instance == app.instance);
    let from = from.and_then(|(_, row)| row.parse().ok());
    let (history, receiver) = app.feed.join(from, app.controls);
    let instance = app.instance.clone();
    let events = events(history, receiver, app.shutdown.clone()).map(move |event| {
        let _held_until_the_stream_ends = &permit;
        let id = format!("{instance}-{}", event.next_row);
        let sent = sse::Event::default().event(event.name).id(id).data(&*event.data).retry(RETRY);
        Ok::<_, Infallible>(sent)
    });
    // Proxies must hand on each event as it comes.
    let unbuffered = [(header::HeaderName::from_static("x-accel-buffering"), "no")];
    (unbuffered, Sse::new(events)).into_response()
}

fn events(
    history: Event,
    receiver: broadcast::Receiver<Event>,
    shutdown: CancellationToken,
) -> impl Stream<Item = Event> {
    let bye = Event { name: "bye", next_row: history.next_row, data: "{}".into() };
    let rest = stream::unfold(Some((receiver, shutdown, bye)), |open| async move {
        let (mut receiver, shutdown, bye) = open?;
        tokio::select! {
            event = receiver.recv() => match event {
                Ok(event) => Some((event, Some((receiver, shutdown, bye)))),
                // Too slow: the page comes back and is told what it missed.
                Err(RecvError::Lagged(_) | RecvError::Closed) => None,
            },
            () = shutdown.cancelled() => Some((bye, None)),
        }
    });
    stream::once(async { history }).chain(rest)
}
