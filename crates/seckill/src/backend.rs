//! Opens the back end that the options name.

use std::sync::Arc;

use anyhow::{Result, bail};
use seckill_cluster::{ClusterConfig, EventsOf, QueueKind};
use seckill_core::{Backend, EventBus, Fault, LedgerId};

use crate::options::servers::MysqlOptions;
use crate::options::{BackendKind, ClusterOptions, EventsOptions, QueueOption};

impl ClusterOptions {
    pub(crate) fn config(&self) -> Result<ClusterConfig> {
        Ok(ClusterConfig {
            redis_url: self.redis_url()?,
            amqp_url: self.amqp_url()?,
            mysql_url: self.mysql_url()?,
            redis_pool_size: self.redis_pool_size,
            gate_durable: self.gate_durable,
            queue: match self.queue {
                QueueOption::Rabbitmq => QueueKind::RabbitMq,
                QueueOption::RedisStreams => QueueKind::RedisStreams,
            },
            queue_redis_url: self.queue_redis_url()?,
        })
    }
}

/// Connects to Redis, RabbitMQ and MySQL. A server that is away now may come back later. A server that cannot be used (a
/// wrong password, a database without schema) is an error, which ends the process.
pub(crate) async fn cluster(options: &ClusterOptions) -> Result<Backend> {
    let config = options.config()?;
    let backend = seckill_cluster::connect(&config)?;
    if config.queue == QueueKind::RedisStreams && config.queue_redis_url.is_none() {
        tracing::warn!(
            "gate and queue are on one Redis: if it loses its data, orders that buyers were promised are lost with it; \
             --queue-redis-url gives the queue a Redis of its own"
        );
    }
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

/// Opens the event bus alone: beside whoever has the data folder open, and without Redis.
pub(crate) async fn events(options: &EventsOptions) -> Result<Arc<dyn EventBus>> {
    match options.backend {
        BackendKind::Embedded => Ok(seckill_embedded::open_events(&options.data_dir).await?),
        BackendKind::Cluster => {
            let (amqp_url, mysql_url) = (options.amqp.url()?, options.mysql.url()?);
            let whose = match options.ledger_id {
                Some(id) => EventsOf::Ledger(LedgerId(id)),
                None => EventsOf::Database(&mysql_url),
            };
            Ok(seckill_cluster::connect_events(&amqp_url, whose).await?)
        }
    }
}

/// Brings the database to this version's schema.
pub(crate) async fn migrate(options: &MysqlOptions) -> Result<()> {
    Ok(seckill_cluster::migrate(&options.url()?).await?)
}
