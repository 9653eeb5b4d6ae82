//! A process of a demonstration: its injected faults, its controls, and a direct gateway to compare with.

mod command;
mod direct_gateway;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use seckill_core::{Backend, Bank, ProcessId};
use seckill_dashboard::{Feed, Reporter, SettingsHandler};
use seckill_lab::experiment::Places;
use seckill_lab::load::LoadConfig;
use seckill_lab::{Controls, InjectedFaults, SettingsApplier, WorkerControl};
use seckill_token::Signer;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use crate::experiments;
use crate::options::{BackendKind, BackendOptions};
use crate::secrets::{self, Secrets};
use direct_gateway::DirectGateway;

/// How long the tokens of a load run's buyers are valid.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);
/// The file of the last load runs, in the data folder.
const LOAD_RUNS: &str = "load-runs.json";

/// What a process of a demonstration has beside its role.
pub(crate) struct Lab {
    faults: Arc<InjectedFaults>,
    /// Whether orders can be paid by card.
    has_bank: bool,
    direct: Option<DirectGateway>,
    experiments: Places,
    /// The file with the last load runs. Gateways on shared servers have no folder of their own.
    kept_in: Option<PathBuf>,
    /// The folder of the embedded back end.
    data_dir: Option<PathBuf>,
    /// A worker has none.
    secrets: Option<Secrets>,
}

/// The injected faults of a process, for what runs beside its worker.
pub(crate) struct Faults(Arc<InjectedFaults>);

impl Faults {
    /// Runs the relay that `start` makes, and another one after it was killed.
    pub(crate) async fn keep_relay<Relay: Future<Output = ()>>(
        &self,
        start: impl Fn() -> Relay,
        shutdown: &CancellationToken,
    ) {
        self.0.keep_relay(start, shutdown).await;
    }
}

impl Lab {
    fn new(options: &BackendOptions) -> Self {
        let experiments = experiments::places(options);
        let data_dir = (options.backend == BackendKind::Embedded).then(|| options.data_dir.clone());
        let kept_in = data_dir.as_ref().map(|folder| folder.join(LOAD_RUNS));
        let (faults, has_bank, direct) = (Arc::default(), false, None);
        Self { faults, has_bank, direct, experiments, kept_in, data_dir, secrets: None }
    }

    /// `None` for a process outside of demonstrations.
    pub(crate) fn of(demo: bool, options: &BackendOptions) -> Option<Self> {
        demo.then(|| Self::new(options))
    }

    /// A gateway's, with a direct gateway to compare with, if that is possible.
    pub(crate) async fn of_gateway(
        options: &BackendOptions,
        secrets: Secrets,
        log_json: bool,
    ) -> Option<Self> {
        let mut lab = Self::new(options);
        match DirectGateway::start(options, &secrets, log_json).await {
            Ok(direct) => lab.direct = Some(direct),
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "there is no direct gateway to compare with");
            }
        }
        lab.secrets = Some(secrets);
        Some(lab)
    }

    /// The back end with injected faults between it and this process.
    pub(crate) fn wrap(&self, backend: &Backend) -> Backend {
        self.faults.wrap(backend)
    }

    /// The bank with injected faults between it and this process.
    pub(crate) fn wrap_bank(&mut self, bank: Option<Arc<dyn Bank>>) -> Option<Arc<dyn Bank>> {
        self.has_bank = bank.is_some();
        bank.map(|bank| self.faults.wrap_bank(bank))
    }

    pub(crate) fn faults(&self) -> Faults {
        Faults(Arc::clone(&self.faults))
    }

    /// Applies the settings to this process.
    pub(crate) fn settings_handler<W: WorkerControl + 'static>(
        &self,
        process: ProcessId,
        worker: Option<Arc<W>>,
    ) -> Arc<dyn SettingsHandler> {
        let worker = worker.map(|worker| worker as Arc<dyn WorkerControl>);
        Arc::new(SettingsApplier::new(process, Arc::clone(&self.faults), worker))
    }

    /// The routes of the controls of a gateway that serves on `address`.
    pub(crate) fn controls(
        &self,
        backend: &Backend,
        feed: &Arc<Feed>,
        reporter: &Arc<Reporter>,
        address: SocketAddr,
        config: &seckill_gateway::Config,
        shutdown: CancellationToken,
    ) -> Router {
        let Some(Secrets { jwt_secret, admin_token, issuer, audience }) = self.secrets.clone() else {
            return Router::new();
        };
        let signer = Signer::hs256(jwt_secret.expose_secret()).with_claims(issuer, audience);
        let sign = move |user| {
            secrets::in_the_future(TOKEN_TTL).map(|end| signer.sign(user, end)).unwrap_or_default()
        };
        let controls = Controls {
            admins: config.admins.clone(),
            loopback: address.ip().is_loopback(),
            has_bank: self.has_bank,
            load: LoadConfig {
                target: base_url(address),
                direct: self.direct.as_ref().map(|direct| base_url(direct.address())),
                admin_token,
                sign: Arc::new(sign),
                kept_in: self.kept_in.clone(),
                transactions: None,
                command: command::of(self.data_dir.as_deref()),
            },
            experiments: self.experiments.clone(),
        };
        seckill_lab::routes(backend, feed, reporter, controls, shutdown)
    }

    /// Ends the direct gateway.
    pub(crate) async fn close(self) {
        if let Some(direct) = self.direct {
            direct.close().await;
        }
    }
}

/// The URL at which this machine reaches a server on `address`.
fn base_url(address: SocketAddr) -> String {
    let port = address.port();
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{port}"),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{port}"),
        _ => format!("http://{address}"),
    }
}
