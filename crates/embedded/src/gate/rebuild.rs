//! How the gate comes back after a restart: from the rows of the ledger and the batches in the queue.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use seckill_core::{Fault, OrderBatch, OrderId, Sale, SaleId};

use super::filling::Filling;
use super::{MemoryGate, State};
use crate::folder::Folder;
use crate::ledger::SqliteLedger;
use crate::queue::SqliteQueue;

/// Fills the gate of every sale that was opened with what is left of its stock.
///
/// Reservations that were pending and had not reached the queue's file are gone with the process that made them, and
/// their stock is free again: nothing that was answered 202 depended on them. What had reached the file is an order,
/// whether anyone was told or not.
pub(crate) async fn rebuild(
    ledger: &SqliteLedger,
    queue: &SqliteQueue,
    folder: Arc<Folder>,
) -> Result<MemoryGate, Fault> {
    let mut sales: HashMap<_, _> =
        ledger.opened_sales().await?.into_iter().map(|sale| (sale.id, Restored::new(&sale))).collect();
    ledger
        .for_each_active_order(|order| {
            if let Some(sale) = sales.get_mut(&order.sale_id) {
                sale.filling.restore(&order.claim);
            }
        })
        .await?;
    for (sale, orders, units) in ledger.count_rejections().await? {
        if let Some(sale) = sales.get_mut(&sale) {
            sale.filling.restore_without_buyer(orders, units);
            sale.has_rejections = true;
        }
    }
    let mut after = 0;
    loop {
        let page = queue.page(after).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        // What cannot be read is left alone here: it is parked when a consumer comes to it.
        for batch in page.iter().filter_map(|row| row.parse().ok()) {
            if let Some(sale) = sales.get_mut(&batch.sale_id) {
                sale.restore_queued(batch, ledger).await?;
            }
        }
    }
    let sales: HashMap<SaleId, Filling> = sales.into_iter().map(|(id, sale)| (id, sale.filling)).collect();
    Ok(MemoryGate { state: Mutex::new(State { sales, newest: None }), _folder: folder })
}

struct Restored {
    filling: Filling,
    has_rejections: bool,
    /// Queued orders of users who have another order: the ledger is going to reject them. Counted once each.
    unfit: HashSet<OrderId>,
}

impl Restored {
    fn new(sale: &Sale) -> Self {
        Self { filling: Filling::new(sale, sale.epoch), has_rejections: false, unfit: HashSet::new() }
    }

    /// Takes in the orders of one batch that the ledger does not know. A batch may be in the file twice, and it stays
    /// there after its commit until it is acknowledged.
    async fn restore_queued(&mut self, batch: OrderBatch, ledger: &SqliteLedger) -> Result<(), Fault> {
        let rejected = if self.has_rejections {
            let ids = batch.orders.iter().map(|claim| claim.order_id);
            ledger.rejected_of(ids).await?
        } else {
            HashSet::new()
        };
        for claim in batch.orders.iter().filter(|claim| !rejected.contains(&claim.order_id)) {
            let new = match self.filling.buyer(claim.user_id) {
                Some(buyer) if buyer.order_id == claim.order_id => false,
                Some(_) => self.unfit.insert(claim.order_id),
                None => true,
            };
            if new {
                self.filling.restore(claim);
            }
        }
        Ok(())
    }
}
