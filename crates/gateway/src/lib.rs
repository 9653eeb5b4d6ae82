//! The HTTP side: decides who gets a unit, hands each winner's order durably to the queue, and answers.
//!
//! [`intake`] is the hot path, [`recover`] finishes it for gateways that died, [`reconcile`] sends again what was lost behind
//! it, [`directory`] has the sales at hand, `sold_out` answers for those that have nothing left, [`status`] knows what has become of orders, [`buyers`] has the keys of their tokens, [`http`] the routes; [`direct`] is the path without gate and queue, for comparison. None of them knows which back end it
//! works on.

mod admission;
pub mod buyers;
mod counters;
pub mod direct;
pub mod directory;
mod handles;
pub mod http;
pub mod intake;
mod outage;
pub mod peer;
pub mod reconcile;
pub mod recover;
mod retry;
pub mod server;
mod shares;
mod sold_out;
pub mod status;
mod ticket;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{Backend, Dependency, Mode, OrderService, Readiness};
use seckill_token::admin::AdminTokens;
use seckill_token::ticket::Keys;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use buyers::BuyerKeys;
use directory::Directory;
use http::App;
pub use http::guard::CrowdConfig;
use http::health::Health;

/// How a gateway works.
#[derive(Clone)]
pub struct Config {
    /// The path of an order. A sale is sold by gateways of the mode that opened it.
    pub mode: Mode,
    /// Which buyers' tokens are believed.
    pub buyers: Arc<BuyerKeys>,
    /// Which admins there are.
    pub admins: AdminTokens,
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
    /// What a crowd may cost.
    pub crowd: CrowdConfig,
    /// Connections at the same time from one address, unless it is a trusted proxy's; 0: no limit.
    pub max_connections_per_peer: usize,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<tls::Tls>>,
    /// How long orders go on after `shutdown`, while `/readyz` says already that the gateway drains: the time that a balancer
    /// takes to notice. Not part of `grace`.
    pub drain_delay: Duration,
    /// Cuts the drain delay short. [`run`] cancels it once the delay is over.
    pub hurry: CancellationToken,
    /// What it may cost that the crowd asks for its orders.
    pub status: status::StatusConfig,
    /// What challenges and, without `ticket_keys`, purchase tickets are signed with: the same at all gateways.
    pub admission_secret: SecretString,
    /// Sign purchase tickets; `None`: keys that are derived from `admission_secret`.
    pub ticket_keys: Option<Arc<Keys>>,
    /// Has what `/readyz` answers, while somebody listens.
    pub readiness: watch::Sender<Option<Readiness>>,
}

impl Config {
    /// The defaults, with one secret for buyers' tokens (HS256, 32 bytes or more), and one admin token, which may do everything.
    #[expect(clippy::needless_pass_by_value, reason = "whoever gives the secrets away need not keep them")]
    pub fn new(jwt_secret: SecretString, admin_token: SecretString) -> Self {
        let admins = AdminTokens::one(admin_token.expose_secret());
        Self {
            admission_secret: jwt_secret.clone(),
            ..Self::with_keys(BuyerKeys::hs256(&jwt_secret), admins)
        }
    }

    /// The defaults, with these keys and admins. Tickets and challenges of this gateway are good at no other one, unless they get a
    /// secret that is shared.
    pub fn with_keys(buyers: Arc<BuyerKeys>, admins: AdminTokens) -> Self {
        Self {
            mode: Mode::default(),
            buyers,
            admins,
            intake: intake::IntakeConfig::default(),
            direct: direct::DirectConfig::default(),
            recover: recover::RecoverConfig::default(),
            order_rate_limit: 10,
            read_rate_limit: 20,
            max_connections: 30_000,
            head_timeout: server::HEAD_TIMEOUT,
            max_event_streams: 25_000,
            answer_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(20),
            crowd: CrowdConfig::default(),
            max_connections_per_peer: 10_000,
            tls: None,
            drain_delay: Duration::ZERO,
            hurry: CancellationToken::new(),
            status: status::StatusConfig::default(),
            admission_secret: random_secret(),
            ticket_keys: None,
            readiness: watch::Sender::default(),
        }
    }
}

fn random_secret() -> SecretString {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()).into()
}

/// Connections to the listener for admins, at the most.
const ADMIN_CONNECTIONS: usize = 256;

/// Without its gate or its queue a gateway takes no orders. Without its ledger it does: that is what the queue is for.
const NEEDS: &[Dependency] = &[Dependency::Gate, Dependency::Queue];
/// In direct mode a gateway needs its ledger and nothing else.
const DIRECT_NEEDS: &[Dependency] = &[Dependency::Ledger];

/// Where a gateway is reached, and what it serves there beside its own routes.
pub struct Doors {
    /// For buyers, and without a listener for admins for everything.
    pub listener: TcpListener,
    /// Served to buyers, such as the webhook of a bank.
    pub public: Router,
    /// For admins. With it, whatever is not for buyers is served here only.
    pub admin: Option<TcpListener>,
    /// Served to admins: the dashboard and its controls.
    pub pages: Router,
}

/// [`run_with`] one listener, with `pages` beside the gateway's own routes.
pub fn run(
    listener: TcpListener,
    backend: Backend,
    orders: Arc<dyn OrderService>,
    config: Config,
    pages: Router,
    prometheus: PrometheusHandle,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    let doors = Doors { listener, public: Router::new(), admin: None, pages };
    run_with(doors, backend, orders, config, prometheus, shutdown)
}

/// Serves until `shutdown`, through every fault of the back end. Then, in this order: `/readyz` says that the gateway drains, and
/// orders go on for the drain delay; new orders are refused; every order taken in is answered and settled, and the connections
/// are closed, within the grace time.
///
/// Boxed, so that it is compiled with this crate and not again with each one that waits for it.
pub fn run_with(
    doors: Doors,
    backend: Backend,
    orders: Arc<dyn OrderService>,
    config: Config,
    prometheus: PrometheusHandle,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(run_until(doors, backend, orders, config, prometheus, shutdown))
}

async fn run_until(
    doors: Doors,
    backend: Backend,
    orders: Arc<dyn OrderService>,
    config: Config,
    prometheus: PrometheusHandle,
    ending: CancellationToken,
) {
    // Cancelled when new orders are refused, which is later than `ending`.
    let shutdown = CancellationToken::new();
    let lanes = TaskTracker::new();
    counters::show(config.mode);
    let direct = config.mode == Mode::Direct;
    let needs = if direct { DIRECT_NEEDS } else { NEEDS };
    let health = Health::new(backend.clone(), needs, ending.clone(), prometheus);
    let backend = if direct { direct::without_gate(&backend) } else { backend };
    let directory = if direct {
        let pool = direct::Pool::start(&backend.ledger, config.direct, &lanes, &shutdown);
        Directory::direct(backend.clone(), pool, lanes.clone(), shutdown.clone())
    } else {
        Directory::new(backend.clone(), config.intake, lanes.clone(), shutdown.clone())
    };
    let directory = Arc::new(directory);
    let health = Arc::new(health.with_sales(Arc::clone(&directory)));
    let app = App::new(backend.clone(), Arc::clone(&directory), orders, &config, shutdown.clone());
    // The server goes on after `shutdown`, to give the answers that are still owed.
    let close = CancellationToken::new();
    let server = tokio::spawn(serve(doors, &app, Arc::clone(&health), &config, ending.clone(), &close));
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
    // Boxed, since all of them together are large.
    let statuses = Box::pin(app.keep_statuses_current());
    let background = async {
        let kept = (config.buyers.keep_current(), Box::pin(app.keep_rooms()));
        let told = Box::pin(health.tell(&config.readiness));
        tokio::join!(directory.keep_current(), recoverer, app.tidy(), kept.0, kept.1, statuses, told)
    };
    // Cut short wherever they are: each of their steps may be left undone, and is found and done again.
    let drain = async {
        ending.cancelled().await;
        let _ = config.hurry.run_until_cancelled(tokio::time::sleep(config.drain_delay)).await;
        config.hurry.cancel();
        shutdown.cancel();
    };
    tokio::join!(shutdown.run_until_cancelled(background), drain);
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

fn limits_of_admins() -> server::Limits {
    server::Limits { connections: ADMIN_CONNECTIONS, ..server::Limits::default() }
}

/// Serves on both doors until `close`.
fn serve(
    doors: Doors,
    app: &Arc<App>,
    health: Arc<Health>,
    config: &Config,
    ending: CancellationToken,
    close: &CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (probes, metrics) = health.routers();
    let Doors { listener, public, admin, pages } = doors;
    let limits = server::Limits {
        connections: config.max_connections,
        per_peer: config.max_connections_per_peer,
        head: config.head_timeout,
        write: server::WRITE_TIMEOUT,
        proxies: config.crowd.proxies.clone(),
        tls: config.tls.clone(),
        leave: ending.clone(),
    };
    let everything = http::front(app, probes.clone().merge(metrics).merge(public.clone()).merge(pages));
    let (buyers, admins) = match admin {
        None => (everything, None),
        Some(listener) => {
            let limits = server::Limits { leave: ending, ..limits_of_admins() };
            let admins = server::serve(listener, everything, limits, close.clone());
            (http::buyers_front(app, probes.merge(public)), Some(admins))
        }
    };
    let buyers = server::serve(listener, buyers, limits, close.clone());
    async move {
        match admins {
            Some(admins) => {
                tokio::join!(buyers, admins);
            }
            None => buyers.await,
        }
    }
}
