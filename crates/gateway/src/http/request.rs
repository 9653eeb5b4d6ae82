//! What every request meets first and last: an id, which is in each line of the log, in each problem and in the answer's headers;
//! the trace that it came with or that begins with it; how long it took; and, where an admin changes something, a line in the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{Histogram, Label};
use seckill_core::{TraceParent, in_request};
use seckill_token::admin::Acting;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::handles::Handles;
use crate::peer::Connected;

/// The request's id, from those who send one, and back to all.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Characters of an id that somebody else chose, at the most.
const MAX_ID: usize = 64;
/// The name of the route of what no route is for, in spans.
const NO_ROUTE: &str = "none";

/// The route that answered, in the extensions of an answer of which the path does not say it.
#[derive(Clone)]
struct Route(&'static str);

/// How long requests took, with the labels of OpenTelemetry's semantic conventions for HTTP servers.
#[derive(Default)]
pub(super) struct Durations(Handles<Labels, Histogram>);

/// Scheme, method, status and route; as many as there are of these together, which is few.
type Labels = (&'static str, &'static str, StatusCode, &'static str);

impl Durations {
    /// Answers a request under its id and in its trace. `route`: the one that answers it, if it is known. `changes`: an admin may change
    /// something by it.
    pub(super) async fn observe<F: Future<Output = Response>>(
        &self,
        route: Option<&'static str>,
        changes: bool,
        mut request: Request,
        answer: impl FnOnce(Request) -> F,
    ) -> Response {
        let begin = Instant::now();
        let method = request.method().clone();
        let id = request_id(request.headers());
        let scheme = request.extensions().get().map_or("http", |connected: &Connected| connected.scheme);
        let change = if changes { Change::of(&mut request) } else { None };
        let (span, trace) = begin_span(&request, &id, route.unwrap_or(NO_ROUTE));

        let header = HeaderValue::from_str(&id);
        let named = |response: &Response| route.or_else(|| Some(response.extensions().get::<Route>()?.0));
        let work = async move {
            let response = answer(request).await;
            if let Some(change) = change {
                change.log(named(&response), &response);
            }
            response
        };
        let mut response = in_request(id, trace, work).instrument(span.clone()).await;

        let found = named(&response);
        if let (None, Some(found)) = (route, found) {
            seckill_trace::rename(&span, || format!("{method} {found}"));
        }
        let route = found.unwrap_or(NO_ROUTE);
        let status = response.status();
        span.record("http.response.status_code", status.as_u16());
        if let Ok(header) = header {
            response.headers_mut().insert(REQUEST_ID, header);
        }
        self.record(scheme, route, &method, status, begin.elapsed().as_secs_f64());
        response
    }

    /// By route, never by path: ids in labels would grow without a limit.
    fn record(
        &self,
        scheme: &'static str,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        seconds: f64,
    ) {
        let method = match method.as_str() {
            _ if route == NO_ROUTE => "_OTHER",
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            // Methods beyond these come from whoever likes to make them up.
            _ => "_OTHER",
        };
        let handle = self.0.get(&(scheme, method, status, route), histogram);
        handle.record(seconds);
    }
}

fn histogram((scheme, method, status, route): &Labels) -> Histogram {
    let code = status.as_u16().to_string();
    let mut labels = vec![Label::new("http_request_method", *method), Label::new("url_scheme", *scheme)];
    // What no route is for has no such label, and only what failed has the kind of its error.
    if *route != NO_ROUTE {
        labels.push(Label::new("http_route", *route));
    }
    if status.is_server_error() {
        labels.push(Label::new("error_type", code.clone()));
    }
    labels.push(Label::new("http_response_status_code", code));
    metrics::histogram!("http_server_request_duration_seconds", labels)
}

/// Puts the name of its route into the answer of a router whose routes are known to nobody else.
pub(super) async fn name_route(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(Route(intern(matched.as_str())));
    }
    response
}

/// The same name for as long as the process lives. There are as many as routes.
fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name = String::leak(name.to_owned());
    names.insert(name);
    name
}

/// The request's span, and the trace that goes on from it. Where spans are sent nowhere, the trace goes on from where it came.
fn begin_span(request: &Request, id: &str, route: &str) -> (Span, Option<TraceParent>) {
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let parent: Option<TraceParent> = parent.and_then(|text| text.parse().ok());
    let span = tracing::info_span!(
        "request",
        request_id = id,
        otel.name = %format_args!("{} {route}", request.method()),
        otel.kind = "server",
        http.response.status_code = tracing::field::Empty,
    );
    if span.is_disabled() {
        return (span, parent);
    }
    if let Some(parent) = parent {
        seckill_trace::continue_trace(&span, parent);
    }
    let trace = seckill_trace::trace_of(&span).or(parent);
    (span, trace)
}

/// What may be a change by an admin.
struct Change {
    acting: Acting,
    method: Method,
    uri: axum::http::Uri,
}

impl Change {
    /// `None`: a read.
    fn of(request: &mut Request) -> Option<Self> {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let acting = Acting::default();
        request.extensions_mut().insert(acting.clone());
        Some(Self { acting, method: request.method().clone(), uri: request.uri().clone() })
    }

    /// Logs what an admin changed or tried to change, once: who, what, and how it ended. Never a token.
    fn log(self, route: Option<&str>, response: &Response) {
        let Some(admin) = self.acting.name() else { return };
        let (method, path, status) = (self.method, self.uri.path(), response.status().as_u16());
        tracing::info!(target: "seckill::admin", admin, %method, route, path, status, "an admin's change");
    }
}

/// The id that the client or a proxy chose, where it is plain, or a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let plain = |id: &&str| {
        (1..=MAX_ID).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    match given {
        Some(id) => id.into(),
        None => Uuid::now_v7().as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &'static str) -> Arc<str> {
        let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(given))]);
        request_id(&headers)
    }

    #[test]
    fn a_plain_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(&*id_for("order-7_a.b"), "order-7_a.b");
        for given in ["", "two words", "new\tline", "x".repeat(65).leak()] {
            assert!(id_for(given).parse::<Uuid>().is_ok(), "{given:?}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
