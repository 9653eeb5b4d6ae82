//! The HTTP side: decides who gets a unit, hands each winner's order durably to the queue, and answers.
//!
//! [`intake`] is the hot path, [`recover`] finishes it for gateways that died, [`reconcile`] sends again what was lost behind
//! it, [`directory`] has the sales at hand, [`http`] the routes; [`direct`] is the path without gate and queue, for comparison. None of them knows which back end it
//! works on.

mod admission;
pub mod direct;
pub mod directory;
pub mod http;
pub mod intake;
pub mod reconcile;
pub mod recover;
mod retry;
pub mod server;
mod ticket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{Backend, Dependency, Mode, OrderService};
use seckill_token::ticket::Keys;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use directory::Directory;
use http::App;
use http::health::Health;

/// How a gateway works.
#[derive(Clone)]
pub struct Config {
    /// The path of an order. A sale is sold by gateways of the mode that opened it.
    pub mode: Mode,
    /// Signs buyers' tokens (HS256), 32 bytes or more.
    pub jwt_secret: SecretString,
    /// Opens sales.
    pub admin_token: SecretString,
    /// The intake of each sale.
    pub intake: intake::IntakeConfig,
    /// What takes the intake's place in direct mode.
    pub direct: direct::DirectConfig,
    pub recover: recover::RecoverConfig,
    /// Orders a second that one user may send, twice as many at once; 0: no limit.
    pub order_rate_limit: u32,
    /// Other requests a second that one user may send, twice as many at once; 0: no limit.
    pub read_rate_limit: u32,
    /// Connections at the same time; more wait to be accepted.
    pub max_connections: usize,
    /// How long a connection may take to send the head of its next request; idle ones end by it too.
    pub head_timeout: Duration,
    /// Event streams at the same time; more are refused.
    pub max_event_streams: usize,
    /// How long a buyer waits for an answer before it is called unknown.
    pub answer_timeout: Duration,
    /// How long a shutdown may take.
    pub grace: Duration,
    /// Sign purchase tickets; `None`: keys that are derived from the secret of the buyers' tokens.
    pub ticket_keys: Option<Arc<Keys>>,
}

impl Config {
    /// The defaults, with these secrets.
    pub fn new(jwt_secret: SecretString, admin_token: SecretString) -> Self {
        Self {
            mode: Mode::default(),
            jwt_secret,
            admin_token,
            intake: intake::IntakeConfig::default(),
            direct: direct::DirectConfig::default(),
            recover: recover::RecoverConfig::default(),
            order_rate_limit: 10,
            read_rate_limit: 20,
            max_connections: 20_000,
            head_timeout: server::HEAD_TIMEOUT,
            max_event_streams: 1_024,
            answer_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(20),
            ticket_keys: None,
        }
    }
}

/// Without its gate or its queue a gateway takes no orders. Without its ledger it does: that is what the queue is for.
const NEEDS: &[Dependency] = &[Dependency::Gate, Dependency::Queue];
/// In direct mode a gateway needs its ledger and nothing else.
const DIRECT_NEEDS: &[Dependency] = &[Dependency::Ledger];

/// Serves until `shutdown`, through every fault of the back end, with `pages` beside its own routes. Then, in this order and
/// within the grace time: new orders are refused, every order taken in is answered and settled, and the connections are
/// closed.
///
/// Boxed, so that it is compiled with this crate and not again with each one that waits for it.
pub fn run(
    listener: TcpListener,
    backend: Backend,
    orders: Arc<dyn OrderService>,
    config: Config,
    pages: Router,
    prometheus: PrometheusHandle,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(run_until(listener, backend, orders, config, pages, prometheus, shutdown))
}

async fn run_until(
    listener: TcpListener,
    backend: Backend,
    orders: Arc<dyn OrderService>,
    config: Config,
    pages: Router,
    prometheus: PrometheusHandle,
    shutdown: CancellationToken,
) {
    let lanes = TaskTracker::new();
    let direct = config.mode == Mode::Direct;
    let needs = if direct { DIRECT_NEEDS } else { NEEDS };
    let health = Health::new(backend.clone(), needs, shutdown.clone(), prometheus);
    let backend = if direct { direct::without_gate(&backend) } else { backend };
    let directory = if direct {
        let pool = direct::Pool::start(&backend.ledger, config.direct, &lanes, &shutdown);
        Directory::direct(backend.clone(), pool, lanes.clone(), shutdown.clone())
    } else {
        Directory::new(backend.clone(), config.intake, lanes.clone(), shutdown.clone())
    };
    let directory = Arc::new(directory);
    let health = health.with_sales(Arc::clone(&directory));
    let app = App::new(backend.clone(), Arc::clone(&directory), orders, &config, shutdown.clone());
    let router = http::router(Arc::clone(&app), health.router().merge(pages));
    // The server goes on after `shutdown`, to give the answers that are still owed.
    let close = CancellationToken::new();
    let limits = server::Limits { connections: config.max_connections, head: config.head_timeout };
    let server = tokio::spawn(server::serve(listener, router, limits, close.clone()));
    let recoverer = async {
        // Without a gate nothing is ever stranded or lost.
        if !direct {
            let reconciler = reconcile::run(backend.clone(), &directory);
            tokio::join!(
                recover::run(backend, &directory, config.recover),
                reconciler,
                directory.watch_gates()
            );
        }
    };
    let background =
        async { tokio::join!(directory.keep_current(), recoverer, app.tidy(), Box::pin(app.keep_rooms())) };
    // Cut short wherever they are: each of their steps may be left undone, and is found and done again.
    let _ = shutdown.run_until_cancelled(background).await;
    let deadline = Instant::now() + config.grace;
    lanes.close();
    if timeout_at(deadline, lanes.wait()).await.is_err() {
        // Their reservations are in the pending log: the recoverer of another gateway, or of the next start, has them.
        tracing::warn!("the grace time is over with orders unanswered; the recoverer will queue them");
    }
    close.cancel();
    if timeout_at(deadline, server).await.is_err() {
        tracing::warn!("the grace time is over with connections open");
    }
}
