//! Who may change anything: an admin with the scope `operate`, or a request from this machine. Never a page of another site.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use seckill_dashboard::problem::problem;
use seckill_token::admin::{Acting, Scope};
use serde::de::DeserializeOwned;

use super::panel::Panel;

/// Who acts, in the log, where no token is needed. No admin can have this name.
const THIS_MACHINE: &str = "(this machine)";

/// Lets every read pass, and a change only from where it may come.
pub(super) async fn guard(State(panel): State<Arc<Panel>>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let acting = request.extensions().get::<Acting>().cloned().unwrap_or_default();
    match if reads { Ok(()) } else { check(&panel, request.headers(), request.method(), &acting) } {
        Ok(()) => next.run(request).await,
        Err(refusal) => *refusal,
    }
}

/// Lets every request pass but those that a page of another site makes. For what whoever sees the page may do.
pub(super) async fn own_page(State(panel): State<Arc<Panel>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = field(headers, header::HOST).unwrap_or_default();
    // The name of another site for this machine: see below.
    let foreign = is_of_another_site(headers) || (panel.loopback && !is_loopback(host));
    match demand_json(headers) {
        Err(refusal) => *refusal,
        Ok(()) if foreign => {
            problem(StatusCode::FORBIDDEN, "cross-site", "Only this gateway's own page may ask for that.")
        }
        Ok(()) => next.run(request).await,
    }
}

fn field(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A browser lets a page of another site send a form, but JSON only if this server allows it.
fn demand_json(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let kind = field(headers, header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.split(';').next() == Some("application/json")) {
        return Ok(());
    }
    let detail = "Send application/json; a form cannot change anything here.";
    Err(Box::new(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", detail)))
}

fn is_of_another_site(headers: &HeaderMap) -> bool {
    let host = field(headers, header::HOST).unwrap_or_default();
    let fetched_from = field(headers, HeaderName::from_static("sec-fetch-site"));
    let origin = field(headers, header::ORIGIN)
        .map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host));
    fetched_from.is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || origin.is_some_and(|origin| origin != host)
}

fn check(panel: &Panel, headers: &HeaderMap, method: &Method, acting: &Acting) -> Result<(), Box<Response>> {
    let refuse = |status, slug, detail: &str| Err(Box::new(problem(status, slug, detail)));
    if method != Method::DELETE {
        demand_json(headers)?;
    }
    let token = field(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if let Some(admin) = token.and_then(|token| panel.admins.find(token)) {
        acting.is(admin.name());
        // No browser adds the token to a request of another site.
        return if admin.may(Scope::Operate) {
            Ok(())
        } else {
            let detail = format!("The admin token {} lacks the scope `{}`.", admin.name(), Scope::Operate);
            refuse(StatusCode::FORBIDDEN, "missing-scope", &detail)
        };
    }
    let host = field(headers, header::HOST).unwrap_or_default();
    if is_of_another_site(headers) {
        return refuse(
            StatusCode::FORBIDDEN,
            "cross-site",
            "A page of another site cannot change anything here.",
        );
    }
    // Another site may point a name of its own at the loopback address of this machine: then `Host` is that name.
    // Through a proxy on this machine, every request comes from this machine.
    if panel.loopback && is_loopback(host) && !is_proxied(headers) {
        acting.is(&THIS_MACHINE.into());
        return Ok(());
    }
    let detail = "Changes need an admin token of the gateway: Authorization: Bearer <token>.";
    refuse(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
}

fn is_proxied(headers: &HeaderMap) -> bool {
    let marks = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
    marks.iter().any(|mark| headers.contains_key(*mark))
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A JSON body. For one that cannot be read, the answer says what is wrong, and in which line and column.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        let wrong = |error: serde_json::Error| {
            problem(StatusCode::BAD_REQUEST, "malformed", &format!("The body cannot be read: {error}."))
        };
        serde_json::from_slice(&body).map(Self).map_err(wrong)
    }
}
