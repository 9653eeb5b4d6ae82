//! The ports on Redis, RabbitMQ and MySQL; the queue may be on Redis too. What an order is and how it is decided lives in `seckill-core`; the gateway
//! and the worker see this crate only as a [`Backend`].

mod capacity;
mod config;
mod control;
mod events;
mod fates;
mod gate;
mod identity;
mod ledger;
mod newer_log;
mod queue;
mod redis;
mod streams;
mod waiting;

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use identity::LedgerOfPlace;
use seckill_core::{Backend, EventBus, Fault, Ledger, LedgerId, OrderQueue, StockGate};
use thiserror::Error;

pub use config::{ClusterConfig, QueueKind, UrlError};
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
    let of_place = || LedgerOfPlace::new(Arc::clone(&identity), config::place(&mysql));
    let gate = gate::RedisGate::new(redis.clone(), config, of_place());
    let broker = config::amqp(&config.amqp_url)?;
    let queue = queue_of(config, &identity, of_place())?;
    let fates = Arc::new(fates::RedisFates::new(redis.clone()));
    let capacity = capacity::RedisLeases::new(redis.clone(), of_place());
    let waiting = waiting::RedisRooms::new(redis.clone(), of_place());
    let ledger = ledger::MySqlLedger::new(mysql, Arc::clone(&identity)).announcing(Arc::clone(&fates) as _);
    let ledger = Arc::new(ledger);
    let events = events::RabbitEvents::new(broker, identity, Some(Arc::clone(&ledger) as Arc<dyn Ledger>));
    Ok(Backend {
        name: "cluster",
        gate: Arc::new(gate),
        queue,
        ledger: Arc::clone(&ledger) as _,
        lifecycle: Arc::clone(&ledger) as _,
        outbox: ledger,
        events: Arc::new(events),
        control: Arc::new(control::RedisControl::new(redis)),
        fates,
        waiting: Arc::new(waiting),
        capacity: Arc::new(capacity),
    })
}

fn queue_of(
    config: &ClusterConfig,
    identity: &Arc<identity::Identity>,
    of_place: LedgerOfPlace,
) -> Result<Arc<dyn OrderQueue>, UrlError> {
    Ok(match config.queue {
        QueueKind::RabbitMq => {
            Arc::new(queue::RabbitQueue::new(config::amqp(&config.amqp_url)?, Arc::clone(identity)))
        }
        QueueKind::RedisStreams => {
            let server = match &config.queue_redis_url {
                Some(url) => config::queue_redis(url)?,
                None => config::redis(&config.redis_url)?,
            };
            Arc::new(streams::StreamQueue::new(server, config.redis_pool_size, of_place))
        }
    })
}

/// Whose events a bus carries.
#[derive(Clone, Copy)]
pub enum EventsOf<'a> {
    /// The ledger of this id.
    Ledger(LedgerId),
    /// The ledger in the database of this MySQL URL.
    Database(&'a str),
}

/// The event bus alone, for a process that needs neither gate nor ledger, such as a subscriber. RabbitMQ itself does not know
/// which ledgers use it; so where the ledger's id is not given, it is read from the database, once. RabbitMQ is connected to
/// on first use. Must be called within a Tokio runtime with time and I/O enabled.
///
/// # Errors
/// A URL that cannot be used, or a database that the id cannot be read from.
pub async fn connect_events(amqp_url: &str, whose: EventsOf<'_>) -> Result<Arc<dyn EventBus>, ConnectError> {
    let broker = config::amqp(amqp_url)?;
    let identity = Arc::new(identity::Identity::default());
    match whose {
        EventsOf::Ledger(id) => identity.learn(id)?,
        EventsOf::Database(url) => {
            // It takes in what it reads, and closes its connections when it is dropped here.
            ledger::MySqlLedger::new(config::mysql(url)?, Arc::clone(&identity)).id().await?;
        }
    }
    Ok(Arc::new(events::RabbitEvents::new(broker, identity, None)))
}

/// A gate alone, for the ledger of this id. Connects on first use. Must be called within a Tokio runtime with time and I/O enabled.
///
/// # Errors
/// A URL of `config` that cannot be used, or [`Fault::Misconfigured`]. Nothing was contacted.
pub fn connect_gate(config: &ClusterConfig, ledger: LedgerId) -> Result<Arc<dyn StockGate>, ConnectError> {
    let (redis, mysql) = (config::redis(&config.redis_url)?, config::mysql(&config.mysql_url)?);
    let identity = Arc::new(identity::Identity::default());
    identity.learn(ledger)?;
    let identity = LedgerOfPlace::new(identity, config::place(&mysql));
    Ok(Arc::new(gate::RedisGate::new(redis, config, identity)))
}

/// A queue alone, for the ledger of this id. Connects on first use. Must be called within a Tokio runtime with time and I/O enabled.
///
/// # Errors
/// A URL of `config` that cannot be used, or [`Fault::Misconfigured`]. Nothing was contacted.
pub fn connect_queue(config: &ClusterConfig, ledger: LedgerId) -> Result<Arc<dyn OrderQueue>, ConnectError> {
    let mysql = config::mysql(&config.mysql_url)?;
    let identity = Arc::new(identity::Identity::default());
    identity.learn(ledger)?;
    let of_place = LedgerOfPlace::new(Arc::clone(&identity), config::place(&mysql));
    Ok(queue_of(config, &identity, of_place)?)
}

/// Why the event bus, a gate or a queue cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The database did not say whose events they are.
    #[error(transparent)]
    Fault(#[from] Fault),
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
