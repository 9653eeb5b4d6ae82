//! In which sales an order may be, by its id.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use seckill_core::{Fault, Mode, OrderId, SaleId, SaleState};

use super::{Desk, Directory};

impl Desk {
    /// Whether somebody may hold an order at the sale's gate. A gate that this gateway has not seen filled may have been filled
    /// since, by another one.
    fn may_hold_orders(&self) -> bool {
        self.sale.mode == Mode::Queue && self.sale.state != SaleState::ClosedOut
    }
}

impl Directory {
    /// Whether orders go straight into the ledger.
    pub(crate) fn is_direct(&self) -> bool {
        self.seller.mode() == Mode::Direct
    }

    /// The known sales that the order's id names: one, as long as there are fewer than 65,536 sales.
    pub(crate) fn named_by(&self, order: OrderId) -> Vec<Arc<Desk>> {
        let newest = self.newest.load(Relaxed);
        self.read(|desks| {
            let ids = (0..=newest >> 16).map(|high| SaleId((high << 16) | u64::from(order.sale_bits())));
            ids.filter_map(|id| desks.get(&id).cloned()).collect()
        })
    }

    /// Takes in the sale that the order's id names, where that is one that was created a moment ago. Asks the ledger each time: a
    /// "no" of a moment ago says nothing about an order that was made since.
    pub(crate) async fn take_in_newest(&self, order: OrderId) -> Result<(), Fault> {
        let newest = self.newest.load(Relaxed);
        let bits = u64::from(order.sale_bits());
        let next = (newest & !0xFFFF) | bits;
        let next = if next > newest { next } else { next + 0x1_0000 };
        // Ids are given one after the other: one that is so far ahead is not the next sale's.
        if next - newest <= 0x8000
            && let Some(sale) = self.backend.ledger.sale(SaleId(next)).await?
        {
            self.put(sale);
        }
        Ok(())
    }

    /// Every known sale at whose gate an order may be held, except for `others`.
    pub(crate) fn may_hold_orders(&self, except: &[SaleId]) -> Vec<SaleId> {
        let may = |desk: &&Arc<Desk>| desk.may_hold_orders() && !except.contains(&desk.sale.id);
        self.read(|desks| desks.values().filter(may).map(|desk| desk.sale.id).collect())
    }
}

/// Those of `desks` at whose gate an order may be held.
pub(crate) fn with_holders(desks: &[Arc<Desk>]) -> Vec<SaleId> {
    desks.iter().filter(|desk| desk.may_hold_orders()).map(|desk| desk.sale.id).collect()
}
