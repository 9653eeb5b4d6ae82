//! Back ends on the tests' servers, and what goes into them.

use std::time::Duration;

use seckill_cluster::ClusterConfig;
use seckill_core::{Backend, Claim, Mode, NewSale, Order, OrderId, Sale, SaleId, UserId, now};

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

/// A sale that is open, as a ledger would have it.
pub(crate) fn sale(id: u64, stock: u32) -> Sale {
    let new = new_sale(stock);
    Sale {
        id: SaleId(id),
        product: new.product().to_owned(),
        name: new.name,
        stock,
        sold: 0,
        orders: 0,
        rejected_orders: 0,
        price_cents: new.price_cents,
        currency: new.currency,
        per_user_limit: new.per_user_limit,
        starts_at: new.starts_at,
        ends_at: new.ends_at,
        mode: Mode::Queue,
        epoch: 0,
        created_at: now(),
    }
}

/// A sale that is open: two units a user, at 250 cents each.
pub(crate) fn new_sale(stock: u32) -> NewSale {
    NewSale {
        name: "秒杀 phone".to_owned(),
        product: None,
        stock,
        price_cents: 250,
        currency: "USD".to_owned(),
        per_user_limit: 2,
        starts_at: now() - Duration::from_secs(3_600),
        ends_at: now() + Duration::from_secs(3_600),
    }
}

/// A wish for one unit.
pub(crate) fn claim(user: u64) -> Claim {
    Claim { order_id: OrderId::generate(), user_id: UserId(user), quantity: 1, accepted_at: now() }
}

/// An order of one unit.
pub(crate) fn order(sale_id: SaleId, user: u64) -> Order {
    Order { sale_id, claim: claim(user) }
}
