//! Back ends on the tests' servers, and what goes into them.

use std::sync::Arc;
use std::time::Duration;

use seckill_cluster::{ClusterConfig, QueueKind};
use seckill_core::{Backend, KnownSales, Ledger, LedgerId, NewSale, Sale, SaleId, StockGate};
pub(crate) use seckill_testkit::fixtures::{claim, order};
use seckill_testkit::{TestMySql, fixtures};

/// Longer than anything takes; only a failing test waits so long.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// An address where nothing listens.
const NOWHERE: &str = "127.0.0.1:1";

/// Whose sales the gates of the tests are for.
pub(crate) const LEDGER: LedgerId = LedgerId(uuid::Uuid::from_u128(7));

/// A back end with the gate at `url`; its other servers do not exist. The gate has to find the ledger's id, see
/// [`know_ledger`].
pub(crate) fn gate_at(url: &str) -> Backend {
    gate_of(url, false)
}

/// The same, with a gate whose server is said to lose nothing when it is started again.
pub(crate) fn durable_gate_at(url: &str) -> Backend {
    gate_of(url, true)
}

fn gate_of(url: &str, gate_durable: bool) -> Backend {
    let config = config(url, &format!("amqp://{NOWHERE}"), &format!("mysql://{NOWHERE}/none"));
    seckill_cluster::connect(&ClusterConfig { gate_durable, ..config }).unwrap()
}

/// Lets Redis know whose the database of [`gate_at`] is, as gateways do that have reached it.
pub(crate) async fn know_ledger(backend: &Backend) {
    backend.gate.keep_known_sales(&KnownSales { ledger_id: LEDGER, sales: Vec::new() }).await.unwrap();
}

/// A gate at `url` that has found its ledger's id.
pub(crate) async fn ready_gate_at(url: &str) -> Arc<dyn StockGate> {
    let backend = gate_at(url);
    know_ledger(&backend).await;
    backend.gate
}

/// The same, with a single connection.
pub(crate) async fn ready_gate_with_one_connection(url: &str) -> Arc<dyn StockGate> {
    let config = config(url, &format!("amqp://{NOWHERE}"), &format!("mysql://{NOWHERE}/none"));
    let backend = seckill_cluster::connect(&ClusterConfig { redis_pool_size: 1, ..config }).unwrap();
    know_ledger(&backend).await;
    backend.gate
}

/// A back end with the queue at `url`; its other servers do not exist.
pub(crate) fn queue_at(url: &str) -> Backend {
    backend(&format!("redis://{NOWHERE}"), url, &format!("mysql://{NOWHERE}/none"))
}

/// A back end with the ledger at `url`; its other servers do not exist.
pub(crate) fn ledger_at(url: &str) -> Backend {
    backend(&format!("redis://{NOWHERE}"), &format!("amqp://{NOWHERE}"), url)
}

/// The ledger in this database, with its schema.
pub(crate) async fn ledger(mysql: &TestMySql) -> Arc<dyn Ledger> {
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    ledger_at(&mysql.url).ledger
}

pub(crate) fn backend(redis: &str, amqp: &str, mysql: &str) -> Backend {
    seckill_cluster::connect(&config(redis, amqp, mysql)).unwrap()
}

fn config(redis: &str, amqp: &str, mysql: &str) -> ClusterConfig {
    ClusterConfig {
        redis_url: redis.to_owned(),
        amqp_url: amqp.to_owned(),
        mysql_url: mysql.to_owned(),
        redis_pool_size: 4,
        gate_durable: false,
        queue: QueueKind::default(),
        queue_redis_url: None,
    }
}

/// A sale that is open, as a ledger would have it: two units a user.
pub(crate) fn sale(id: u64, stock: u32) -> Sale {
    Sale::new(SaleId(id), new_sale(stock))
}

/// A sale that is open: two units a user.
pub(crate) fn new_sale(stock: u32) -> NewSale {
    fixtures::new_sale(stock, 2)
}
