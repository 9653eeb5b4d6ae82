//! What every request has: an id, which is in each line of the log, in each problem and in the answer's headers; and the trace
//! that it came with or that begins with it.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use seckill_core::{TraceParent, in_request};
use tracing::Instrument;
use uuid::Uuid;

/// The request's id, from those who send one, and back to all.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Characters of an id that somebody else chose, at the most.
const MAX_ID: usize = 64;

/// Answers a request under its id and in its trace.
pub(super) async fn answer(request: Request, route: &str, next: Next) -> Response {
    let id = request_id(request.headers());
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let parent: Option<TraceParent> = parent.and_then(|text| text.parse().ok());
    // At the level of errors, so that a log of errors alone has the id, too.
    let span = tracing::error_span!(
        "request",
        request_id = %id,
        otel.name = %format_args!("{} {route}", request.method()),
        otel.kind = "server",
        http.response.status_code = tracing::field::Empty,
    );
    if let Some(parent) = parent {
        seckill_trace::continue_trace(&span, parent);
    }
    let trace = seckill_trace::trace_of(&span).or(parent);
    let header = HeaderValue::from_str(&id);
    let mut response = in_request(id, trace, next.run(request)).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if let Ok(header) = header {
        response.headers_mut().insert(REQUEST_ID, header);
    }
    response
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
