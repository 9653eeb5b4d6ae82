//! How the gate comes back after a restart: from the rows of the ledger and the batches in the queue.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use seckill_core::{Epoch, Fault, OrderBatch, Sale, SaleId, SaleState};

use super::filling::Filling;
use super::{MemoryGate, State, now_ms};
use crate::folder::Folder;
use crate::ledger::SqliteLedger;
use crate::queue::SqliteQueue;

/// Fills the gate of every sale that is open with what is left of its stock: what is neither sold nor queued. A sale that is
/// being rebuilt gets its gate from a worker, one that is closed out needs none.
///
/// Reservations that were pending and had not reached the queue's file are gone with the process that made them, and
/// their stock is free again: nothing that was answered 202 depended on them. What had reached the file is an order,
/// whether anyone has heard of it or not. Units of orders that were rejected or have ended are free, too: no active row has them.
pub(crate) async fn rebuild(
    ledger: &SqliteLedger,
    queue: &SqliteQueue,
    folder: Arc<Folder>,
) -> Result<MemoryGate, Fault> {
    let opened = ledger.opened_sales().await?.into_iter().filter(|sale| sale.state == SaleState::Open);
    let mut sales: HashMap<_, _> = opened.map(|sale| (sale.id, Restored::new(&sale))).collect();
    ledger
        .for_each_active_order(|order| {
            if let Some(sale) = sales.get_mut(&order.sale_id) {
                sale.filling.restore(&order.claim);
            }
        })
        .await?;
    let mut after = 0;
    loop {
        let page = queue.page(after).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        // What cannot be read is left alone here: it is parked when a consumer comes to it.
        for batch in page.iter().filter_map(|row| row.parse().ok()) {
            if let Some(sale) = sales.get_mut(&batch.sale_id) {
                sale.restore_queued(batch, ledger).await?;
                // They may still arrive, as if they were set aside now.
                sale.filling.progress.resending(now_ms());
            }
        }
    }
    let sales: HashMap<SaleId, Filling> = sales.into_iter().map(|(id, sale)| (id, sale.filling)).collect();
    let state = State { sales, ..State::default() };
    Ok(MemoryGate { state: Mutex::new(state), _folder: folder })
}

struct Restored {
    filling: Filling,
    epoch: Epoch,
    /// Whether a queued order may be one that is recorded and has no units.
    has_done: bool,
}

impl Restored {
    fn new(sale: &Sale) -> Self {
        let filling = Filling::new(sale, sale.epoch);
        let has_done = sale.rejected_orders > 0 || !sale.ended.is_none();
        Self { filling, epoch: sale.epoch, has_done }
    }

    /// Takes in the orders of one batch that the ledger does not know. A batch may be in the file twice, and it stays
    /// there after its commit until it is acknowledged.
    async fn restore_queued(&mut self, batch: OrderBatch, ledger: &SqliteLedger) -> Result<(), Fault> {
        if batch.epoch < self.epoch {
            // The ledger is going to reject these.
            return Ok(());
        }
        let done = if self.has_done {
            let ids = batch.orders.iter().map(|claim| claim.order_id);
            ledger.without_units_of(ids).await?
        } else {
            HashSet::new()
        };
        for claim in batch.orders.iter().filter(|claim| !done.contains(&claim.order_id)) {
            // Of a user who has an order already the ledger is going to reject the other one.
            if self.filling.buyer(claim.user_id).is_none() {
                self.filling.restore(claim);
            }
        }
        Ok(())
    }
}
