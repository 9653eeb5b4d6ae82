//! Load and new sales, from the page.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json as Answer;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use seckill_core::{ControlPlane, Fault, Mode, NewSale, create_sale};
use seckill_dashboard::problem::{invalid, problem};
use seckill_dashboard::{EVERY, Reporter, SaleView};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::guard::Json;
use super::panel::{Panel, unavailable};
use super::settings::change;
use crate::load::{LoadRefusal, LoadRequest, LoadRunner, LoadStatus};
use crate::sale::demo_sale;

/// Units of a sale from the page, if the request names no other number.
const STOCK: u32 = 10_000;

/// Puts the status of the load run into this process's snapshots, keeps its start and its end for those who come after this
/// process, and stops the run when the settings say so. Returns after `shutdown`.
pub(super) async fn report(
    loads: Arc<LoadRunner>,
    reporter: Arc<Reporter>,
    control: Arc<dyn ControlPlane>,
    shutdown: CancellationToken,
) {
    let mut kept = None;
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        let status = loads.status();
        let stop = reporter.settings().and_then(|settings| settings.stop_load);
        if let (Some(status), Some(stop)) = (&status, stop)
            && stop == status.id
            && !status.has_ended()
        {
            loads.stop();
        }
        reporter.set_load(status.as_ref().map(|status| json!(status)));
        keep(status, &mut kept, &*control).await;
    }
    loads.close().await;
    keep(loads.status(), &mut kept, &*control).await;
}

/// A run, and whether it has ended.
fn moment(status: &LoadStatus) -> (String, bool) {
    (status.id.clone(), status.has_ended())
}

/// Keeps a run that has begun or ended since `kept`. What cannot be kept is tried again at the next tick.
async fn keep(status: Option<LoadStatus>, kept: &mut Option<(String, bool)>, control: &dyn ControlPlane) {
    let Some(status) = status.filter(|status| kept.as_ref() != Some(&moment(status))) else { return };
    if control.keep_load(&json!(status)).await.is_ok() {
        *kept = Some(moment(&status));
    }
}

/// `GET /api/v1/control/load`: the newest run in any gateway.
pub(super) async fn show(State(panel): State<Arc<Panel>>) -> Response {
    let own = panel.loads.status().filter(|status| !status.has_ended()).map(|status| json!(status));
    Answer(own.or_else(|| panel.feed.load())).into_response()
}

/// `POST /api/v1/control/load`
pub(super) async fn start(State(panel): State<Arc<Panel>>, Json(request): Json<LoadRequest>) -> Response {
    // What the feed has of this gateway's own run may be a second old, so only runs of other gateways are taken from it.
    let own = panel.loads.status().map(|status| status.id);
    let other = panel.feed.load().filter(|load| load["id"].as_str() != own.as_deref());
    if other.is_some_and(|load| load["ended_at"].is_null()) {
        return busy();
    }
    match panel.loads.start(request) {
        Ok(status) => (StatusCode::ACCEPTED, Answer(status)).into_response(),
        Err(LoadRefusal::Busy) => busy(),
        Err(LoadRefusal::Invalid(errors)) => invalid(&errors),
        Err(LoadRefusal::Unavailable(why)) => problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &why),
    }
}

fn busy() -> Response {
    let detail = "A load run is under way; stop it, or wait for its end.";
    problem(StatusCode::CONFLICT, "busy", detail)
}

/// `DELETE /api/v1/control/load`: stops the run, which may be in another gateway.
pub(super) async fn stop(State(panel): State<Arc<Panel>>) -> Response {
    if let Some(status) = panel.loads.stop() {
        return Answer(status).into_response();
    }
    let Some(load) = panel.feed.load().filter(|load| load["ended_at"].is_null()) else {
        return problem(StatusCode::CONFLICT, "no-load", "No load run is under way.");
    };
    let id = load["id"].as_str().unwrap_or_default().to_owned();
    let answer = change(&panel, |settings| settings.stop_load = Some(id.clone())).await;
    if answer.status().is_success() { Answer(load).into_response() } else { answer }
}

/// `GET /api/v1/control/runs`: the last runs of this gateway, newest first.
pub(super) async fn runs(State(panel): State<Arc<Panel>>) -> Response {
    Answer(json!({"runs": panel.loads.runs()})).into_response()
}

/// Reports that are made or sent at the same time: each takes some megabytes of memory, and anybody may ask.
const MAX_REPORTS: usize = 4;
static REPORTS: Semaphore = Semaphore::const_new(MAX_REPORTS);
/// A report is sent in pieces, so that its permit is held until a slow reader has it.
const PIECE: usize = 64 * 1024;

/// `GET /api/v1/control/runs/{id}/report`: the report of one of them, as one file to keep.
pub(super) async fn report_page(State(panel): State<Arc<Panel>>, Path(id): Path<String>) -> Response {
    let Ok(permit) = REPORTS.try_acquire() else {
        let detail = "As many reports are being sent as this gateway sends at once; try again in a moment.";
        return problem(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail);
    };
    let loads = Arc::clone(&panel.loads);
    // Several megabytes of text, which would hold up a thread that answers buyers.
    let page = tokio::task::spawn_blocking(move || loads.report_page(&id)).await;
    let Some(page) = page.ok().flatten() else {
        let detail = "This gateway keeps no report of such a run: it has the last ten runs that got as far as their report.";
        return problem(StatusCode::NOT_FOUND, "not-found", detail);
    };
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // A file to keep: opened here it would be a page of this gateway, with all that its own pages may do.
        (header::CONTENT_DISPOSITION, "attachment; filename=\"load-run.html\""),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let mut rest = Bytes::from(page);
    let pieces = std::iter::from_fn(move || {
        let _held_until_all_is_sent = &permit;
        (!rest.is_empty()).then(|| Ok::<_, Infallible>(rest.split_to(PIECE.min(rest.len()))))
    });
    (fields, Body::from_stream(stream::iter(pieces))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaleBody {
    stock: Option<u32>,
    name: Option<String>,
}

/// `POST /api/v1/control/sales`: a new sale, open from now on.
pub(super) async fn sale(
    State(panel): State<Arc<Panel>>,
    Json(SaleBody { stock, name }): Json<SaleBody>,
) -> Response {
    let new = demo_sale(name.as_deref().unwrap_or("Flash sale"), stock.unwrap_or(STOCK));
    if let Err(errors) = new.check() {
        return invalid(&errors);
    }
    match open(&panel, &new).await {
        Ok(sale) => (StatusCode::CREATED, Answer(sale)).into_response(),
        Err(fault) => unavailable(&fault),
    }
}

async fn open(panel: &Panel, new: &NewSale) -> Result<SaleView, Fault> {
    let backend = &panel.backend;
    let created = create_sale(backend, new, Mode::Queue).await?;
    match created.unfilled {
        Some(fault) => Err(fault),
        None => {
            let level = backend.gate.level(created.sale.id).await?;
            Ok(SaleView::new(created.sale, level))
        }
    }
}
