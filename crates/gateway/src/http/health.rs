//! Whether the process lives, whether it can work, and its metrics. Gateways and workers alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{Backend, Dependency, Fault, Readiness};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::directory::Directory;

/// How long a dependency may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a report serves everyone who asks.
const REPORT_AGE: Duration = Duration::from_millis(500);
/// How often the dashboard is told.
const TELL_EVERY: Duration = Duration::from_millis(750);

/// What `/livez`, `/readyz` and `/metrics` answer from.
pub struct Health {
    backend: Backend,
    needs: &'static [Dependency],
    /// The sales of a gateway; a worker has none.
    sales: Option<Arc<Directory>>,
    draining: CancellationToken,
    prometheus: PrometheusHandle,
    /// Held across the pings on purpose: those who ask meanwhile wait for the same answer.
    last: Mutex<Option<(Instant, Report)>>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Report {
    /// `ready`; `degraded`: works, with a dependency away that it can do without for a time; `unready`; `draining`.
    status: &'static str,
    backend: &'static str,
    dependencies: BTreeMap<String, DependencyReport>,
    /// What is wrong with the sales; not there where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    sales: Option<String>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct DependencyReport {
    status: &'static str,
    needed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Report> for Readiness {
    fn from(report: Report) -> Self {
        let down = report.dependencies.into_iter().filter_map(|(name, report)| Some((name, report.reason?)));
        Self { status: report.status.to_owned(), down: down.collect(), sales: report.sales }
    }
}

impl Health {
    /// The health of a process that cannot work without `needs`, and takes no more work once `draining` is cancelled.
    pub fn new(
        backend: Backend,
        needs: &'static [Dependency],
        draining: CancellationToken,
        prometheus: PrometheusHandle,
    ) -> Self {
        Self { backend, needs, sales: None, draining, prometheus, last: Mutex::default() }
    }

    /// The health of a gateway, which cannot work without sales that can be sold.
    pub fn with_sales(self, sales: Arc<Directory>) -> Self {
        Self { sales: Some(sales), ..self }
    }

    /// Keeps `told` at what `/readyz` answers; never returns.
    pub async fn tell(&self, told: &watch::Sender<Option<Readiness>>) {
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if told.receiver_count() > 0 {
                told.send_replace(Some(self.now().await.into()));
            }
        }
    }

    /// `/livez` without a look at any dependency, `/readyz`, `/metrics`.
    pub fn router(self: Arc<Self>) -> Router {
        let (probes, metrics) = self.routers();
        probes.merge(metrics)
    }

    /// `/livez` and `/readyz`, and by itself `/metrics`.
    pub(crate) fn routers(self: Arc<Self>) -> (Router, Router) {
        let health = self;
        let probes = Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .with_state(Arc::clone(&health));
        let metrics = async |State(health): State<Arc<Self>>| health.prometheus.render();
        (probes, Router::new().route("/metrics", get(metrics)).with_state(health))
    }

    /// The answer of `/readyz`.
    async fn now(&self) -> Report {
        let mut report = self.report().await;
        if self.draining.is_cancelled() {
            report.status = "draining";
        }
        report
    }

    async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = last.as_ref().filter(|(at, _)| at.elapsed() < REPORT_AGE) {
            tracing::trace!(age = ?at.elapsed(), "the last report serves");
            return report.clone();
        }
        let report = self.look().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    async fn look(&self) -> Report {
        let Backend { gate, queue, ledger, .. } = &self.backend;
        let (gate, queue, ledger) = tokio::join!(
            ping(Dependency::Gate, gate.ping()),
            ping(Dependency::Queue, queue.ping()),
            ping(Dependency::Ledger, ledger.ping()),
        );
        let mut status = "ready";
        let mut dependencies = BTreeMap::new();
        for (dependency, answer) in [gate, queue, ledger] {
            let needed = self.needs.contains(&dependency);
            if answer.is_err() {
                status = if needed || status == "unready" { "unready" } else { "degraded" };
            }
            let report = DependencyReport {
                status: if answer.is_ok() { "up" } else { "down" },
                needed,
                reason: answer.err().map(|fault| fault.to_string()),
            };
            dependencies.insert(dependency.to_string(), report);
        }
        let (sales_status, sales) = self.look_at_sales();
        // The worse of the two.
        let rank = |status| ["ready", "degraded", "unready"].iter().position(|known| *known == status);
        let status = if rank(sales_status) > rank(status) { sales_status } else { status };
        Report { status, backend: self.backend.name, dependencies, sales }
    }

    fn look_at_sales(&self) -> (&'static str, Option<String>) {
        let Some(directory) = &self.sales else { return ("ready", None) };
        if !directory.is_filled() {
            return (
                "unready",
                Some("no sale is known yet: neither the database nor other gateways could be asked".into()),
            );
        }
        match directory.unsellable() {
            None => ("ready", None),
            Some((unsellable, open)) => {
                let status = if unsellable == open { "unready" } else { "degraded" };
                (
                    status,
                    Some(format!(
                        "{unsellable} of {open} open sales cannot be sold: their gate was lost or is rebuilt"
                    )),
                )
            }
        }
    }
}

async fn ping(
    dependency: Dependency,
    answer: impl Future<Output = Result<(), Fault>>,
) -> (Dependency, Result<(), Fault>) {
    let late = || Fault::unavailable(dependency, format!("no answer within {} s", PING_TIMEOUT.as_secs()));
    (dependency, timeout(PING_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late())))
}

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, Json<Report>) {
    let report = health.now().await;
    let status = match report.status {
        "ready" | "degraded" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}
