//! The gate in memory: the port, and the lock around all of it. How one sale decides is in `filling`, how far the queue has
//! got in `progress`, how the gate comes back after a restart in `rebuild`.

mod filling;
mod progress;
mod rebuild;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use seckill_core::{
    Claim, Dependency, Epoch, Fault, GateCondition, GateLevel, HolderPage, Holding, KnownSales, Marker,
    QueueProgress, Release, Reservation, ReservationId, Reserved, Sale, SaleId, SoldOutSince, StockGate,
    UserId,
};
use uuid::Uuid;

use self::filling::{Filling, Staged};
use self::progress::Progress;
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
    /// Fillings that nobody uses yet.
    staged: HashMap<SaleId, Staged>,
    /// What gateways know; they are this one process, so nothing is kept beyond its end.
    known: Option<KnownSales>,
}

impl State {
    /// Puts a filling in place of the one that is there.
    fn fill(&mut self, sale: SaleId, filling: Filling) {
        let filling = filling.in_place_of(self.sales.get(&sale), Instant::now(), now_ms());
        self.sales.insert(sale, filling);
    }
}

impl MemoryGate {
    fn state(&self) -> Result<MutexGuard<'_, State>, Fault> {
        // A panic in the midst of a decision may have left half of it: better no gate than a wrong one.
        self.state.lock().map_err(|_| {
            let reason = "it failed in the midst of a decision; restart seckill";
            Fault::unavailable(Dependency::Gate, reason)
        })
    }

    /// Changes how far the queue has got with a sale, where the gate has data for it.
    fn progress_of<T>(
        &self,
        sale: SaleId,
        change: impl FnOnce(&mut Progress) -> T,
    ) -> Result<Option<T>, Fault> {
        Ok(self.state()?.sales.get_mut(&sale).map(|filling| change(&mut filling.progress)))
    }
}

#[async_trait]
impl StockGate for MemoryGate {
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault> {
        let mut state = self.state()?;
        let present = state.sales.get(&sale.id).filter(|filling| filling.is_of(sale));
        if present.is_none_or(|filling| filling.epoch() < epoch) {
            state.fill(sale.id, Filling::new(sale, epoch));
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
        let State { sales, newest, .. } = &mut *state;
        let filling = sales.get_mut(&sale).ok_or_else(|| lost(format!("it has no data for sale {sale}")))?;
        if let GateCondition::OtherEpoch { epoch: other, fenced } = filling.condition(epoch) {
            let other = other.max(fenced);
            return Err(lost(format!("sale {sale} is on epoch {other}, not on {epoch}")));
        }
        let now = seckill_core::now();
        let now_ms = now.timestamp_millis().unsigned_abs();
        // Time never goes back: what is set aside after a marker was made must not seem older than it.
        let id = following(*newest, now_ms.max(filling.progress.marked_ms()));
        filling.settle(now_ms, settled);
        filling.end_hold(Instant::now());
        let reserved = filling.reserve(id, now, claims);
        *newest = reserved.reservation.or(*newest);
        Ok(reserved)
    }

    async fn apply_change(&self, sale: &Sale) -> Result<(), Fault> {
        if let Some(filling) = self.state()?.sales.get_mut(&sale.id).filter(|filling| filling.is_of(sale)) {
            filling.apply_change(sale, Instant::now());
        }
        Ok(())
    }

    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault> {
        if let Some(filling) = self.state()?.sales.get_mut(&sale) {
            filling.settle(now_ms(), settled);
        }
        Ok(())
    }

    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault> {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let state = self.state()?;
        let written_by = now_ms().checked_sub(age);
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

    async fn condition(&self, sale: SaleId, epoch: Epoch) -> Result<GateCondition, Fault> {
        let state = self.state()?;
        Ok(state.sales.get(&sale).map_or(GateCondition::Missing, |filling| filling.condition(epoch)))
    }

    async fn fence(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        if let Some(filling) = self.state()?.sales.get_mut(&sale) {
            filling.fence(epoch);
        }
        Ok(())
    }

    async fn holders(&self, sale: SaleId, cursor: Option<u64>, limit: usize) -> Result<HolderPage, Fault> {
        let state = self.state()?;
        let page = |filling: &Filling| filling.holders(UserId(cursor.unwrap_or(0)), limit);
        Ok(state.sales.get(&sale).map(page).unwrap_or_default())
    }

    async fn stage_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        first: bool,
        holders: &[Claim],
    ) -> Result<(), Fault> {
        let mut state = self.state()?;
        if first {
            state.staged.insert(sale, Staged::new(epoch));
        }
        let staged = state.staged.get_mut(&sale).filter(|staged| staged.epoch == epoch);
        staged
            .ok_or_else(|| lost(format!("nothing is staged for epoch {epoch} of sale {sale}")))?
            .add(holders);
        Ok(())
    }

    async fn finish_refill(
        &self,
        sale: &Sale,
        epoch: Epoch,
        remaining: u32,
        holders: u64,
    ) -> Result<(), Fault> {
        let mut state = self.state()?;
        let present = state.sales.get(&sale.id).filter(|filling| filling.is_of(sale)).map(Filling::epoch);
        if present == Some(epoch) {
            return Ok(());
        }
        if let Some(later) = present.filter(|present| *present > epoch) {
            return Err(lost(format!("sale {} is on epoch {later}, after {epoch}", sale.id)));
        }
        let staged = state.staged.remove(&sale.id).filter(|staged| staged.epoch == epoch);
        let staged = staged.unwrap_or_else(|| Staged::new(epoch));
        if staged.len() != holders {
            let reason = format!("{} holders of sale {} are staged, not {holders}", staged.len(), sale.id);
            return Err(lost(reason));
        }
        state.fill(sale.id, Filling::refilled(sale, staged, remaining));
        Ok(())
    }

    async fn release(&self, sale: SaleId, orders: &[Release]) -> Result<(), Fault> {
        if let Some(filling) = self.state()?.sales.get_mut(&sale) {
            filling.release(orders, Instant::now());
        }
        Ok(())
    }

    async fn make_marker(&self, sale: SaleId, every: Duration) -> Result<Option<Marker>, Fault> {
        Ok(self.progress_of(sale, |progress| progress.make_marker(now_ms(), every))?.flatten())
    }

    async fn marker_passed(&self, sale: SaleId, marker: &Marker) -> Result<(), Fault> {
        self.progress_of(sale, |progress| progress.marker_passed(now_ms(), marker)).map(drop)
    }

    async fn report_held(&self, sale: SaleId, worker: Uuid, oldest_ms: Option<u64>) -> Result<(), Fault> {
        self.progress_of(sale, |progress| progress.report_held(now_ms(), worker, oldest_ms)).map(drop)
    }

    async fn mark_resending(&self, sale: SaleId) -> Result<(), Fault> {
        self.progress_of(sale, |progress| progress.resending(now_ms())).map(drop)
    }

    async fn mark_reconciled(&self, sale: SaleId, made_ms: u64) -> Result<(), Fault> {
        self.progress_of(sale, |progress| progress.reconciled(made_ms)).map(drop)
    }

    async fn progress(&self, sale: SaleId) -> Result<Option<QueueProgress>, Fault> {
        self.progress_of(sale, |progress| progress.read(now_ms()))
    }

    async fn remove(&self, sale: SaleId) -> Result<(), Fault> {
        let mut state = self.state()?;
        state.sales.remove(&sale);
        state.staged.remove(&sale);
        Ok(())
    }

    async fn keep_known_sales(&self, known: &KnownSales) -> Result<(), Fault> {
        self.state()?.known = Some(known.clone());
        Ok(())
    }

    async fn known_sales(&self) -> Result<Option<KnownSales>, Fault> {
        Ok(self.state()?.known.clone())
    }

    async fn sold_out(&self, sale: SaleId, epoch: Epoch) -> Result<Option<SoldOutSince>, Fault> {
        let state = self.state()?;
        let sound = |filling: &&Filling| filling.condition(epoch) == GateCondition::Sound;
        Ok(state.sales.get(&sale).filter(sound).and_then(|filling| filling.sold_out(seckill_core::now())))
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

fn now_ms() -> u64 {
    seckill_core::now().timestamp_millis().unsigned_abs()
}

fn lost(reason: impl std::fmt::Display) -> Fault {
    Fault::lost(Dependency::Gate, reason)
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
