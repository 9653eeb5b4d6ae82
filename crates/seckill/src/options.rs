//! Flags that several commands share, and how they become the configuration of a library.

pub(crate) mod drain;
pub(crate) mod secrets;
pub(crate) mod servers;
pub(crate) mod tokens;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::{FalseyValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use seckill_bank::client::HttpBank;
use seckill_core::{Bank, Mode};
use seckill_gateway::buyers::BuyerKeys;
use seckill_gateway::direct::DirectConfig;
use seckill_gateway::intake::IntakeConfig;
use seckill_gateway::recover::RecoverConfig;
use seckill_lifecycle::{expire, refund};
use seckill_token::admin::AdminTokens;
use seckill_token::ticket::Keys;
use seckill_worker::Pace;
use url::Url;
use uuid::Uuid;

use self::drain::DrainOptions;
use self::servers::{AmqpOptions, MysqlOptions};
use crate::given::Given;
use crate::words;
use crate::worker_parts::{AfterConfig, WorkerParts};

/// The default folder of the embedded back end.
pub(crate) const DATA_DIR: &str = "seckill-data";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendKind {
    /// In memory and SQLite: one process, nothing to install
    Embedded,
    /// On Redis, RabbitMQ and MySQL
    Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueueOption {
    /// Quorum queues of RabbitMQ
    Rabbitmq,
    /// Streams of Redis. On the Redis of the gate, losing that Redis loses gate and queue at once, and with them orders that buyers
    /// were promised: give the queue a Redis of its own with `--queue-redis-url`
    RedisStreams,
}

impl QueueOption {
    /// As the command line has it.
    #[cfg(feature = "lab")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::RedisStreams => "redis-streams",
        }
    }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Back end")]
pub(crate) struct BackendOptions {
    /// Where the stock, the queue and the orders are
    #[arg(long, env = "SECKILL_BACKEND", value_enum, default_value = "embedded")]
    pub(crate) backend: BackendKind,
    /// Folder of the embedded back end
    #[arg(long, env = "SECKILL_DATA_DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

/// Where events come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Back end")]
pub(crate) struct EventsOptions {
    /// Where the stock, the queue and the orders are
    #[arg(long, env = "SECKILL_BACKEND", value_enum, default_value = "embedded")]
    pub(crate) backend: BackendKind,
    /// Folder of the embedded back end
    #[arg(long, env = "SECKILL_DATA_DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) amqp: AmqpOptions,
    #[command(flatten)]
    pub(crate) mysql: MysqlOptions,
    /// Whose events, on the cluster back end: the end of every event's `source`. With it MySQL is not needed [default: read
    /// from MySQL]
    #[arg(long, env = "SECKILL_LEDGER_ID", value_name = "UUID", value_parser = words::ledger_id)]
    pub(crate) ledger_id: Option<Uuid>,
}

#[derive(Clone, Args)]
#[command(next_help_heading = "Servers of the cluster back end")]
pub(crate) struct ClusterOptions {
    /// Redis of the cluster back end; by default redis://127.0.0.1:6379/0
    #[arg(long, env = "SECKILL_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// File that holds the URL of Redis, in place of the URL
    #[arg(long, env = "SECKILL_REDIS_URL_FILE", value_name = "FILE")]
    redis_url_file: Option<OsString>,
    #[command(flatten)]
    amqp: AmqpOptions,
    #[command(flatten)]
    pub(crate) mysql: MysqlOptions,
    /// Where accepted orders wait, on the cluster back end. Events are on RabbitMQ in any case. The same in every process
    #[arg(long, env = "SECKILL_QUEUE", value_enum, default_value = "rabbitmq")]
    pub(crate) queue: QueueOption,
    /// Redis of the queue, with `--queue redis-streams`; by default the Redis of the gate. Only with a Redis of its own no promised
    /// order is lost when either of the two loses its data
    #[arg(long, env = "SECKILL_QUEUE_REDIS_URL", hide_env_values = true)]
    queue_redis_url: Option<String>,
    /// File that holds the URL of the queue's Redis, in place of the URL
    #[arg(long, env = "SECKILL_QUEUE_REDIS_URL_FILE", value_name = "FILE")]
    queue_redis_url_file: Option<OsString>,
    /// Database of experiments (`seckill lab`), whose user may create and drop tables; by default that of `--mysql-url`
    #[cfg(feature = "lab")]
    #[arg(long, env = "SECKILL_LAB_MYSQL_URL", hide_env_values = true)]
    lab_mysql_url: Option<String>,
    /// File that holds the URL of the database of experiments, in place of the URL
    #[cfg(feature = "lab")]
    #[arg(long, env = "SECKILL_LAB_MYSQL_URL_FILE", value_name = "FILE")]
    lab_mysql_url_file: Option<OsString>,
    /// Connections to Redis, at the most
    #[arg(long, env = "SECKILL_REDIS_POOL_SIZE", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) redis_pool_size: usize,
    /// Trust Redis after a restart instead of rebuilding its gates. Only for a Redis with `appendfsync always` and no replica
    #[arg(long, env = "SECKILL_GATE_DURABLE", value_parser = FalseyValueParser::new())]
    pub(crate) gate_durable: bool,
}

impl ClusterOptions {
    /// The URL of Redis.
    ///
    /// # Errors
    /// The file with the URL cannot be read, or URL and file are both given. The same holds for the next four.
    pub(crate) fn redis_url(&self) -> Result<String> {
        let given = Given::new("--redis-url", &self.redis_url, &self.redis_url_file);
        given.read_or("redis://127.0.0.1:6379/0")
    }

    /// The URL of the queue's own Redis.
    pub(crate) fn queue_redis_url(&self) -> Result<Option<String>> {
        Given::new("--queue-redis-url", &self.queue_redis_url, &self.queue_redis_url_file).read()
    }

    /// The URL of the database of experiments; `None`: it is that of the ledger.
    #[cfg(feature = "lab")]
    pub(crate) fn lab_mysql_url(&self) -> Result<Option<String>> {
        Given::new("--lab-mysql-url", &self.lab_mysql_url, &self.lab_mysql_url_file).read()
    }

    /// The URL of RabbitMQ.
    pub(crate) fn amqp_url(&self) -> Result<String> {
        self.amqp.url()
    }

    /// The URL of MySQL or MariaDB.
    pub(crate) fn mysql_url(&self) -> Result<String> {
        self.mysql.url()
    }
}

/// Prints no URL, because URLs may have passwords.
impl std::fmt::Debug for ClusterOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterOptions").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServerOptions {
    /// Gateway (or, for a health check, worker) to ask, as http://HOST:PORT or HOST:PORT
    #[arg(long, env = "SECKILL_SERVER", default_value = "http://127.0.0.1:8080", value_parser = words::server)]
    pub(crate) server: Url,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GatewayMode {
    /// Gate, queue, and a worker behind it
    Queue,
    /// Straight into the database
    Direct,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub(crate) struct GatewayOptions {
    /// Address to serve HTTP on, as HOST:PORT; a port alone is one of this machine only
    #[arg(long, env = "SECKILL_LISTEN", default_value = "127.0.0.1:8080", value_parser = words::listen)]
    pub(crate) listen: String,
    /// Lanes of a sale: batches that may be under way at the same time. Raise it where one batch of 256 orders takes so long that orders
    /// wait
    #[arg(long, env = "SECKILL_LANES", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) lanes: usize,
    /// Orders of a sale that may wait for a lane; more are refused as `overloaded`
    #[arg(long, env = "SECKILL_INTAKE_CAPACITY", default_value_t = 16_384, value_parser = at_least_one)]
    pub(crate) intake_capacity: usize,
    /// Path of an order. `direct` is for comparison: past gate and queue, one transaction an order, without a worker.
    /// A sale is sold by gateways of the mode that opened it
    #[arg(long, env = "SECKILL_MODE", value_enum, default_value = "queue")]
    pub(crate) mode: GatewayMode,
    /// In direct mode, transactions that may be under way at the same time
    #[arg(long, env = "SECKILL_DIRECT_WRITERS", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) direct_writers: usize,
    /// Orders in one batch, at the most 256; 1 turns batching off
    #[arg(long, env = "SECKILL_INTAKE_BATCH", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) intake_batch: u16,
    /// Orders a second that one user may send, and twice as many at once; 0: no limit
    #[arg(long, env = "SECKILL_ORDER_RATE_LIMIT", default_value_t = 10)]
    pub(crate) order_rate_limit: u32,
    /// Other requests a second that one user may send, and twice as many at once; 0: no limit
    #[arg(long, env = "SECKILL_READ_RATE_LIMIT", default_value_t = 20)]
    pub(crate) read_rate_limit: u32,
    /// Connections at the same time; more wait to be accepted
    #[arg(long, env = "SECKILL_MAX_CONNECTIONS", default_value_t = 30_000, value_parser = at_least_one)]
    pub(crate) max_connections: usize,
    /// After this long without a confirm, a reservation is published once more
    #[arg(long, env = "SECKILL_STRANDED_AFTER", default_value = "10s", value_parser = stranded_after)]
    pub(crate) stranded_after: Duration,
    /// How long a shutdown may take
    #[arg(long, env = "SECKILL_GRACE", default_value = "20s", value_parser = words::duration)]
    pub(crate) grace: Duration,
    /// File with the keys that sign purchase tickets: a line `ID SECRET` each, the secret of 32 characters or more. The first
    /// signs, all of them verify; gateways share them. To change the key add the new one at the end and restart every gateway,
    /// then move it to the front and restart, then remove the old one [default: a key derived from --jwt-secret]
    #[arg(long, env = "SECKILL_TICKET_KEYS_FILE", value_name = "FILE")]
    ticket_keys_file: Option<PathBuf>,
}

impl GatewayOptions {
    /// The keys of purchase tickets; `None`: they are derived.
    ///
    /// # Errors
    /// The file cannot be read, or has no keys; the message says in which line.
    pub(crate) fn ticket_keys(&self) -> Result<Option<Arc<Keys>>> {
        let Some(path) = &self.ticket_keys_file else { return Ok(None) };
        let wrong = || format!("cannot use the ticket keys in {}", path.display());
        let text = std::fs::read_to_string(path).with_context(wrong)?;
        Ok(Some(Arc::new(Keys::parse(&text).with_context(wrong)?)))
    }

    pub(crate) fn config(&self, buyers: Arc<BuyerKeys>, admins: AdminTokens) -> seckill_gateway::Config {
        let config = seckill_gateway::Config::with_keys(buyers, admins);
        seckill_gateway::Config {
            intake: IntakeConfig {
                lanes: self.lanes,
                lane_capacity: self.intake_capacity.div_ceil(self.lanes),
                max_batch: usize::from(self.intake_batch),
                ..config.intake
            },
            mode: match self.mode {
                GatewayMode::Queue => Mode::Queue,
                GatewayMode::Direct => Mode::Direct,
            },
            direct: DirectConfig {
                writers: self.direct_writers,
                capacity: self.intake_capacity,
                ..config.direct
            },
            recover: RecoverConfig { deadline: self.stranded_after, ..config.recover },
            order_rate_limit: self.order_rate_limit,
            read_rate_limit: self.read_rate_limit,
            max_connections: self.max_connections,
            grace: self.grace,
            ..config
        }
    }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Worker")]
pub(crate) struct WorkerOptions {
    #[command(flatten)]
    pub(crate) drain: DrainOptions,
    /// Orders in one transaction, at the most; at a low drain rate it is a tenth of a second's worth
    #[arg(long, env = "SECKILL_COMMIT_BATCH", default_value_t = seckill_worker::MAX_BATCH, value_parser = commit_batch)]
    pub(crate) commit_batch: NonZeroU32,
    /// How long a batch waits to be filled
    #[arg(long, env = "SECKILL_LINGER", default_value = "20ms", value_parser = words::duration)]
    pub(crate) linger: Duration,
    /// Transactions that may be under way at the same time
    #[arg(long, env = "SECKILL_WORKER_LANES", default_value_t = 2, value_parser = at_least_one)]
    pub(crate) worker_lanes: usize,
    /// Unacknowledged messages that each of them may hold
    #[arg(long, env = "SECKILL_PREFETCH", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) prefetch: u16,
    /// Orders a second that this worker may cancel because their time to pay is over; not part of the drain rate
    #[arg(long, env = "SECKILL_EXPIRY_RATE", default_value_t = expire::Config::DEFAULT_RATE, value_parser = expiry_rate)]
    pub(crate) expiry_rate: NonZeroU32,
}

impl WorkerOptions {
    pub(crate) fn config(&self) -> seckill_worker::Config {
        seckill_worker::Config { lanes: self.worker_lanes, linger: self.linger, prefetch: self.prefetch }
    }

    pub(crate) fn expiry(&self) -> expire::Config {
        expire::Config { rate: self.expiry_rate }
    }

    /// All of it, for a worker inside a gateway's process.
    pub(crate) fn parts(&self, after: AfterConfig) -> WorkerParts {
        WorkerParts { config: self.config(), pace: self.pace(), after }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.drain.pace(self.commit_batch)
    }
}

#[derive(Clone, Args)]
#[command(next_help_heading = "Payments and refunds")]
pub(crate) struct MoneyOptions {
    /// Address of the bank that charges cards, such as http://127.0.0.1:8090; `seckill bank` starts one to try things with
    /// [default: nothing is paid by card]
    #[arg(long, env = "SECKILL_BANK_URL", value_parser = words::server)]
    bank_url: Option<Url>,
    /// Secret with which the bank signs its webhooks, 16 characters or more; with it the gateway takes them at /api/v1/bank/news
    #[arg(long, env = "SECKILL_BANK_SECRET", hide_env_values = true)]
    bank_secret: Option<String>,
    /// File that holds the secret with which the bank signs, in place of the secret
    #[arg(long, env = "SECKILL_BANK_SECRET_FILE", value_name = "FILE")]
    bank_secret_file: Option<OsString>,
    /// Refunds of more than this, in hundredths of the currency, wait for a human
    #[arg(long, env = "SECKILL_REFUND_HOLD_ABOVE", default_value_t = refund::Rules::default().hold_above_cents)]
    refund_hold_above: u64,
}

/// Prints no secret.
impl std::fmt::Debug for MoneyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MoneyOptions").finish_non_exhaustive()
    }
}

impl MoneyOptions {
    pub(crate) fn bank(&self) -> Result<Option<Arc<dyn Bank>>> {
        let Some(url) = &self.bank_url else { return Ok(None) };
        Ok(Some(Arc::new(HttpBank::new(seckill_bank::client::Config::new(url.clone()))?)))
    }

    pub(crate) fn bank_secret(&self) -> Result<Option<String>> {
        let secret = Given::new("--bank-secret", &self.bank_secret, &self.bank_secret_file).read()?;
        let short = secret.as_ref().is_some_and(|secret| secret.len() < 16);
        ensure!(
            !short,
            "--bank-secret (SECKILL_BANK_SECRET) is shorter than 16 characters; give the bank's own"
        );
        Ok(secret)
    }

    pub(crate) fn rules(&self) -> refund::Rules {
        refund::Rules { hold_above_cents: self.refund_hold_above }
    }
}

#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Demonstration")]
pub(crate) struct DemoOptions {
    /// Give the dashboard its controls, which send load and inject faults. For demonstrations, never for real sales. On a
    /// loopback address everybody who reaches the gateway may use them; do not put a proxy in front of it
    #[arg(
        long = "demo-controls",
        env = "SECKILL_DEMO",
        value_parser = FalseyValueParser::new().try_map(available),
        hide = !cfg!(feature = "lab")
    )]
    pub(crate) demo: bool,
}

/// What a program that was built without the feature `lab` answers to those who want a demonstration.
pub(crate) const WITHOUT_LAB: &str = "this seckill was built without demonstrations (`seckill demo`, `seckill lab`, --demo-controls, SECKILL_DEMO); build it with the feature \
     `lab`, which is on by default";

fn available(demo: bool) -> Result<bool, &'static str> {
    if demo && !cfg!(feature = "lab") { Err(WITHOUT_LAB) } else { Ok(demo) }
}

/// A reservation that is published again while its own gateway still waits for the confirm costs a duplicate for every order.
fn stranded_after(text: &str) -> Result<Duration, String> {
    let after =
        humantime::parse_duration(text).map_err(|error| format!("{error}; give something like 10s"))?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3_600);
    if allowed.contains(&after) { Ok(after) } else { Err("give 1s to 1h, such as 10s".to_owned()) }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count >= 1).ok_or_else(|| "give a whole number, 1 or more".to_owned())
}

fn expiry_rate(text: &str) -> Result<NonZeroU32, String> {
    let rate = text.parse().ok().filter(|rate: &NonZeroU32| rate.get() <= 1_000_000);
    rate.ok_or_else(|| "give a whole number from 1 to 1000000".to_owned())
}

fn commit_batch(text: &str) -> Result<NonZeroU32, String> {
    let batch = text.parse().ok().filter(|batch: &NonZeroU32| batch.get() <= 2_000);
    batch.ok_or_else(|| "give a whole number from 1 to 2000".to_owned())
}
