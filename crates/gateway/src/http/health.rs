//! Whether the process lives, whether it can work, and its metrics. Gateways and workers alike.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_api::{DependencyReport, DependencyStatus, Readiness, ReadinessReport};
use seckill_core::{Backend, Dependency, Fault};
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

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
    last: Mutex<Option<(Instant, ReadinessReport)>>,
}

/// What the page says of it.
fn news_of(report: ReadinessReport) -> seckill_core::Readiness {
    let down = report.dependencies.into_iter().filter_map(|(name, report)| Some((name, report.reason?)));
    seckill_core::Readiness {
        status: report.status.as_str().to_owned(),
        down: down.collect(),
        sales: report.sales,
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
    pub async fn tell(&self, told: &watch::Sender<Option<seckill_core::Readiness>>) {
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if told.receiver_count() > 0 {
                told.send_replace(Some(news_of(self.now().await)));
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
    async fn now(&self) -> ReadinessReport {
        let mut report = self.report().await;
        if self.draining.is_cancelled() {
            report.status = Readiness::Draining;
        }
        report
    }

    async fn report(&self) -> ReadinessReport {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = last.as_ref().filter(|(at, _)| at.elapsed() < REPORT_AGE) {
            tracing::trace!(age = ?at.elapsed(), "the last report serves");
            return report.clone();
        }
        let report = self.look().await;
        *last = Some((Instant::now(), report.clone()));
        report
    }

    async fn look(&self) -> ReadinessReport {
        let Backend { gate, queue, ledger, .. } = &self.backend;
        let (gate, queue, ledger) = tokio::join!(
            ping(Dependency::Gate, gate.ping()),
            ping(Dependency::Queue, queue.ping()),
            ping(Dependency::Ledger, ledger.ping()),
        );
        let mut status = Readiness::Ready;
        let mut dependencies = BTreeMap::new();
        for (dependency, answer) in [gate, queue, ledger] {
            let needed = self.needs.contains(&dependency);
            if answer.is_err() {
                status = status.max(if needed { Readiness::Unready } else { Readiness::Degraded });
            }
            let report = DependencyReport {
                status: if answer.is_ok() { DependencyStatus::Up } else { DependencyStatus::Down },
                needed,
                reason: answer.err().map(|fault| fault.to_string()),
            };
            dependencies.insert(dependency.to_string(), report);
        }
        let (sales_status, sales) = self.look_at_sales();
        ReadinessReport {
            // The worse of the two.
            status: status.max(sales_status),
            backend: self.backend.name.to_owned(),
            dependencies,
            sales,
        }
    }

    fn look_at_sales(&self) -> (Readiness, Option<String>) {
        let Some(directory) = &self.sales else { return (Readiness::Ready, None) };
        if !directory.is_filled() {
            return (
                Readiness::Unready,
                Some("no sale is known yet: neither the database nor other gateways could be asked".into()),
            );
        }
        match directory.unsellable() {
            None => (Readiness::Ready, None),
            Some((unsellable, open)) => {
                let status = if unsellable == open { Readiness::Unready } else { Readiness::Degraded };
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

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, Json<ReadinessReport>) {
    let report = health.now().await;
    let status = match report.status {
        Readiness::Ready | Readiness::Degraded => StatusCode::OK,
        Readiness::Unready | Readiness::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(report))
}
