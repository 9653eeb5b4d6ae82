//! Every refusal of the bank, and the one place where it becomes a status and a body (RFC 9457).

use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use problem_details::ProblemDetails;
use seckill_core::FieldError;
use uuid::Uuid;

use super::journal::NotWritten;
use crate::protocol::UNKNOWN_KEY;

#[derive(Debug)]
pub(super) enum Refusal {
    NoKey,
    Unreadable(JsonRejection),
    Invalid(FieldError),
    KeyReused(Uuid),
    UnknownKey(String),
    NoSuchPath(Uri),
    MethodNotAllowed,
    OnPurpose,
    NotWritten,
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::Unreadable(rejection)
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error)
    }
}

impl From<NotWritten> for Refusal {
    fn from(NotWritten: NotWritten) -> Self {
        Self::NotWritten
    }
}

impl Refusal {
    /// Status, `type`, title and detail.
    fn parts(&self) -> (StatusCode, &'static str, &'static str, String) {
        match self {
            Self::NoKey => (
                StatusCode::BAD_REQUEST,
                "/problems/no-key",
                "A key is needed",
                "Send `Idempotency-Key: <uuid>`, a new one for each charge and refund.".into(),
            ),
            Self::Unreadable(rejection) => (
                rejection.status(),
                "/problems/unreadable",
                "The body cannot be read",
                format!("{}.", rejection.body_text()),
            ),
            Self::Invalid(FieldError { field, message }) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "/problems/invalid",
                "The request is not allowed as it is",
                format!("`{field}` {message}."),
            ),
            Self::KeyReused(key) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "/problems/key-reused",
                "The key stands for something else",
                format!("The key {key} was used with another body; nothing was done. Take a new key."),
            ),
            Self::UnknownKey(key) => (
                StatusCode::NOT_FOUND,
                UNKNOWN_KEY,
                "The bank has never heard of this key",
                format!("Nothing has happened under the key {key}."),
            ),
            Self::NoSuchPath(uri) => (
                StatusCode::NOT_FOUND,
                "/problems/no-such-path",
                "There is no such path",
                format!("There is nothing at {}.", uri.path()),
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "/problems/method-not-allowed",
                "This method is not allowed here",
                "This path knows other methods.".into(),
            ),
            Self::OnPurpose => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "/problems/on-purpose",
                "The bank failed, as it was told to",
                "Nothing was done. See `GET /v1/faults`.".into(),
            ),
            Self::NotWritten => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "/problems/not-written",
                "The bank cannot write to its disk",
                "It may have been done, or not. Ask for the key once the bank is back.".into(),
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, title, detail) = self.parts();
        ProblemDetails::new()
            .with_type(Uri::from_static(kind))
            .with_title(title)
            .with_status(status)
            .with_detail(detail)
            .into_response()
    }
}
