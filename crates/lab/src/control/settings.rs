//! The settings that all processes read: drain rate, pause, faults, crashes.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use seckill_core::{ActiveFault, CrashOrder, DrainRate, FaultKind, FieldError, Settings, now};
use seckill_dashboard::problem::{invalid, problem};
use seckill_dashboard::settings_view;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::guard::Json;
use super::panel::{Panel, unavailable};
use crate::load::LoadRunner;

/// The highest drain rate that can be set, in orders a second; the next higher one is `unlimited`.
const MAX_RATE: u32 = 1_000_000;
/// How long a fault lasts by default, and at the most, in seconds.
const FAULT_SECONDS: u32 = 15;
const MAX_FAULT_SECONDS: u32 = 300;
/// How often a change is tried while others change the settings at the same time.
const TRIES: usize = 8;

/// What a fault is about, as the page groups them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Group {
    /// The path of an order into the ledger.
    Order,
    /// What comes after.
    AfterTheOrder,
}

/// A fault as it can be asked for.
struct Offer {
    group: Group,
    /// The amount's unit, default and maximum. A fault without a unit is there or not, and its amount is 1.
    unit: Option<&'static str>,
    default: u32,
    max: u32,
}

impl Offer {
    fn of(kind: FaultKind) -> Self {
        let offer = |group, unit, default, max| Self { group, unit: Some(unit), default, max };
        let there_or_not = Self { group: Group::AfterTheOrder, unit: None, default: 1, max: 1 };
        match kind {
            FaultKind::SlowCommits => offer(Group::Order, "ms", 300, 5_000),
            FaultKind::DuplicateDeliveries => offer(Group::Order, "percent", 20, 100),
            FaultKind::LostConfirms => offer(Group::Order, "percent", 10, 100),
            FaultKind::SlowBank => offer(Group::AfterTheOrder, "ms", 1_000, 5_000),
            FaultKind::BankTimeouts => offer(Group::AfterTheOrder, "percent", 50, 100),
            FaultKind::DoubledEvents => offer(Group::AfterTheOrder, "percent", 50, 100),
            FaultKind::RelayKilled | FaultKind::SubscriberAway => there_or_not,
        }
    }

    fn allowed(&self) -> String {
        match self.unit {
            Some(unit) => format!("must be from 1 to {} {unit}", self.max),
            None => "must be 1, or left out: this fault has no amount".to_owned(),
        }
    }
}

/// Whether a fault is one of the bank, which a gateway without one cannot cause.
fn needs_bank(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::SlowBank | FaultKind::BankTimeouts)
}

/// `GET /api/v1/control`: the controls, with their ranges and the settings in force.
pub(super) async fn show(State(panel): State<Arc<Panel>>) -> Response {
    let settings = match panel.backend.control.settings().await {
        Ok(settings) => settings,
        Err(fault) => return unavailable(&fault),
    };
    let mut faults: Vec<_> = FaultKind::ALL
        .iter()
        .map(|kind| {
            let Offer { group, unit, default, max } = Offer::of(*kind);
            let available = panel.has_bank || !needs_bank(*kind);
            json!({
                "name": kind, "group": group, "unit": unit, "default": default, "max": max, "seconds": FAULT_SECONDS,
                "available": available,
            })
        })
        .collect();
    faults.push(json!({"name": "worker_crash", "group": Group::Order, "available": true}));
    Answer(json!({
        "token_needed": !panel.loopback,
        "presets": LoadRunner::presets(),
        "faults": faults,
        "settings": settings_view(&settings),
        "direct": panel.loads.has_direct(),
        "limits": LoadRunner::limits(),
    }))
    .into_response()
}

/// A number, `"unlimited"` or `"auto"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Rate {
    Number(u32),
    Word(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainRateBody {
    rate: Rate,
}

/// `PUT /api/v1/control/drain-rate`: the rate of all workers together.
pub(super) async fn drain_rate(
    State(panel): State<Arc<Panel>>,
    Json(DrainRateBody { rate }): Json<DrainRateBody>,
) -> Response {
    let rate = match rate {
        Rate::Number(rate) if rate <= MAX_RATE => NonZeroU32::new(rate).map(DrainRate::PerSecond),
        Rate::Word(word) if word == "unlimited" => Some(DrainRate::Unlimited),
        Rate::Word(word) if word == "auto" => Some(DrainRate::Auto),
        _ => None,
    };
    let Some(rate) = rate else {
        let allowed = format!("must be a number from 1 to {MAX_RATE}, \"unlimited\" or \"auto\"");
        return invalid(&[FieldError::new("rate", allowed)]);
    };
    change(&panel, |settings| settings.drain_rate = Some(rate)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkersBody {
    paused: bool,
}

/// `PUT /api/v1/control/workers`
pub(super) async fn workers(
    State(panel): State<Arc<Panel>>,
    Json(WorkersBody { paused }): Json<WorkersBody>,
) -> Response {
    change(&panel, |settings| settings.paused = paused).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultBody {
    amount: Option<u32>,
    seconds: Option<u32>,
}

/// `PUT /api/v1/control/faults/{name}`: injects a fault, which ends by itself.
pub(super) async fn fault(
    State(panel): State<Arc<Panel>>,
    Path(name): Path<String>,
    Json(FaultBody { amount, seconds }): Json<FaultBody>,
) -> Response {
    let Some(kind) = named(&name) else { return no_fault(&name) };
    if needs_bank(kind) && !panel.has_bank {
        let detail = "This gateway has no bank whose calls could go wrong; give it --bank-url.";
        return problem(StatusCode::CONFLICT, "no-bank", detail);
    }
    let offer = Offer::of(kind);
    let (amount, seconds) = (amount.unwrap_or(offer.default), seconds.unwrap_or(FAULT_SECONDS));
    let mut errors = Vec::new();
    if !(1..=offer.max).contains(&amount) {
        errors.push(FieldError::new("amount", offer.allowed()));
    }
    if !(1..=MAX_FAULT_SECONDS).contains(&seconds) {
        errors.push(FieldError::new("seconds", format!("must be from 1 to {MAX_FAULT_SECONDS}")));
    }
    if !errors.is_empty() {
        return invalid(&errors);
    }
    let until = now() + TimeDelta::seconds(seconds.into());
    let fault = ActiveFault { amount, until };
    change(&panel, |settings| settings.faults.extend([(kind, fault)])).await
}

/// `DELETE /api/v1/control/faults/{name}`
pub(super) async fn end_fault(State(panel): State<Arc<Panel>>, Path(name): Path<String>) -> Response {
    let Some(kind) = named(&name) else { return no_fault(&name) };
    change(&panel, |settings| settings.faults.retain(|active, _| *active != kind)).await
}

fn named(name: &str) -> Option<FaultKind> {
    FaultKind::ALL.into_iter().find(|kind| json!(kind) == name)
}

fn no_fault(name: &str) -> Response {
    let known: Vec<_> = FaultKind::ALL.iter().map(|kind| json!(kind)).collect();
    let known: Vec<_> = known.iter().filter_map(|name| name.as_str()).collect();
    let detail = format!("There is no fault {name:?}; there are {}.", known.join(", "));
    problem(StatusCode::NOT_FOUND, "not-found", &detail)
}

/// `POST /api/v1/control/crash`: lets one of the workers crash.
pub(super) async fn crash(State(panel): State<Arc<Panel>>) -> Response {
    let workers = panel.feed.workers();
    let Some((id, name)) = workers.into_iter().next() else {
        let detail = "No worker is alive that could crash.";
        return problem(StatusCode::CONFLICT, "no-worker", detail);
    };
    let order = |settings: &mut Settings| {
        settings.crash = Some(CrashOrder { process: id, revision: settings.revision });
    };
    let answer = change(&panel, order).await;
    if answer.status().is_success() { Answer(json!({"name": name})).into_response() } else { answer }
}

/// Changes the settings by compare-and-set, so that two changes at the same time both hold; answers with the new settings.
pub(super) async fn change(panel: &Panel, edit: impl Fn(&mut Settings)) -> Response {
    let control = &panel.backend.control;
    for _ in 0..TRIES {
        let mut settings = match control.settings().await {
            Ok(settings) => settings,
            Err(fault) => return unavailable(&fault),
        };
        settings.faults.retain(|_, fault| fault.until > now());
        settings.revision += 1;
        edit(&mut settings);
        match control.change(&settings).await {
            Ok(true) => return Answer(settings_view(&settings)).into_response(),
            Ok(false) => {}
            Err(fault) => return unavailable(&fault),
        }
    }
    let detail = "Others keep changing the settings at the same time; try again.";
    problem(StatusCode::CONFLICT, "busy", detail)
}
