//! Where an experiment runs: tables, queues and a gate of its own, which nothing of the product uses.
//!
//! What it makes has fixed names, so the next run of an experiment removes what a killed one has left. So there is only one at a
//! time on a database, which all have to use that share a RabbitMQ or a Redis: on MySQL a named lock makes sure, which ends with its connection; an embedded place is a folder of its own.

use std::any::Any;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use seckill_core::{Epoch, EventBus, LedgerId, NewSale, OrderQueue, Sale, SaleId, StockGate};
use serde::Serialize;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection};
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use super::Trouble;
use super::queue::Queue;
use crate::sale::demo_sale;

/// Connections to the experiment's tables.
const CONNECTIONS: u32 = 32;
const CONNECT: Duration = Duration::from_secs(10);
/// Named on the MySQL server, together with the database.
const LOCK: &str = "SELECT CAST(COALESCE(GET_LOCK(CONCAT('seckill lab ', DATABASE()), 0), 0) AS SIGNED)";
/// The epoch that an experiment's gate is filled on.
pub(crate) const EPOCH: Epoch = 1;

/// Which back end an experiment runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    Embedded,
    Cluster,
}

/// What a place is made of.
pub struct Parts {
    pub store: Store,
    /// `sqlite://…` or `mysql://…`.
    pub sql_url: String,
    pub bus: Arc<dyn EventBus>,
    pub gate: Arc<dyn StockGate>,
    /// `None` on the embedded back end.
    pub redis_url: Option<String>,
    /// The queue of orders on Redis Streams, for [`Place::LEDGER`]; `None` on the embedded back end.
    pub streams: Option<Arc<dyn OrderQueue>>,
    /// Lives as long as the place, such as the folder that it is in.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// Where an experiment runs.
pub struct Place {
    parts: Parts,
    sql: AnyPool,
    /// The names of the tables, queues and sales that are there now.
    tables: Mutex<Vec<&'static str>>,
    queues: AsyncMutex<Vec<Queue>>,
    sales: Mutex<Vec<SaleId>>,
    has_streams: AtomicBool,
    /// Has the lock on MySQL. Never used again; the mutex is there because a connection cannot be shared between threads.
    _lock: Mutex<Option<AnyConnection>>,
}

impl Place {
    /// The ledger that the queues and gates of experiments belong to, which is nobody's. So nothing of the product sees them.
    pub const LEDGER: LedgerId = LedgerId(Uuid::from_u128(0x5ec1_a8b0_0000_7000_8000_0000_0000_1ab5));

    /// Connects to the tables.
    ///
    /// # Errors
    /// [`Trouble::Sql`] when they cannot be reached, [`Trouble::Busy`] while another experiment runs there.
    pub async fn open(parts: Parts) -> Result<Self, Trouble> {
        sqlx::any::install_default_drivers();
        let lock = match parts.store {
            Store::Embedded => None,
            Store::Cluster => {
                let mut connection = AnyConnection::connect(&parts.sql_url).await?;
                let taken: i64 = sqlx::query_scalar(LOCK).fetch_one(&mut connection).await?;
                if taken != 1 {
                    return Err(Trouble::Busy);
                }
                Some(connection)
            }
        };
        // Waiting for the database is the point of some experiments, so nobody is warned of it.
        let quiet = AnyConnectOptions::from_str(&parts.sql_url)?.disable_statement_logging();
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(CONNECT);
        let sql = options.acquire_slow_threshold(CONNECT).connect_with(quiet).await?;
        if parts.store == Store::Embedded {
            // Readers do not wait for the writer, as on MySQL.
            sqlx::query("PRAGMA journal_mode = WAL").execute(&sql).await?;
        }
        Ok(Self {
            parts,
            sql,
            tables: Mutex::default(),
            queues: AsyncMutex::default(),
            sales: Mutex::default(),
            has_streams: AtomicBool::new(false),
            _lock: Mutex::new(lock),
        })
    }

    pub(crate) fn store(&self) -> Store {
        self.parts.store
    }

    /// The tables' database. SQL must be such that SQLite and MySQL both take it.
    pub(crate) fn sql(&self) -> &AnyPool {
        &self.sql
    }

    pub(crate) fn gate(&self) -> &Arc<dyn StockGate> {
        &self.parts.gate
    }

    /// A connection to Redis of the caller's own. Keys begin with `seckill:lab:`, and are the caller's to remove.
    pub(crate) async fn redis(&self) -> Result<MultiplexedConnection, Trouble> {
        let url = self.parts.redis_url.as_deref().ok_or(Trouble::NeedsServers("this experiment"))?;
        let client = deadpool_redis::redis::Client::open(url)?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// The queue of orders on Redis Streams, empty.
    pub(crate) async fn streams(&self) -> Result<Arc<dyn OrderQueue>, Trouble> {
        let streams = self.parts.streams.as_ref().ok_or(Trouble::NeedsServers("this experiment"))?;
        self.remove_streams().await?;
        self.has_streams.store(true, Relaxed);
        Ok(Arc::clone(streams))
    }

    async fn remove_streams(&self) -> Result<(), Trouble> {
        let mut redis = self.redis().await?;
        let keys = ["orders", "orders:parked", "orders:newer"];
        let keys = keys.map(|name| format!("seckill:{{{}}}:{name}", Self::LEDGER));
        let () = deadpool_redis::redis::cmd("UNLINK").arg(&keys[..]).query_async(&mut redis).await?;
        Ok(())
    }

    /// Makes an empty table. Its name begins with `lab_`; `columns` is what stands in the parentheses.
    pub(crate) async fn table(&self, name: &'static str, columns: &'static str) -> Result<(), Trouble> {
        self.drop_table(name).await?;
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        sqlx::query(AssertSqlSafe(format!("CREATE TABLE {name} ({columns})"))).execute(&self.sql).await?;
        Ok(())
    }

    async fn drop_table(&self, name: &'static str) -> Result<(), Trouble> {
        sqlx::query(AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}"))).execute(&self.sql).await?;
        Ok(())
    }

    /// What a query counts; 0 for NULL. A sum has to be cast: `CAST(SUM(x) AS SIGNED)`.
    pub(crate) async fn count(&self, sql: &'static str) -> Result<u64, Trouble> {
        let count: Option<i64> = sqlx::query_scalar(sql).fetch_one(&self.sql).await?;
        Ok(count.unwrap_or_default().unsigned_abs())
    }

    /// Makes an empty queue of this name, which is durable, has confirms, and gives back what was not acknowledged.
    pub(crate) async fn queue(&self, name: &'static str) -> Result<Queue, Trouble> {
        self.queue_of(name, name).await
    }

    /// As [`Self::queue`]; whatever is sent to any queue of this topic comes to each of them.
    pub(crate) async fn queue_of(&self, name: &'static str, topic: &'static str) -> Result<Queue, Trouble> {
        let queue = Queue::new(Arc::clone(&self.parts.bus), name, topic);
        self.queues.lock().await.push(queue.clone());
        queue.open().await?;
        Ok(queue)
    }

    /// Opens a sale at the gate, of one unit a user.
    pub(crate) async fn sale(&self, id: u64, stock: u32) -> Result<Sale, Trouble> {
        let new = demo_sale("lab", stock);
        // Redis has a clock of its own.
        let starts_at = new.starts_at - chrono::TimeDelta::minutes(1);
        let sale = Sale::new(SaleId(id), NewSale { starts_at, ..new });
        self.sales.lock().unwrap_or_else(PoisonError::into_inner).push(sale.id);
        self.parts.gate.remove(sale.id).await?;
        self.parts.gate.open(&sale, EPOCH).await?;
        Ok(sale)
    }

    /// Removes everything that was made here, as far as the servers answer.
    ///
    /// # Errors
    /// The first one; the rest was removed all the same.
    pub(crate) async fn clear(&self) -> Result<(), Trouble> {
        let mut cleared = Ok(());
        let tables = std::mem::take(&mut *self.tables.lock().unwrap_or_else(PoisonError::into_inner));
        for name in tables {
            cleared = cleared.and(self.drop_table(name).await);
        }
        let queues = std::mem::take(&mut *self.queues.lock().await);
        for queue in queues {
            cleared = cleared.and(queue.remove().await.map_err(Trouble::from));
        }
        if self.has_streams.swap(false, Relaxed) {
            cleared = cleared.and(self.remove_streams().await);
        }
        let sales = std::mem::take(&mut *self.sales.lock().unwrap_or_else(PoisonError::into_inner));
        for sale in sales {
            cleared = cleared.and(self.parts.gate.remove(sale).await.map_err(Trouble::from));
        }
        cleared
    }
}
