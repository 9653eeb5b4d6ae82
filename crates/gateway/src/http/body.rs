//! Reads JSON bodies, and says of a bad one where it is bad and what is allowed.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::poll;
use hyper::body::Body as _;
use seckill_core::FieldError;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};

use super::problem::Refusal;

/// The largest body, in bytes.
const MAX_BYTES: usize = 16 * 1024;
/// How long a body may take to come. A connection whose body never comes would be held for ever.
const WITHIN: Duration = Duration::from_secs(10);

/// A JSON body; an empty one gives the default.
pub(super) struct OrDefault<T>(pub(super) T);

pub(super) struct Json<T>(pub(super) T);

/// A JSON body, and the SHA-256 of what it says: two bodies that differ in blanks or in the order of fields have the same.
pub(super) struct Hashed<T>(pub(super) T, pub(super) [u8; 32]);

/// A JSON merge patch, by its own media type or as plain JSON.
pub(super) struct MergePatch<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OrDefault<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        or_default(&parts.headers, body).await.map(Self)
    }
}

/// A JSON body, or the default of an empty one.
pub(super) async fn or_default<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refusal> {
    let bytes = read(body).await?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(headers, &bytes) }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        parse(&parts.headers, &read(body).await?).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Hashed<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        let value = parse(&parts.headers, &bytes)?;
        let plain: serde_json::Value = parse(&parts.headers, &bytes)?;
        Ok(Self(value, Sha256::digest(plain.to_string()).into()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MergePatch<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if essence(&parts.headers).eq_ignore_ascii_case("application/merge-patch+json") {
            return deserialize(&bytes).map(Self);
        }
        parse(&parts.headers, &bytes).map(Self)
    }
}

/// Reads the body of a request for others than the gateway, by the same limits of size and time as its own.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match read(body).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn read(body: Body) -> Result<axum::body::Bytes, Refusal> {
    let mut whole = pin!(to_bytes(body, MAX_BYTES));
    let come = match poll!(whole.as_mut()) {
        // Mostly it comes with the head, and needs no timer.
        Poll::Ready(whole) => Ok(whole),
        Poll::Pending => tokio::time::timeout(WITHIN, whole).await,
    };
    come.map_err(|_| Refusal::BodyTooSlow)?.map_err(|error| {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            if error.is::<http_body_util::LengthLimitError>() {
                return Refusal::TooLarge;
            }
            cause = error.source();
        }
        Refusal::Malformed(format!("The body could not be read: {error}."))
    })
}

fn parse<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Refusal> {
    if !essence(headers).eq_ignore_ascii_case("application/json") {
        return Err(Refusal::MediaType(media_type(headers).to_owned()));
    }
    deserialize(bytes)
}

fn media_type(headers: &HeaderMap) -> &str {
    let given = headers.get(header::CONTENT_TYPE);
    given.map_or("without a media type", |v| v.to_str().unwrap_or("unreadable"))
}

/// The media type without its parameters.
fn essence(headers: &HeaderMap) -> &str {
    media_type(headers).split(';').next().unwrap_or_default().trim()
}

fn deserialize<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // A derived reader takes an array for the fields in their order, which no client means and no document allows.
    if bytes.trim_ascii_start().starts_with(b"[") && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        return Err(Refusal::Invalid(vec![FieldError::new(
            "body",
            "does not fit: it is an array, and allowed is an object",
        )]));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            Refusal::Invalid(vec![FieldError::new("body", format!("does not fit: {error}"))])
        } else {
            Refusal::Malformed(format!("The body is not JSON: {error}."))
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seckill_api::OrderRequest;
    use serde_json::json;

    use super::*;

    fn is_refused_as_unreadable(bytes: &[u8]) -> bool {
        let read = deserialize::<OrderRequest>(bytes);
        matches!(read, Err(Refusal::Malformed(_) | Refusal::Invalid(_)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn whatever_bytes_come_the_reader_says_what_is_wrong(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let is_object = serde_json::from_slice::<serde_json::Map<_, _>>(&bytes).is_ok();
            prop_assert!(is_object || is_refused_as_unreadable(&bytes));
        }

        #[test]
        fn what_is_no_field_of_the_request_is_refused(name in "[a-z_]{1,12}", depth in 0_usize..40) {
            prop_assume!(name != "quantity");
            let nested = format!("{{{:?}:{}{}}}", name, "[".repeat(depth), "]".repeat(depth));
            prop_assert!(is_refused_as_unreadable(nested.as_bytes()));
            let flat = json!({ name: 1 }).to_string();
            prop_assert!(is_refused_as_unreadable(flat.as_bytes()));
        }
    }
}
