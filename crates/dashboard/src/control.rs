//! The controls as a REST interface: settings for all processes, load, new sales. Only demonstrations have them.

mod guard;
mod load;
mod settings;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post, put};
use seckill_core::{Backend, Fault};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::feed::Feed;
use crate::load::{LoadConfig, LoadRunner};
use crate::problem::problem;
use crate::report::Reporter;
use crate::{assets, live};

/// Pages that are fed at the same time.
const MAX_STREAMS: usize = 256;
/// The longest body of a control.
const MAX_BODY: usize = 16 * 1024;

/// What a demonstration's controls need.
pub struct Controls {
    /// What changes need, unless only this machine can reach the gateway.
    pub admin_token: SecretString,
    /// Whether the gateway is bound to a loopback address.
    pub loopback: bool,
    /// Where load goes.
    pub load: LoadConfig,
}

/// What the handlers share.
pub(crate) struct App {
    pub(crate) feed: Arc<Feed>,
    pub(crate) backend: Backend,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
    /// This life of the gateway, as event ids name it.
    pub(crate) instance: String,
    /// Whether the page has controls.
    pub(crate) controls: bool,
}

/// The controls' share of it.
pub(crate) struct Panel {
    app: Arc<App>,
    admin_token: SecretString,
    loopback: bool,
    loads: Arc<LoadRunner>,
}

/// The page, the feed and, in a demonstration, the controls. Streams end with `shutdown`.
pub fn routes(
    backend: &Backend,
    feed: &Arc<Feed>,
    reporter: &Arc<Reporter>,
    controls: Option<Controls>,
    shutdown: CancellationToken,
) -> Router {
    let app = Arc::new(App {
        feed: Arc::clone(feed),
        backend: backend.clone(),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        shutdown,
        instance: reporter.identity().process.to_string(),
        controls: controls.is_some(),
    });
    let page = Router::new()
        .route("/", get(assets::index))
        .route("/assets/{name}", get(assets::asset))
        .route("/api/v1/live", get(live::live))
        .with_state(Arc::clone(&app));
    match controls {
        Some(controls) => page.merge(panel(app, reporter, controls)),
        None => page,
    }
}

fn panel(app: Arc<App>, reporter: &Arc<Reporter>, controls: Controls) -> Router {
    let Controls { admin_token, loopback, load } = controls;
    let loads = LoadRunner::new(load);
    tokio::spawn(load::tell(Arc::clone(&loads), Arc::clone(reporter), app.shutdown.clone()));
    let panel = Arc::new(Panel { app, admin_token, loopback, loads });
    Router::new()
        .route("/api/v1/control", get(settings::show))
        .route("/api/v1/control/drain-rate", put(settings::drain_rate))
        .route("/api/v1/control/workers", put(settings::workers))
        .route("/api/v1/control/faults/{name}", put(settings::fault).delete(settings::end_fault))
        .route("/api/v1/control/crash", post(settings::crash))
        .route("/api/v1/control/sales", post(load::sale))
        .route("/api/v1/control/load", get(load::show).post(load::start).delete(load::stop))
        .route("/api/v1/control/ghost", get(load::ghost))
        .layer(from_fn_with_state(Arc::clone(&panel), guard::guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(panel)
}

/// A fault of a back end, as an answer.
fn unavailable(fault: &Fault) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &format!("{fault}."))
}
