//! Puts the dashboard together with the roles: who a process is, whether it is a demonstration, and what its page needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use clap::Args;
use clap::builder::FalseyValueParser;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use seckill_core::{Backend, UserId};
use seckill_dashboard::load::LoadConfig;
use seckill_dashboard::{Controls, Feed, Identity, Reporter, Troubles, WorkerHandle};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::secrets;

/// How long the tokens of a load run's buyers are valid.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DashboardOptions {
    /// Let the dashboard cause load and trouble: its controls exist only with this. For demonstrations, never for real
    /// sales. Bound to a loopback address, whoever reaches it may use them; do not put a proxy before that
    #[arg(long = "demo-controls", env = "SECKILL_DEMO", value_parser = FalseyValueParser::new())]
    pub(crate) demo: bool,
}

/// A process on the dashboard, before its role begins.
pub(crate) struct Stand {
    identity: Identity,
    /// Only in a demonstration.
    troubles: Option<Arc<Troubles>>,
}

impl Stand {
    /// A process of a role that serves on `address`.
    pub(crate) fn new(role: &str, address: SocketAddr, demo: bool) -> Self {
        let host = match address.ip().is_unspecified() {
            true => hostname(),
            false => address.ip().to_string(),
        };
        let identity = Identity::new(format!("{role} at {host}:{}", address.port()));
        Self { identity, troubles: demo.then(Arc::default) }
    }

    /// The back end as this process should use it: in a demonstration, trouble can be put in between.
    pub(crate) fn backend(&self, backend: &Backend) -> Backend {
        self.troubles.as_ref().map_or_else(|| backend.clone(), |troubles| troubles.wrap(backend))
    }

    /// Starts telling how this process is, until it ends.
    pub(crate) fn report(
        &self,
        is_gateway: bool,
        backend: &Backend,
        prometheus: PrometheusHandle,
        worker: Option<Arc<dyn WorkerHandle>>,
    ) -> Arc<Reporter> {
        let (identity, troubles) = (self.identity.clone(), self.troubles.clone());
        let control = Arc::clone(&backend.control);
        let reporter = Reporter::new(identity, is_gateway, control, prometheus, worker, troubles);
        let reporter = Arc::new(reporter);
        let reporting = Arc::clone(&reporter);
        tokio::spawn(async move { reporting.run().await });
        reporter
    }
}

/// What a gateway's page is made of.
pub(crate) struct Page<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) reporter: &'a Arc<Reporter>,
    pub(crate) address: SocketAddr,
    pub(crate) jwt_secret: &'a SecretString,
    pub(crate) admin_token: &'a SecretString,
    /// Whether there are controls.
    pub(crate) demo: bool,
    /// Where a gateway in direct mode serves.
    pub(crate) direct: Option<SocketAddr>,
}

impl Page<'_> {
    /// The page's routes; it follows the processes until `shutdown`.
    pub(crate) fn routes(self, shutdown: CancellationToken) -> Router {
        let feed = Feed::new(self.backend.clone(), Arc::clone(self.reporter));
        let (following, stop) = (Arc::clone(&feed), shutdown.clone());
        tokio::spawn(async move { stop.run_until_cancelled(following.run()).await });
        let controls = self.demo.then(|| {
            let secret = self.jwt_secret.clone();
            let sign = move |user| secrets::sign(&secret, UserId(user), TOKEN_TTL).unwrap_or_default();
            Controls {
                admin_token: self.admin_token.clone(),
                loopback: self.address.ip().is_loopback(),
                load: LoadConfig {
                    target: base_url(self.address),
                    direct: self.direct.map(base_url),
                    admin_token: self.admin_token.clone(),
                    sign: Arc::new(sign),
                },
            }
        });
        seckill_dashboard::routes(self.backend, &feed, self.reporter, controls, shutdown)
    }
}

/// Where this machine reaches what listens on `address`.
fn base_url(address: SocketAddr) -> String {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{port}"),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{port}"),
        _ => format!("http://{address}"),
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this machine".to_owned() } else { name.to_owned() }
}

/// A gateway in direct mode, to compare with: in this process, but with threads and metrics of its own, so that none of its
/// orders is counted among those of the gateway.
pub(crate) struct Direct {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// How long its back end may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// Counts what the direct gateway does, apart from everything else.
static UNCOUNTED: metrics::NoopRecorder = metrics::NoopRecorder;

impl Direct {
    /// Starts one on a free port of this machine; `open` opens its back end, within its own threads. `None`, with a warning:
    /// its back end could not be opened, or not soon.
    pub(crate) async fn start<F>(
        jwt_secret: SecretString,
        admin_token: SecretString,
        open: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Option<Self>>
    where
        F: Future<Output = Result<Backend>>,
    {
        let listener =
            std::net::TcpListener::bind("127.0.0.1:0").context("no free port for the direct gateway")?;
        listener.set_nonblocking(true)?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("direct")
            .enable_all()
            .on_thread_start(|| std::mem::forget(metrics::set_default_local_recorder(&UNCOUNTED)))
            .build()
            .context("no threads for the direct gateway")?;
        let mut config = seckill_gateway::Config::new(jwt_secret, admin_token);
        config.mode = seckill_core::Mode::Direct;
        let (stopped, (ready, opened)) = (stop.clone(), tokio::sync::oneshot::channel());
        let run = move || {
            std::mem::forget(metrics::set_default_local_recorder(&UNCOUNTED));
            let served = runtime.block_on(async {
                let (listener, backend) = (TcpListener::from_std(listener)?, open().await?);
                let _ = ready.send(());
                let prometheus = PrometheusBuilder::new().build_recorder().handle();
                seckill_gateway::run(listener, backend, config, Router::new(), prometheus, stopped).await;
                anyhow::Ok(())
            });
            if let Err(error) = served {
                tracing::warn!(error = %format!("{error:#}"), "there is no direct gateway to compare with");
            }
        };
        let thread = std::thread::Builder::new().name("direct".to_owned()).spawn(run)?;
        if !matches!(timeout(OPEN_WITHIN, opened).await, Ok(Ok(()))) {
            stop.cancel();
            return Ok(None);
        }
        Ok(Some(Self { address, stop, thread: Some(thread) }))
    }

    /// Ends it, and waits for its end.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        let Some(thread) = self.thread.take() else { return };
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    }
}
