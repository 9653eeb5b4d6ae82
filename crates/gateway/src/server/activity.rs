//! What a connection is doing: how many requests are under way on it, and for how long there have been none.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Version, header};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

/// The requests of one connection.
pub(super) struct Activity {
    /// How many are under way, and when that changed last.
    requests: Mutex<(usize, Instant)>,
    is_http2: AtomicBool,
    /// Whether no request should come after those that are under way.
    leaves: AtomicBool,
}

/// A request under way, until its answer has been sent or given up.
pub(super) struct UnderWay(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let requests = Mutex::new((0, Instant::now()));
        Arc::new(Self { requests, is_http2: AtomicBool::new(false), leaves: AtomicBool::new(false) })
    }

    pub(super) fn begin(self: &Arc<Self>, version: Version) -> UnderWay {
        self.is_http2.store(version == Version::HTTP_2, Relaxed);
        self.change(|requests| requests + 1);
        UnderWay(Arc::clone(self))
    }

    /// For how long no request has been under way; zero while one is.
    pub(super) fn idle(&self) -> Duration {
        match *self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            (0, since) => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Whether the client speaks HTTP/2, as far as it has said anything.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Relaxed)
    }

    /// No request should come after those that are under way.
    pub(super) fn leave(&self) {
        self.leaves.store(true, Relaxed);
    }

    fn change(&self, count: impl FnOnce(usize) -> usize) {
        let mut activity = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *activity = (count(activity.0), Instant::now());
    }
}

impl UnderWay {
    /// Whether its connection should end with it.
    fn is_last(&self) -> bool {
        self.0.leaves.load(Relaxed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.change(|requests| requests.saturating_sub(1));
    }
}

pin_project! {
    /// A request that is being handled, and then its answer. An `async` block that is given the future would hold it twice, and a
    /// connection has room for one for as long as it lasts.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        version: Version,
        under_way: Option<UnderWay>,
    }
}

impl<F> Answering<F> {
    pub(super) fn new(answer: F, version: Version, under_way: UnderWay) -> Self {
        Self { answer, version, under_way: Some(under_way) }
    }
}

impl<F: Future<Output = Response>> Future for Answering<F> {
    type Output = Result<Response<Holding<UnderWay>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.answer.poll(context));
        let under_way = this.under_way.take().expect("it is not polled after its end");
        if *this.version <= Version::HTTP_11 && under_way.is_last() {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(answer.map(|body| Holding::new(body, under_way))))
    }
}

/// A body that holds something until it has been sent or given up.
pub(crate) struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T> Holding<T> {
    pub(crate) fn new(body: Body, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
