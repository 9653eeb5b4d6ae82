//! The controls as a REST interface: settings for all processes, load, new sales. Only demonstrations have them.

mod buyer;
mod experiments;
mod guard;
mod load;
mod panel;
mod settings;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use seckill_core::Backend;
use seckill_dashboard::{Feed, Reporter};
use seckill_token::admin::AdminTokens;
use tokio_util::sync::CancellationToken;

use crate::experiment::{Places, Runner};
use crate::load::{LoadConfig, LoadRunner};
use panel::Panel;

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 16 * 1024;

pub struct Controls {
    /// Who may change something: admins with the scope `operate`. A gateway on a loopback address also allows changes from this machine
    /// without a token.
    pub admins: AdminTokens,
    /// Whether the gateway is bound to a loopback address.
    pub loopback: bool,
    /// Whether orders can be paid by card.
    pub has_bank: bool,
    /// Where load goes.
    pub load: LoadConfig,
    /// Where experiments run.
    pub experiments: Places,
}

/// The routes of the controls. A load run and an experiment end with `shutdown`.
pub fn routes(
    backend: &Backend,
    feed: &Arc<Feed>,
    reporter: &Arc<Reporter>,
    controls: Controls,
    shutdown: CancellationToken,
) -> Router {
    let Controls { admins, loopback, has_bank, load, experiments } = controls;
    let sign = Arc::clone(&load.sign);
    let counting = Arc::clone(feed);
    let loads =
        LoadRunner::new(LoadConfig { transactions: Some(Arc::new(move || counting.transactions())), ..load });
    let control = Arc::clone(&backend.control);
    tokio::spawn(load::report(Arc::clone(&loads), Arc::clone(reporter), control, shutdown.clone()));
    let experiments = Runner::new(experiments, shutdown);
    let (backend, feed) = (backend.clone(), Arc::clone(feed));
    let panel = Arc::new(Panel { backend, feed, admins, loopback, has_bank, loads, experiments, sign });
    Router::new()
        .route("/api/v1/control", get(settings::show))
        .route("/api/v1/control/drain-rate", put(settings::drain_rate))
        .route("/api/v1/control/workers", put(settings::workers))
        .route("/api/v1/control/faults/{name}", put(settings::fault).delete(settings::end_fault))
        .route("/api/v1/control/crash", post(settings::crash))
        .route("/api/v1/control/sales", post(load::sale))
        .route("/api/v1/control/load", get(load::show).post(load::start).delete(load::stop))
        .route("/api/v1/control/runs", get(load::runs))
        .route("/api/v1/control/runs/{id}/report", get(load::report_page))
        .route("/api/v1/control/experiments", get(experiments::list))
        .route("/api/v1/control/experiments/{name}", post(experiments::start))
        .layer(from_fn_with_state(Arc::clone(&panel), guard::guard))
        // After the layer: a buyer may do nothing but buy, so whoever sees the page may become one.
        .route(
            "/api/v1/control/buyer",
            post(buyer::fresh).layer(from_fn_with_state(Arc::clone(&panel), guard::own_page)),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(panel)
}
