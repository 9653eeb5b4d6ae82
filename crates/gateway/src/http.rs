//! The HTTP side: the whole table of routes, and what the handlers share.

mod audits;
pub(crate) mod auth;
mod body;
mod contract;
mod copies;
mod front;
pub mod guard;
pub mod health;
mod idempotency;
mod limit;
mod money;
mod orders;
mod outbox;
mod patience;
pub(crate) mod problem;
mod reference;
mod repair;
mod request;
mod routes;
mod sale_changes;
mod sales;
mod status;
mod tickets;
mod waiting_room;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use seckill_core::{Backend, Mode, OrderService, Sale, SaleId};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::admission::proof::Proofs;
use crate::admission::rooms::Rooms;
use crate::admission::ticket::Tickets;
use crate::directory::Directory;
use crate::status::Statuses;
use auth::Keys;
use contract::Calls;
use front::Front;
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
    outcomes: orders::Outcomes,
    views: copies::Copies<seckill_api::SaleView>,
    audits: audits::Audits,
    /// Whether it sells straight into the ledger.
    direct: bool,
    draining: CancellationToken,
    /// Sales that are being created under an idempotency key.
    creating: idempotency::UnderWay,
    guard: guard::Guard,
    statuses: Statuses,
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
            views: sales::views(backend.clone()),
            audits: audits::Audits::new(backend.clone()),
            statuses: Statuses::new(backend.clone(), Arc::clone(&directory), config.status),
            backend,
            directory,
            keys: Keys::new(Arc::clone(&config.buyers), config.admins.clone()),
            order_limit: UserLimit::new("orders", config.order_rate_limit),
            read_limit: UserLimit::new("reads", config.read_rate_limit),
            answer_timeout: config.answer_timeout,
            orders,
            streams: Arc::new(Semaphore::new(config.max_event_streams)),
            outcomes: orders::Outcomes::of(config.mode),
            direct: config.mode == Mode::Direct,
            draining,
            creating: idempotency::UnderWay::default(),
            guard: guard::Guard::new(&config.crowd),
            tickets: Tickets::new(config),
            rooms,
            proofs: Proofs::new(config),
        })
    }

    /// The sale as it was when the directory was last refreshed. Asks the ledger only for a sale that is not known.
    pub(crate) async fn known_sale(&self, id: SaleId) -> Result<Sale, Refusal> {
        let desk = self.directory.desk(id).await?;
        desk.map(|desk| desk.sale.clone()).ok_or(Refusal::NoSuchSale(id))
    }

    /// Keeps the waiting rooms current; never returns.
    pub(crate) async fn keep_rooms(&self) {
        self.rooms.keep_current().await;
    }

    /// Keeps what the limits remember bounded; never returns.
    pub(crate) async fn tidy(&self) {
        let limits = (self.order_limit.forget_the_idle(), self.read_limit.forget_the_idle());
        tokio::join!(limits.0, limits.1, self.guard.tidy());
    }

    /// Hears what becomes of orders; never returns.
    pub(crate) async fn keep_statuses_current(&self) {
        self.statuses.keep_current().await;
    }
}

/// Answers what everybody may reach: every route of the gateway, and `others`, which know nothing of orders.
pub(crate) fn front(app: &Arc<App>, others: Router) -> Front {
    let Calls { buyers, admins, document } = routes::contract().finish();
    Front::new(app, buyers.merge(admins), others.merge(reference::router(&document)))
}

/// The same without the routes of admins.
pub(crate) fn buyers_front(app: &Arc<App>, others: Router) -> Front {
    let Calls { buyers, document, .. } = routes::contract().finish();
    Front::new(app, buyers, others.merge(reference::router(&document)))
}

/// The OpenAPI document, in JSON.
pub fn openapi() -> String {
    routes::contract().finish().document.to_pretty_json().expect("the document is plain JSON")
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
