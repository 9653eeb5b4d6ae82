//! The system of a demo: a gateway and a worker in this process, with their back end.

use anyhow::{Context, Result};
use seckill_core::Backend;
use seckill_worker::Pace;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::demo::{DemoArgs, DemoBackend};
use crate::gateway_process::GatewayProcess;
use crate::lab::Lab;
use crate::options::{BackendKind, BackendOptions};
use crate::secrets::Secrets;
use crate::worker_parts::{AfterConfig, WorkerParts};
use crate::{backend, roles, telemetry};

pub(super) struct System {
    pub(super) server: Url,
    pub(super) jwt_secret: SecretString,
    pub(super) admin_token: SecretString,
    pub(super) backend_name: &'static str,
    gateway: JoinHandle<Result<()>>,
    stop: CancellationToken,
    /// Removed at the end; `None` on the cluster back end.
    _data_dir: Option<TempDir>,
}

impl System {
    /// `page_opened` is told when the first page is open.
    pub(super) async fn start(args: &DemoArgs, page_opened: oneshot::Sender<()>) -> Result<Self> {
        let prometheus = telemetry::metrics()?;
        let listener = roles::listen(&format!("127.0.0.1:{}", args.port), "--port").await?;
        let server = Url::parse(&format!("http://{}", listener.local_addr()?))?;
        let (options, data_dir) = back_end_options(args)?;
        let backend = open_back_end(&options).await?;
        let backend_name = backend.name;
        let secrets = match &data_dir {
            Some(folder) => Secrets::new_in(folder.path())?,
            None => Secrets::random(),
        };
        let Secrets { jwt_secret, admin_token, .. } = secrets.clone();
        let config = seckill_gateway::Config::new(jwt_secret.clone(), admin_token.clone());
        let pace = Pace::new(args.drain_rate, seckill_worker::MAX_BATCH);
        let lab = Lab::of_gateway(&options, secrets, args.log.json).await;

        let worker = Some(WorkerParts {
            config: seckill_worker::Config::default(),
            pace,
            after: AfterConfig::default(),
        });
        let process = GatewayProcess {
            listener,
            admin: None,
            backend,
            config,
            bank: None,
            bank_secret: None,
            worker,
            lab,
            prometheus,
            first_page: Some(page_opened),
        };
        let stop = CancellationToken::new();
        let gateway = tokio::spawn(process.run(stop.clone()));
        Ok(Self { server, jwt_secret, admin_token, backend_name, gateway, stop, _data_dir: data_dir })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.gateway.await.context("the gateway panicked")?
    }
}

/// The options with a new folder for the embedded back end.
fn back_end_options(args: &DemoArgs) -> Result<(BackendOptions, Option<TempDir>)> {
    let DemoBackend { backend, cluster } = args.backend.clone();
    let folder = match backend {
        BackendKind::Embedded => {
            let folder = tempfile::Builder::new().prefix("seckill-demo-").tempdir();
            Some(folder.context("cannot make a folder")?)
        }
        BackendKind::Cluster => None,
    };
    let data_dir = folder.as_ref().map(|folder| folder.path().to_owned()).unwrap_or_default();
    Ok((BackendOptions { backend, data_dir, cluster }, folder))
}

async fn open_back_end(options: &BackendOptions) -> Result<Backend> {
    match options.backend {
        BackendKind::Embedded => Ok(seckill_embedded::open(&options.data_dir).await?),
        BackendKind::Cluster => {
            backend::migrate(&options.cluster.mysql).await?;
            backend::cluster(&options.cluster).await
        }
    }
}
