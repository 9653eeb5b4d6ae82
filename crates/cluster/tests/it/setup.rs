//! Back ends on the tests' servers, and what goes into them.

use std::time::Duration;

use seckill_cluster::ClusterConfig;
use seckill_core::{Backend, NewSale, Sale, SaleId};
use seckill_testkit::fixtures;
pub(crate) use seckill_testkit::fixtures::{claim, order};

/// Longer than anything takes; only a failing test waits so long.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// An address where nothing listens.
const NOWHERE: &str = "127.0.0.1:1";

/// A back end with the gate at `url`; its other servers do not exist.
pub(crate) fn gate_at(url: &str) -> Backend {
    backend(url, &format!("amqp://{NOWHERE}"), &format!("mysql://{NOWHERE}/none"))
}

/// A back end with the queue at `url`; its other servers do not exist.
pub(crate) fn queue_at(url: &str) -> Backend {
    backend(&format!("redis://{NOWHERE}"), url, &format!("mysql://{NOWHERE}/none"))
}

/// A back end with the ledger at `url`; its other servers do not exist.
pub(crate) fn ledger_at(url: &str) -> Backend {
    backend(&format!("redis://{NOWHERE}"), &format!("amqp://{NOWHERE}"), url)
}

fn backend(redis: &str, amqp: &str, mysql: &str) -> Backend {
    let config = ClusterConfig {
        redis_url: redis.to_owned(),
        amqp_url: amqp.to_owned(),
        mysql_url: mysql.to_owned(),
        redis_pool_size: 4,
    };
    seckill_cluster::connect(&config).unwrap()
}

/// A sale that is open, as a ledger would have it: two units a user.
pub(crate) fn sale(id: u64, stock: u32) -> Sale {
    fixtures::sale(SaleId(id), new_sale(stock))
}

/// A sale that is open: two units a user.
pub(crate) fn new_sale(stock: u32) -> NewSale {
    fixtures::new_sale(stock, 2)
}
