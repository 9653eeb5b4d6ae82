//! What became of the orders of one commit: counted, and logged where it means that the gate had lost data.

use std::collections::VecDeque;

use seckill_core::{Fate, Order};

/// What one commit did, order by order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// New rows.
    pub committed: usize,
    /// Newly recorded as rejected.
    pub rejected: usize,
    /// Redelivered: they had reached their end before.
    pub redelivered: usize,
    /// Left for a human, because they failed by themselves while their neighbours did not.
    pub parked: usize,
}

/// Counts what became of a batch, and logs what was rejected: it means that the gate had lost data.
pub(super) fn record(orders: &VecDeque<Order>, fates: &[Option<Fate>]) -> Progress {
    let mut progress = Progress::default();
    for (order, fate) in orders.iter().zip(fates) {
        match fate {
            None => progress.parked += 1,
            Some(Fate::Committed) => progress.committed += 1,
            Some(Fate::AlreadyCommitted | Fate::AlreadyRejected(_)) => progress.redelivered += 1,
            Some(Fate::Rejected(reason)) => {
                progress.rejected += 1;
                metrics::counter!("seckill_orders_rejected_total", "reason" => reason.as_str()).increment(1);
                tracing::warn!(
                    order_id = %order.claim.order_id, sale_id = %order.sale_id, reason = reason.as_str(),
                    "the ledger rejected an order that the gate had let through"
                );
            }
        }
    }
    metrics::counter!("seckill_orders_committed_total").increment(progress.committed as u64);
    metrics::counter!("seckill_orders_redelivered_total").increment(progress.redelivered as u64);
    progress
}
