//! Which sales the ledger is known to have. A ledger that comes back from a backup may lack its newest ones.

use std::collections::BTreeSet;

use seckill_core::{Backend, Dependency, Fault, GateCondition, Mode, Order, Sale, SaleId, SaleState};

/// Sales that are remembered; one more is looked up again.
const MAX_KNOWN: usize = 10_000;

/// Sales that the ledger has, as far as one writer knows.
#[derive(Default)]
pub(super) struct KnownSales(BTreeSet<SaleId>);

impl KnownSales {
    /// Records the sales of `orders` again that the ledger has lost and the gate knows, before the orders are rejected for good.
    pub(super) async fn restore_lost(&mut self, backend: &Backend, orders: &[Order]) -> Result<(), Fault> {
        let sales = orders.iter().map(|order| order.sale_id);
        let new: BTreeSet<SaleId> = sales.filter(|sale| !self.0.contains(sale)).collect();
        for id in new {
            let recorded = match backend.ledger.sale(id).await? {
                Some(sale) => {
                    check_not_older(backend, &sale).await?;
                    true
                }
                None => restore(backend, id).await?,
            };
            if recorded && self.0.len() < MAX_KNOWN {
                self.0.insert(id);
            }
        }
        Ok(())
    }
}

/// Records a sale as the gate knows it; false: the gate does not know it, either.
async fn restore(backend: &Backend, id: SaleId) -> Result<bool, Fault> {
    let known = backend.gate.known_sales().await?;
    let ours = backend.ledger.id().await?;
    let known = known.filter(|known| known.ledger_id == ours);
    let Some(sale) = known.and_then(|known| known.sales.into_iter().find(|sale| sale.id == id)) else {
        return Ok(false);
    };
    tracing::warn!(sale_id = %id, "the ledger has lost a sale; it is recorded again as the gate knows it");
    backend.ledger.restore_sale(&sale).await?;
    Ok(true)
}

/// Refuses to write into a sale whose gate is on a later epoch than the ledger: the ledger was restored from a backup, and would
/// take orders that are stale. A rebuild, which every worker looks out for, brings it up to date.
async fn check_not_older(backend: &Backend, sale: &Sale) -> Result<(), Fault> {
    if sale.state != SaleState::Open || sale.mode != Mode::Queue {
        return Ok(());
    }
    match backend.gate.condition(sale.id, sale.epoch).await {
        Ok(GateCondition::OtherEpoch { epoch, fenced }) if epoch.max(fenced) > sale.epoch => {
            let reason = format!(
                "sale {} is on epoch {} there and on {} at the gate: it is rebuilt first",
                sale.id,
                sale.epoch,
                epoch.max(fenced)
            );
            Err(Fault::unavailable(Dependency::Ledger, reason))
        }
        // A gate that does not answer cannot be asked; a restored ledger and a lost gate are two losses.
        _ => Ok(()),
    }
}
