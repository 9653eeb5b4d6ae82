//! Opens the back end that the options name.

use anyhow::{Result, bail};
use seckill_cluster::ClusterConfig;
use seckill_core::{Backend, Fault};

use crate::options::{BackendKind, BackendOptions, ClusterOptions};
use crate::secrets::Secrets;

impl ClusterOptions {
    fn config(&self) -> ClusterConfig {
        ClusterConfig {
            redis_url: self.redis_url.clone(),
            amqp_url: self.amqp_url.clone(),
            mysql_url: self.mysql_url.clone(),
            redis_pool_size: self.redis_pool_size,
        }
    }
}

/// Connects to Redis, RabbitMQ and MySQL. A server that is away is waited for, later, by whoever needs it; a database
/// that answers and cannot be used never gets better by waiting, so it ends the process now.
pub(crate) async fn cluster(options: &ClusterOptions) -> Result<Backend> {
    let backend = seckill_cluster::connect(&options.config())?;
    match backend.ledger.ping().await {
        Err(fault @ Fault::Corrupt { .. }) => bail!(fault),
        Err(fault) => tracing::warn!(error = %fault, "starting without the ledger"),
        Ok(()) => {}
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
    Ok(seckill_cluster::migrate(&options.mysql_url).await?)
}
