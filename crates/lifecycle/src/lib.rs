//! What becomes of orders after their commit. Each step is one transaction of the ledger's database: the new state and the event
//! that tells of it are written together or not at all. Who reads the events is not known here.

pub mod expire;
pub mod pay;
pub mod refund;

mod cancel;
mod change;
mod saga;
mod service;

pub use service::Service;

/// Shows the counters of what becomes of orders from the start, at 0, so that their first increase is seen, too.
pub fn show_counters() {
    for outcome in ["paid", "declined", "too-late"] {
        metrics::counter!("seckill_payments_total", "outcome" => outcome).increment(0);
    }
    for reason in ["expired", "buyer"] {
        metrics::counter!("seckill_orders_cancelled_total", "reason" => reason).increment(0);
    }
    metrics::counter!("seckill_refunds_total").increment(0);
    metrics::counter!("seckill_refunds_denied_total").increment(0);
}
