//! The process of a gateway: the gateway, its page, its worker on the embedded back end, and in a demonstration the controls.
//! Starts them, and ends them in the reverse order.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use seckill_core::{Backend, Bank};
use seckill_dashboard::{Feed, WorkerState};
use seckill_gateway::Doors;
use seckill_lifecycle::Service;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lab::Lab;
use crate::worker_parts::WorkerParts;
use crate::worker_task::{DrainSettings, WorkerTask};
use crate::{after, bank_news, reporting};

pub(crate) struct GatewayProcess {
    pub(crate) listener: TcpListener,
    /// For whatever is not for buyers; `None`: that is on `listener`, too.
    pub(crate) admin: Option<TcpListener>,
    pub(crate) backend: Backend,
    pub(crate) config: seckill_gateway::Config,
    /// `None`: nothing is paid by card.
    pub(crate) bank: Option<Arc<dyn Bank>>,
    /// With which the bank signs its webhooks.
    pub(crate) bank_secret: Option<String>,
    /// `None` where workers are processes of their own.
    pub(crate) worker: Option<WorkerParts>,
    /// Only in a demonstration.
    pub(crate) lab: Option<Lab>,
    pub(crate) prometheus: PrometheusHandle,
}

impl GatewayProcess {
    /// Serves until `shutdown`. The worker stops after the gateway has answered everybody.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { listener, admin, backend, config, bank, bank_secret, worker, mut lab, prometheus } = self;
        let address = listener.local_addr()?;
        // The controls send their load, and open its sales, where admins are served.
        let controlled = admin.as_ref().map_or(Ok(address), TcpListener::local_addr)?;
        let identity = reporting::identity("gateway", address);
        let process = identity.process;
        let used = lab.as_ref().map_or_else(|| backend.clone(), |lab| lab.wrap(&backend));
        let bank = match &mut lab {
            Some(lab) => lab.wrap_bank(bank),
            None => bank,
        };
        let stop_worker = CancellationToken::new();
        let after = worker.as_ref().map(|worker| worker.after.clone());
        let (worker, worker_ended) = worker
            .map(|WorkerParts { config, pace, .. }| {
                WorkerTask::start(used.clone(), config, pace, stop_worker.clone())
            })
            .unzip();
        let after = after.map(|config| {
            let faults = lab.as_ref().map(Lab::faults);
            tokio::spawn(after::run(used.clone(), config, bank.clone(), faults, stop_worker.clone()))
        });
        let handler = match (&lab, &worker) {
            (Some(lab), worker) => Some(lab.settings_handler(process, worker.clone())),
            (None, Some(worker)) => Some(DrainSettings::handler(worker.pace())),
            (None, None) => None,
        };
        let worker = worker.map(|worker| worker as Arc<dyn WorkerState>);
        let reporter = reporting::start(identity, true, &backend, prometheus.clone(), worker, handler);
        let feed = Feed::new(backend.clone(), Arc::clone(&reporter));
        let (fed, stop) = (Arc::clone(&feed), shutdown.clone());
        tokio::spawn(async move { stop.run_until_cancelled(fed.run()).await });
        let mut pages = seckill_dashboard::routes(&feed, process, lab.is_some(), shutdown.clone());
        if let Some(lab) = &lab {
            pages =
                pages.merge(lab.controls(&backend, &feed, &reporter, controlled, &config, shutdown.clone()));
        }
        let orders = Arc::new(Service::new(used.clone(), bank));
        let public = match bank_secret {
            Some(secret) => bank_news::routes(Arc::clone(&orders) as _, secret),
            None => Router::new(),
        };
        // Buyers reach the shop also where the live page has a listener of its own.
        let public = public.merge(seckill_dashboard::shop());
        let doors = Doors { listener, public, admin, pages };
        seckill_gateway::run_with(doors, used, orders, config, prometheus, shutdown).await;
        stop_worker.cancel();
        if let Some(after) = after {
            after.await.context("what runs beside the worker panicked")?;
        }
        if let Some(ended) = worker_ended {
            ended.await.context("the worker panicked")?;
        }
        if let Some(lab) = lab {
            lab.close().await;
        }
        Ok(())
    }
}
