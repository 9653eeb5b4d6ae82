//! The gate in memory: the port, and the lock around all of it. How one sale decides is in `filling`, how the gate comes
//! back after a restart in `rebuild`.

mod filling;
mod rebuild;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Claim, Dependency, Epoch, Fault, GateLevel, Holding, Reservation, ReservationId, Reserved, Sale, SaleId,
    StockGate, UserId,
};

use self::filling::Filling;
pub(crate) use self::rebuild::rebuild;
use crate::folder::Folder;

/// Every sale's stock, buyers and pending log.
pub(crate) struct MemoryGate {
    /// One std mutex, never held across an await: each call only looks up and changes maps, in microseconds, and an
    /// async mutex would cost every one of them a trip through the scheduler.
    state: Mutex<State>,
    _folder: Arc<Folder>,
}

#[derive(Default)]
struct State {
    sales: HashMap<SaleId, Filling>,
    /// The newest id of any sale, so that ids of a sale that is filled anew do not meet those of the filling before.
    newest: Option<ReservationId>,
}

impl MemoryGate {
    fn state(&self) -> Result<MutexGuard<'_, State>, Fault> {
        // A panic in the midst of a decision may have left half of it: better no gate than a wrong one.
        self.state.lock().map_err(|_| unavailable("it failed in the midst of a decision; restart seckill"))
    }
}

#[async_trait]
impl StockGate for MemoryGate {
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault> {
        let mut state = self.state()?;
        if state.sales.get(&sale.id).is_none_or(|filling| filling.epoch() < epoch) {
            state.sales.insert(sale.id, Filling::new(sale, epoch));
        }
        Ok(())
    }

    async fn reserve(
        &self,
        sale: SaleId,
        epoch: Epoch,
        settled: &[ReservationId],
        claims: &[Claim],
    ) -> Result<Reserved, Fault> {
        let mut state = self.state()?;
        let State { sales, newest } = &mut *state;
        let filling = sales.get_mut(&sale).ok_or_else(|| unavailable(no_data(sale)))?;
        if filling.epoch() != epoch {
            let reason = format!("sale {sale} is on epoch {}, not on {epoch}", filling.epoch());
            return Err(unavailable(reason));
        }
        let now = seckill_core::now();
        let id = following(*newest, now.timestamp_millis().unsigned_abs());
        filling.settle(settled);
        let reserved = filling.reserve(id, now, claims);
        *newest = reserved.reservation.or(*newest);
        Ok(reserved)
    }

    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault> {
        if let Some(filling) = self.state()?.sales.get_mut(&sale) {
            filling.settle(settled);
        }
        Ok(())
    }

    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let state = self.state()?;
        let written_by = seckill_core::now().timestamp_millis().unsigned_abs().checked_sub(age);
        Ok(match (state.sales.get(&sale), written_by) {
            (Some(filling), Some(millis)) => filling.pending_since(millis, limit),
            _ => Vec::new(),
        })
    }

    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault> {
        let state = self.state()?;
        let holding = |sale: &SaleId| {
            let buyer = state.sales.get(sale)?.buyer(user)?;
            Some(Holding {
                sale_id: *sale,
                order_id: buyer.order_id,
                quantity: buyer.quantity,
                accepted_at: buyer.accepted_at(),
            })
        };
        Ok(sales.iter().filter_map(holding).collect())
    }

    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault> {
        Ok(self.state()?.sales.get(&sale).map(Filling::level))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.state().map(drop)
    }
}

/// The id after `newest`. A clock that is set back counts on in the millisecond that it had reached.
fn following(newest: Option<ReservationId>, millis: u64) -> ReservationId {
    match newest {
        Some(newest) if newest.millis >= millis => {
            ReservationId { millis: newest.millis, sequence: newest.sequence + 1 }
        }
        _ => ReservationId { millis, sequence: 0 },
    }
}

fn no_data(sale: SaleId) -> String {
    format!("it has no data for sale {sale}")
}

fn unavailable(reason: impl std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::Gate, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_strictly_even_when_the_clock_is_set_back() {
        let first = following(None, 1_000);
        let second = following(Some(first), 1_000);
        let third = following(Some(second), 900);
        let fourth = following(Some(third), 1_001);
        assert!(first < second && second < third && third < fourth, "{first} {second} {third} {fourth}");
        assert_eq!((fourth.millis, fourth.sequence), (1_001, 0));
    }
}
