//! A gateway with all that lives in its process: its page, the worker where there is one, and in a demonstration a direct
//! gateway to compare with. Starts them in one order and ends them in the other.

use std::sync::Arc;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::Backend;
use seckill_dashboard::WorkerHandle;
use seckill_worker::Pace;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::dashboard::{Direct, Page, Stand};
use crate::worker_task::WorkerTask;

/// A gateway and who lives with it.
pub(crate) struct House {
    pub(crate) listener: TcpListener,
    pub(crate) backend: Backend,
    pub(crate) config: seckill_gateway::Config,
    /// `None`: the workers are processes of their own.
    pub(crate) worker: Option<(seckill_worker::Config, Pace)>,
    /// Only in a demonstration.
    pub(crate) direct: Option<Direct>,
    /// Whether the page has controls.
    pub(crate) demo: bool,
    pub(crate) prometheus: PrometheusHandle,
}

impl House {
    /// Serves until `shutdown`. The worker goes on for as long as the gateway answers, and stops after it, so that nothing
    /// is queued behind its back.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { listener, backend, config, worker, direct, demo, prometheus } = self;
        let address = listener.local_addr()?;
        let stand = Stand::new("gateway", address, demo);
        let used = stand.backend(&backend);
        let stop_worker = CancellationToken::new();
        let worker = worker
            .map(|(config, pace)| WorkerTask::start(used.clone(), config, pace, stop_worker.clone()))
            .unzip();
        let handle = worker.0.map(|task| task as Arc<dyn WorkerHandle>);
        let reporter = stand.report(true, &backend, prometheus.clone(), handle);
        let page = Page {
            backend: &backend,
            reporter: &reporter,
            address,
            jwt_secret: &config.jwt_secret,
            admin_token: &config.admin_token,
            demo,
            direct: direct.as_ref().map(|direct| direct.address),
        };
        let pages = page.routes(shutdown.clone());
        seckill_gateway::run(listener, used, config, pages, prometheus, shutdown).await;
        stop_worker.cancel();
        if let Some(worker) = worker.1 {
            worker.await.context("the worker panicked")?;
        }
        if let Some(direct) = direct {
            direct.close().await;
        }
        Ok(())
    }
}
