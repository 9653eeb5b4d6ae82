//! Experiments from the page: the list with the newest result of each, and starting one.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use seckill_dashboard::problem::problem;
use serde::{Deserialize, Serialize};

use super::guard::Json;
use super::panel::Panel;
use crate::experiment::{About, Ended, Line, NotStarted, Running};
use crate::experiments::{ALL, find};

#[derive(Serialize)]
struct List {
    running: Option<Running>,
    /// Whether changes need the gateway's admin token.
    token_needed: bool,
    experiments: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    about: &'static About,
    safeguard: Option<Line>,
    /// Whether it can run on this gateway's back end.
    available: bool,
    ended: Option<Ended>,
}

/// `GET /api/v1/control/experiments`
pub(super) async fn list(State(panel): State<Arc<Panel>>) -> Response {
    let runner = &panel.experiments;
    let entry = |experiment: &&'static dyn crate::experiment::Experiment| {
        let about = experiment.about();
        Entry {
            about,
            safeguard: about.safeguard.line(),
            available: runner.can_run(*experiment),
            ended: runner.ended(about.name),
        }
    };
    let experiments = ALL.iter().map(entry).collect();
    Answer(List { running: runner.running(), token_needed: !panel.loopback, experiments }).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    #[serde(default = "first_seed")]
    seed: u64,
}

fn first_seed() -> u64 {
    1
}

/// `POST /api/v1/control/experiments/{name}`
pub(super) async fn start(
    State(panel): State<Arc<Panel>>,
    Path(name): Path<String>,
    Json(Start { seed }): Json<Start>,
) -> Response {
    let Some(experiment) = find(&name) else {
        let names: Vec<&str> = ALL.iter().map(|experiment| experiment.about().name).collect();
        let detail = format!("There is no experiment {name:?}; there are {}.", names.join(", "));
        return problem(StatusCode::NOT_FOUND, "not-found", &detail);
    };
    match panel.experiments.start(experiment, seed) {
        Ok(()) => (StatusCode::ACCEPTED, Answer(panel.experiments.running())).into_response(),
        Err(NotStarted::Busy) => {
            let detail = "An experiment is running; wait for its end.";
            problem(StatusCode::CONFLICT, "busy", detail)
        }
        Err(NotStarted::NeedsServers) => {
            let detail = "This experiment needs Redis, RabbitMQ and MySQL; this gateway runs on the embedded back end.";
            problem(StatusCode::CONFLICT, "needs-servers", detail)
        }
    }
}
