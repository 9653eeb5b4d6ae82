//! The drain rate of the workers, and their pause: what every worker is told, and what each of them does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use seckill_api::{Rate, WorkerView, WorkersBody, WorkersView};
use seckill_core::{ControlPlane, DrainRate, Fault, FieldError, ProcessId, Settings};
use tokio::time::{Instant, timeout_at};

use super::auth::{Admin, Operate};
use super::problem::Refusal;
use super::{App, body};

/// The highest drain rate that can be set, in orders a second; the next higher one is `unlimited`.
const MAX_RATE: u32 = 1_000_000;
/// How long workers are listened for: each reports four times a second.
const LISTEN: Duration = Duration::from_millis(700);
/// How often a change is tried while others change the settings at the same time.
const TRIES: usize = 8;

/// `GET /api/v1/workers`: takes most of a second, because it listens to the workers.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _admin: Admin<Operate>,
) -> Result<Json<WorkersView>, Refusal> {
    let control = app.backend.control.as_ref();
    let workers = listen(control).await?;
    let Settings { revision, drain_rate, paused, .. } = control.settings().await?;
    Ok(Json(WorkersView { revision, drain_rate, paused, workers }))
}

async fn listen(control: &dyn ControlPlane) -> Result<Vec<WorkerView>, Fault> {
    let mut listener = control.listen().await?;
    let until = Instant::now() + LISTEN;
    let mut workers: BTreeMap<ProcessId, WorkerView> = BTreeMap::new();
    while let Ok(snapshot) = timeout_at(until, listener.next()).await {
        let snapshot = snapshot?;
        if let Some(drain_rate) = snapshot.drain_rate {
            let worker = WorkerView { name: snapshot.name, drain_rate, revision: snapshot.settings_revision };
            workers.insert(snapshot.process, worker);
        }
    }
    Ok(workers.into_values().collect())
}

/// `PUT /api/v1/workers`: the settings, and what the workers do a moment later.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    _admin: Admin<Operate>,
    body::Json(wanted): body::Json<WorkersBody>,
) -> Result<Json<WorkersView>, Refusal> {
    let drain_rate = wanted.drain_rate.map(|rate| rate.map(rate_of).transpose()).transpose()?;
    if drain_rate.is_none() && wanted.paused.is_none() {
        let nothing = "names neither drain_rate nor paused; give one of them, or both";
        return Err(Refusal::Invalid(vec![FieldError::new("body", nothing)]));
    }
    let control = app.backend.control.as_ref();
    for _ in 0..TRIES {
        let mut settings = control.settings().await?;
        settings.revision += 1;
        settings.drain_rate = drain_rate.unwrap_or(settings.drain_rate);
        settings.paused = wanted.paused.unwrap_or(settings.paused);
        if control.change(&settings).await? {
            let Settings { revision, drain_rate, paused, .. } = settings;
            tracing::info!(
                revision,
                ?drain_rate,
                paused,
                "an operator has changed the settings of the workers"
            );
            // By then every worker has heard of it.
            let workers = listen(control).await?;
            return Ok(Json(WorkersView { revision, drain_rate, paused, workers }));
        }
    }
    Err(Refusal::RequestUnderWay)
}

fn rate_of(rate: Rate) -> Result<DrainRate, Refusal> {
    let rate = match rate {
        Rate::Number(rate) if rate <= MAX_RATE => std::num::NonZeroU32::new(rate).map(DrainRate::PerSecond),
        Rate::Word(word) if word == "unlimited" => Some(DrainRate::Unlimited),
        Rate::Word(word) if word == "auto" => Some(DrainRate::Auto),
        _ => None,
    };
    rate.ok_or_else(|| {
        let allowed = format!("must be a number from 1 to {MAX_RATE}, \"unlimited\", \"auto\", or null for what each worker was started with");
        Refusal::Invalid(vec![FieldError::new("drain_rate", allowed)])
    })
}
