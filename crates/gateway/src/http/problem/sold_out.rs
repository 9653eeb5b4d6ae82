//! The answer that most buyers of a flash sale get, written once: only the request's id is put into it.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::Refusal;

/// Stands for the request's id while the text is made.
const ID: &str = "00000000-0000-0000-0000-000000000000";

/// The body before and after the id.
static BODY: LazyLock<(String, String)> = LazyLock::new(|| {
    let body = Refusal::SoldOut { remaining: 0 }.body(Some(ID.to_owned()));
    let body = serde_json::to_string(&body).expect("a problem is plain JSON");
    let (before, after) = body.split_once(ID).expect("a problem names its request");
    (before.to_owned(), after.to_owned())
});

/// What [`Refusal::SoldOut`] with nothing left becomes for the request of this id, which is plain text as JSON has it.
pub(super) fn answer(request_id: &str) -> Response {
    let (before, after) = &*BODY;
    let mut body = String::with_capacity(before.len() + request_id.len() + after.len());
    body.push_str(before);
    body.push_str(request_id);
    body.push_str(after);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::CONFLICT;
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::response::IntoResponse;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn it_is_the_same_as_any_other_problem_is_made() {
        let id = "request-7_a.b";
        let refusal = Refusal::SoldOut { remaining: 0 };
        let usual = refusal.body(Some(id.to_owned())).into_response();
        let ready = answer(id);
        assert_eq!(ready.status(), usual.status());
        assert_eq!(ready.headers(), usual.headers());
        let [usual, ready] = [usual, ready].map(|response| to_bytes(response.into_body(), 10_000));
        let [usual, ready] = [usual.await, ready.await]
            .map(|bytes| -> Value { serde_json::from_slice(&bytes.expect("a body")).expect("JSON") });
        assert_eq!(ready, usual);
        assert_eq!(ready["request_id"], id);
    }
}
