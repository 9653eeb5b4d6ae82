//! The HTTP side: the whole table of routes, and what the handlers share.

pub(crate) mod auth;
mod body;
mod contract;
pub mod health;
mod idempotency;
mod limit;
mod money;
mod orders;
mod outbox;
pub(crate) mod problem;
mod reference;
mod repair;
mod request;
mod routes;
mod sale_changes;
mod sales;
mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request};
use axum::http::{Uri, request::Parts};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use seckill_core::{Backend, Mode, OrderService};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::directory::Directory;
use auth::Keys;
use limit::UserLimit;
use problem::Refusal;

/// What the handlers share.
pub(crate) struct App {
    backend: Backend,
    directory: Arc<Directory>,
    keys: Keys,
    order_limit: UserLimit,
    read_limit: UserLimit,
    answer_timeout: Duration,
    streams: Arc<Semaphore>,
    orders: Arc<dyn OrderService>,
    views: sales::Views,
    /// Whether it sells straight into the ledger.
    direct: bool,
    draining: CancellationToken,
    /// Sales that are being created under an idempotency key.
    creating: idempotency::UnderWay,
}

impl App {
    pub(crate) fn new(
        backend: Backend,
        directory: Arc<Directory>,
        orders: Arc<dyn OrderService>,
        config: &Config,
        draining: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            views: sales::Views::new(backend.clone()),
            backend,
            directory,
            keys: Keys::new(Arc::clone(&config.buyers), config.admins.clone()),
            order_limit: UserLimit::new(config.order_rate_limit),
            read_limit: UserLimit::new(config.read_rate_limit),
            answer_timeout: config.answer_timeout,
            orders,
            streams: Arc::new(Semaphore::new(config.max_event_streams)),
            direct: config.mode == Mode::Direct,
            draining,
            creating: idempotency::UnderWay::default(),
        })
    }

    /// Keeps what the limits remember bounded; never returns.
    pub(crate) async fn tidy(&self) {
        tokio::join!(self.order_limit.forget_the_idle(), self.read_limit.forget_the_idle());
    }
}

/// Every route of the gateway; `others` are those that know nothing of orders.
pub(crate) fn router(app: Arc<App>, others: Router) -> Router {
    let (calls, document) = routes::contract().finish();
    calls
        .with_state(app)
        .merge(reference::router(document))
        .merge(others)
        .fallback(async |uri: Uri| Refusal::NoSuchPath(uri))
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .layer(from_fn(auth::log_changes))
        .layer(from_fn(measure))
}

/// The OpenAPI document, in JSON.
pub fn openapi() -> String {
    routes::contract().finish().1.to_pretty_json().expect("the document is plain JSON")
}

/// Records how long every request took, by route, never by path: ids in labels would grow without a limit.
async fn measure(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let response = request::answer(request, route, next).await;
    let route = route.to_owned();
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") if route != "none" => {
            known
        }
        // Methods beyond these come from whoever likes to make them up.
        _ => "_OTHER",
    };
    metrics::histogram!(
        "http_server_request_duration_seconds",
        "http_request_method" => method.to_owned(),
        "http_route" => route,
        "http_response_status_code" => response.status().as_u16().to_string(),
    )
    .record(begin.elapsed());
    response
}

/// The id in a path. What is no id names nothing: 404.
struct Id<T>(T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Refusal::NoSuchPath(parts.uri.clone())),
        }
    }
}
