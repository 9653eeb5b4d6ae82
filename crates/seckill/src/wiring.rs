//! Opens the back end that the options name.

use anyhow::{Result, bail};
use seckill_cluster::ClusterConfig;
use seckill_core::{Backend, Fault};

use crate::dashboard::Direct;
use crate::options::{BackendKind, BackendOptions, ClusterOptions};
use crate::secrets::Secrets;

impl ClusterOptions {
    fn config(&self) -> Result<ClusterConfig> {
        Ok(ClusterConfig {
            redis_url: self.redis_url()?,
            amqp_url: self.amqp_url()?,
            mysql_url: self.mysql_url()?,
            redis_pool_size: self.redis_pool_size,
        })
    }
}

/// Connects to Redis, RabbitMQ and MySQL. A server that is away is waited for, later, by whoever needs it. One that is
/// there and cannot be used (a wrong password, a database without schema) ends the process now, with the reason.
pub(crate) async fn cluster(options: &ClusterOptions) -> Result<Backend> {
    let backend = seckill_cluster::connect(&options.config()?)?;
    let (gate, queue, ledger) =
        tokio::join!(backend.gate.ping(), backend.queue.ping(), backend.ledger.ping());
    for answer in [gate, queue, ledger] {
        match answer {
            Err(fault @ (Fault::Misconfigured { .. } | Fault::Corrupt { .. })) => bail!(fault),
            Err(fault) => tracing::warn!(error = %fault, "starting all the same"),
            Ok(()) => {}
        }
    }
    Ok(backend)
}

/// Opens the back end and finds the secrets that go with it.
pub(crate) async fn backend(
    options: &BackendOptions,
    secrets: &crate::options::SecretOptions,
) -> Result<(Backend, Secrets)> {
    match options.backend {
        BackendKind::Embedded => {
            let backend = seckill_embedded::open(&options.data_dir).await?;
            // After the folder was opened, and so made and locked.
            Ok((backend, Secrets::kept(secrets, &options.data_dir)?))
        }
        BackendKind::Cluster => {
            let secrets = Secrets::given(secrets)?;
            Ok((cluster(&options.cluster).await?, secrets))
        }
    }
}

/// Brings the database to this version's schema.
pub(crate) async fn migrate(options: &ClusterOptions) -> Result<()> {
    Ok(seckill_cluster::migrate(&options.mysql_url()?).await?)
}

/// A gateway in direct mode to compare with, on the same kind of back end; the embedded one gets a folder of its own, beside
/// that of the gateway, because only one process may have it.
pub(crate) async fn direct(
    options: &BackendOptions,
    config: &seckill_gateway::Config,
) -> Result<Option<Direct>> {
    let (jwt_secret, admin_token) = (config.jwt_secret.clone(), config.admin_token.clone());
    let options = options.clone();
    Direct::start(jwt_secret, admin_token, move || async move {
        match options.backend {
            BackendKind::Embedded => Ok(seckill_embedded::open(&options.data_dir.join("direct")).await?),
            BackendKind::Cluster => cluster(&options.cluster).await,
        }
    })
    .await
}
