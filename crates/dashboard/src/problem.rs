//! Refusals of the dashboard and its controls, as RFC 9457 problems like the gateway's.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use seckill_core::FieldError;
use serde_json::json;

/// A problem; `slug` is the last part of its type.
pub fn problem(status: StatusCode, slug: &str, detail: &str) -> Response {
    of(status, slug, detail, &[])
}

/// 422: every wrong field is named.
pub fn invalid(errors: &[FieldError]) -> Response {
    let each: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
    of(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &format!("{}.", each.join("; ")), errors)
}

fn of(status: StatusCode, slug: &str, detail: &str, errors: &[FieldError]) -> Response {
    let mut body = json!({
        "type": format!("/problems/{slug}"),
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Some(id) = seckill_core::current_request() {
        body["request_id"] = json!(*id);
    }
    if !errors.is_empty() {
        body["errors"] = json!(errors);
    }
    let mut response = (status, Json(body)).into_response();
    let kind = header::HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::UNAUTHORIZED {
        let challenge = header::HeaderValue::from_static("Bearer realm=\"seckill\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
