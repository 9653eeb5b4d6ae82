//! The ports on Redis, RabbitMQ and MySQL. What an order is and how it is decided lives in `seckill-core`; the gateway
//! and the worker see this crate only as a [`Backend`].

mod config;
mod control;
mod gate;
mod identity;
mod ledger;
mod queue;
mod redis;

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use seckill_core::{Backend, Fault};
use thiserror::Error;

pub use config::{ClusterConfig, UrlError};
pub use queue::names;

/// The ports on the servers of `config`. Builds without connecting: no server has to be up, and each is connected to on
/// first use and again whenever a connection is lost. Must be called within a Tokio runtime with time and I/O enabled.
///
/// # Errors
/// A URL that cannot be used. Nothing was contacted.
pub fn connect(config: &ClusterConfig) -> Result<Backend, UrlError> {
    let redis = config::redis(&config.redis_url)?;
    let mysql = config::mysql(&config.mysql_url)?;
    let identity = Arc::new(identity::Identity::default());
    let gate = gate::RedisGate::new(redis.clone(), config, config::place(&mysql), Arc::clone(&identity));
    let queue = queue::RabbitQueue::new(config::amqp(&config.amqp_url)?, Arc::clone(&identity));
    let ledger = ledger::MySqlLedger::new(mysql, identity);
    Ok(Backend {
        name: "cluster",
        gate: Arc::new(gate),
        queue: Arc::new(queue),
        ledger: Arc::new(ledger),
        control: Arc::new(control::RedisControl::new(redis)),
    })
}

/// Brings the database of `mysql_url` to this version's schema. Calling it again changes nothing; of several callers at
/// once the others wait for the first.
///
/// # Errors
/// [`MigrateError`]; what had been applied before stays, and calling again goes on from there.
// Boxed, so that it is compiled with this crate and not again with each one that waits for it.
pub fn migrate(mysql_url: &str) -> LocalBoxFuture<'_, Result<(), MigrateError>> {
    Box::pin(async move { ledger::migrate(config::mysql(mysql_url)?).await })
}

/// Why the schema could not be brought up to date.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database cannot be used.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The database is not as a migration left it, or refused one; says what to do.
    #[error("the ledger's schema cannot be brought up to date: {0}")]
    Schema(String),
}
