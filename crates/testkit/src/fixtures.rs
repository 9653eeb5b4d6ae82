//! Sales, claims and orders to try a back end with. Where a test needs one that is special, it says so with `..` on one of
//! these.

use std::ops::Range;

use seckill_core::{
    AuditReport, Backend, Claim, Epoch, GateLevel, Mode, NewSale, Order, OrderBatch, OrderId, Sale, SaleId,
    UserId, create_sale, now,
};

/// The epoch of a sale that [`open`] has opened.
pub const EPOCH: Epoch = 1;

/// A sale that opened an hour ago and closes in an hour: 123.45 dollars a unit.
pub fn new_sale(stock: u32, per_user_limit: u32) -> NewSale {
    NewSale {
        name: "秒杀 phone".to_owned(),
        product: None,
        stock,
        price_cents: 12_345,
        currency: "USD".to_owned(),
        per_user_limit,
        starts_at: now() - chrono::Duration::hours(1),
        ends_at: now() + chrono::Duration::hours(1),
        payment_window_ms: None,
        require_ticket: false,
        tickets_from: None,
        ticket_ttl_ms: None,
        proof_of_work: false,
        waiting_room: None,
    }
}

/// Creates the sale in queue mode and fills its gate.
///
/// # Panics
/// When the back end has a fault.
pub async fn open(backend: &Backend, new: &NewSale) -> Sale {
    let created = create_sale(backend, new, Mode::Queue).await.expect("the ledger takes a sale");
    assert!(created.unfilled.is_none(), "the gate is not filled: {:?}", created.unfilled);
    created.sale
}

/// As [`open`], with nothing special about the sale.
///
/// # Panics
/// As [`open`].
pub async fn open_sale(backend: &Backend, stock: u32, per_user_limit: u32) -> Sale {
    open(backend, &new_sale(stock, per_user_limit)).await
}

/// A claim for one unit, under a new order id.
pub fn claim(user: u64) -> Claim {
    claim_of(user, 1)
}

/// A claim under a new order id.
pub fn claim_of(user: u64, quantity: u32) -> Claim {
    Claim { order_id: OrderId::generate(), user_id: UserId(user), quantity, accepted_at: now() }
}

/// A claim for one unit for each user.
pub fn claims(users: Range<u64>) -> Vec<Claim> {
    users.map(claim).collect()
}

/// An order of one unit, under a new id.
pub fn order(sale: SaleId, user: u64) -> Order {
    order_of(sale, user, 1)
}

pub fn order_of(sale: SaleId, user: u64, quantity: u32) -> Order {
    Order { sale_id: sale, epoch: EPOCH, claim: claim_of(user, quantity) }
}

/// A batch with an order of one unit for each user.
pub fn batch(sale: SaleId, users: Range<u64>) -> OrderBatch {
    OrderBatch::new(sale, EPOCH, claims(users))
}

/// Where the gate of an opened sale stands.
///
/// # Panics
/// When the gate has a fault, or was not filled for this sale.
pub async fn level(backend: &Backend, sale: SaleId) -> GateLevel {
    let level = backend.gate.level(sale).await.expect("the gate answers");
    level.expect("the gate was filled for this sale")
}

/// The audit of a sale.
///
/// # Panics
/// When the back end has a fault, or there is no such sale.
pub async fn audit(backend: &Backend, sale: SaleId) -> AuditReport {
    let report = AuditReport::read(backend, sale).await.expect("the back end answers");
    report.expect("the sale exists")
}
