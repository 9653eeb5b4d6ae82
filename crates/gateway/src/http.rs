//! The HTTP side: the whole table of routes, and what the handlers share.

pub(crate) mod auth;
mod body;
pub mod health;
mod limit;
mod money;
mod orders;
mod outbox;
pub(crate) mod problem;
mod repair;
mod sales;
mod tickets;
mod waiting_room;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Path, Request};
use axum::http::{Uri, request::Parts};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{delete, get, post};
use seckill_core::{Backend, Mode, OrderService};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::admission::proof::Proofs;
use crate::admission::rooms::Rooms;
use crate::admission::ticket::Tickets;
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
    tickets: Tickets,
    rooms: Rooms,
    proofs: Proofs,
}

impl App {
    pub(crate) fn new(
        backend: Backend,
        directory: Arc<Directory>,
        orders: Arc<dyn OrderService>,
        config: &Config,
        draining: CancellationToken,
    ) -> Arc<Self> {
        let rooms = Rooms::new(backend.clone(), Arc::clone(&directory));
        Arc::new(Self {
            views: sales::Views::new(backend.clone()),
            backend,
            directory,
            keys: Keys::new(&config.jwt_secret, config.admin_token.clone()),
            order_limit: UserLimit::new(config.order_rate_limit),
            read_limit: UserLimit::new(config.read_rate_limit),
            answer_timeout: config.answer_timeout,
            orders,
            streams: Arc::new(Semaphore::new(config.max_event_streams)),
            direct: config.mode == Mode::Direct,
            draining,
            tickets: Tickets::new(config),
            rooms,
            proofs: Proofs::new(config),
        })
    }

    /// Keeps the waiting rooms current; never returns.
    pub(crate) async fn keep_rooms(&self) {
        self.rooms.keep_current().await;
    }

    /// Keeps what the limits remember bounded; never returns.
    pub(crate) async fn tidy(&self) {
        tokio::join!(self.order_limit.forget_the_idle(), self.read_limit.forget_the_idle());
    }
}

/// Every route of the gateway; `others` are those that know nothing of orders.
pub(crate) fn router(app: Arc<App>, others: Router) -> Router {
    Router::new()
        .route("/api/v1/sales", post(sales::create).get(sales::list))
        .route("/api/v1/sales/{id}", get(sales::show))
        .route("/api/v1/sales/{id}/audit", get(sales::audit))
        .route("/api/v1/sales/{id}/audit/orders", get(sales::audit_orders))
        .route("/api/v1/sales/{id}/audit/effects", get(sales::audit_effects))
        .route("/api/v1/sales/{id}/rebuild", post(repair::rebuild))
        .route("/api/v1/sales/{id}/reconcile", post(repair::reconcile))
        .route("/api/v1/parked", get(repair::parked))
        .route("/api/v1/parked/{id}", delete(repair::discard))
        .route("/api/v1/parked/{id}/redrive", post(repair::redrive))
        .route("/api/v1/sales/{id}/orders", post(orders::place))
        .route("/api/v1/sales/{id}/orders/mine", get(orders::mine))
        .route("/api/v1/orders/{id}", get(orders::show))
        .route("/api/v1/orders/{id}/events", get(orders::events))
        .route("/api/v1/orders/{id}/cancel", post(orders::cancel))
        .route("/api/v1/orders/{id}/payment", post(money::pay))
        .route("/api/v1/orders/{id}/refund", post(money::request_refund))
        .route("/api/v1/orders/{id}/timeline", get(money::timeline))
        .route("/api/v1/refunds", get(money::refunds))
        .route("/api/v1/refunds/{id}/approve", post(money::approve))
        .route("/api/v1/refunds/{id}/deny", post(money::deny))
        .route("/api/v1/users/{id}/balance", post(money::add_balance))
        .route("/api/v1/coupons", post(money::add_coupon))
        .route("/api/v1/outbox", get(outbox::list))
        .route("/api/v1/outbox/{id}", get(outbox::show).delete(outbox::discard))
        .route("/api/v1/outbox/{id}/redrive", post(outbox::redrive))
        .route("/api/v1/subscribers/{name}", get(outbox::subscriber).delete(outbox::unsubscribe))
        .route("/api/v1/subscribers/{name}/redrive", post(outbox::redrive_parked))
        .route("/api/v1/sales/{id}/ticket", post(tickets::fetch))
        .route("/api/v1/sales/{id}/challenge", get(tickets::challenge))
        .route("/api/v1/sales/{id}/waiting-room", get(waiting_room::show).post(waiting_room::enter))
        .route("/api/v1/sales/{id}/waiting-room/me", get(waiting_room::mine))
        .route("/api/v1/sales/{id}/waiting-room/events", get(waiting_room::events))
        .route("/problems", get(problem::list))
        .route("/problems/{slug}", get(problem::show))
        .with_state(app)
        .merge(others)
        .fallback(async |uri: Uri| Refusal::NoSuchPath(uri))
        .method_not_allowed_fallback(async || Refusal::MethodNotAllowed)
        .layer(from_fn(measure))
}

/// Records how long every request took, by route, never by path: ids in labels would grow without a limit.
async fn measure(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
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
