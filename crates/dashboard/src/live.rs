//! `GET /api/v1/live`: the feed as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use seckill_core::ProcessId;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::feed::{Event, Feed};
use crate::problem::problem;

/// How soon a page connects again when its stream has ended.
const RETRY: Duration = Duration::from_secs(1);
/// Streams that are served at the same time.
const MAX_STREAMS: usize = 256;

/// What every stream needs.
pub(crate) struct Live {
    feed: Arc<Feed>,
    streams: Arc<Semaphore>,
    shutdown: CancellationToken,
    /// The first part of an event id. It is new at each start of the gateway.
    instance: String,
    /// Whether the page has controls.
    controls: bool,
}

impl Live {
    pub(crate) fn new(
        feed: Arc<Feed>,
        process: ProcessId,
        controls: bool,
        shutdown: CancellationToken,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self { feed, streams, shutdown, instance: process.to_string(), controls }
    }
}

/// First five minutes of history, or after `Last-Event-ID` the rows that were missed; then four frames a second until the
/// shutdown.
pub(crate) async fn live(State(live): State<Arc<Live>>, headers: HeaderMap) -> Response {
    let Ok(permit) = Arc::clone(&live.streams).try_acquire_owned() else {
        let detail = "More pages are open than this gateway feeds; close one, or try again.";
        return problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail);
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = last.and_then(|id| id.rsplit_once('-')).filter(|(instance, _)| *instance == live.instance);
    let from = from.and_then(|(_, row)| row.parse().ok());
    let (history, receiver) = live.feed.join(from, live.controls);
    let instance = live.instance.clone();
    let events = events(history, receiver, live.shutdown.clone()).map(move |event| {
        let _held_until_the_stream_ends = &permit;
        let id = format!("{instance}-{}", event.next_row);
        let sent = sse::Event::default().event(event.name).id(id).data(&*event.data).retry(RETRY);
        Ok::<_, Infallible>(sent)
    });
    // Asks proxies to pass each event on at once.
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
                // The page is too slow: its stream ends, it connects again and gets the rows that it missed.
                Err(RecvError::Lagged(_) | RecvError::Closed) => None,
            },
            () = shutdown.cancelled() => Some((bye, None)),
        }
    });
    stream::once(async { history }).chain(rest)
}
