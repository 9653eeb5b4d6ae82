//! The gate: where stock is pre-deducted.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    Claim, Epoch, Fault, HolderPage, Holding, KnownSales, Marker, Release, Reservation, ReservationId,
    Reserved, Sale, SaleId, SoldOutSince, UserId,
};

/// Where stock is pre-deducted. Fast and rebuildable; never the truth.
#[async_trait]
pub trait StockGate: Send + Sync {
    /// Fills the gate for epoch `epoch` of `sale` with the sale's stock.
    ///
    /// When it returns, the gate takes claims of that epoch. A gate of the same sale that is on this epoch or a later one is
    /// left as it is, so calling it again is safe at any time before the ledger has marked the sale as opened.
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault>;

    /// Decides every claim of one batch, in order and in one atomic step; removes `settled` from the pending log in the
    /// same step.
    ///
    /// When it returns, reserved claims are deducted, remembered by user, and written to the pending log. Idempotent by
    /// order id: a claim that this gate has already reserved is answered [`Reserved`](crate::Decision::Reserved) again
    /// and deducts nothing; its pending entry is the one of the first call. While units are withheld
    /// ([`RETURN_HOLD`](crate::RETURN_HOLD)) it decides as if none were left.
    ///
    /// # Errors
    /// [`Fault::Lost`] when the gate has no data for the sale, is on another epoch, or is not in the run in which it was
    /// filled: it fails closed.
    async fn reserve(
        &self,
        sale: SaleId,
        epoch: Epoch,
        settled: &[ReservationId],
        claims: &[Claim],
    ) -> Result<Reserved, Fault>;

    /// Applies what the ledger says of the sale's end, pause and stock: of its stock the gate adds what it has not got yet, once.
    ///
    /// A gate that has applied this revision or a later one is left as it is, so calling it again, late or in another order, is
    /// safe. A gate without data stays so: whoever fills it takes all of this from the ledger.
    async fn apply_change(&self, sale: &Sale) -> Result<(), Fault>;

    /// Removes `settled` from the pending log: the queue has confirmed all their orders. Unknown ids are ignored.
    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault>;

    /// The oldest pending entries that are at least `age` old by the gate's clock, `limit` at the most. Changes nothing.
    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault>;

    /// What `user` holds in any of `sales`. Changes nothing.
    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault>;

    /// Where the gate stands; `None` when it has no data for the sale. Changes nothing.
    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault>;

    /// Whether the gate of a sale can be trusted on `epoch`. Changes nothing.
    async fn condition(&self, sale: SaleId, epoch: Epoch) -> Result<GateCondition, Fault>;

    /// Refuses every reservation of an epoch before `epoch` from now on. A gate without data stays as it is. May be called
    /// again.
    async fn fence(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault>;

    /// A page of the sale's holders from `cursor` on, about `limit` of them; `None` begins. From the first page to the last
    /// every holder that was there all the time is seen, some of them twice. Does not ask for run or epoch: an old gate may
    /// be read too. A gate without data has no holders. Changes nothing.
    async fn holders(&self, sale: SaleId, cursor: Option<u64>, limit: usize) -> Result<HolderPage, Fault>;

    /// Adds holders to a new filling of the sale that nobody uses yet; `first` throws away what was staged before. Adding the
    /// same holders again changes nothing.
    async fn stage_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        first: bool,
        holders: &[Claim],
    ) -> Result<(), Fault>;

    /// Puts the staged filling in place of what was there, in one step, on `epoch` and in the gate's present run, with
    /// `remaining` units and an empty pending log. A gate that is on this epoch already is left as it is.
    ///
    /// # Errors
    /// [`Fault::Lost`] when fewer than `holders` holders are staged: stage them again.
    async fn finish_refill(
        &self,
        sale: &Sale,
        epoch: Epoch,
        remaining: u32,
        holders: u64,
    ) -> Result<(), Fault>;

    /// Forgets orders that the ledger has rejected, and returns their units where [`Release::returns_units`] says so. An order
    /// that its user does not hold here is left out, so calling it again changes nothing.
    ///
    /// Whatever adds units, this call and a new filling, raises [`SoldOutSince::returns`] in the same step, and where none
    /// were left withholds them for [`RETURN_HOLD`](crate::RETURN_HOLD).
    async fn release(&self, sale: SaleId, orders: &[Release]) -> Result<(), Fault>;

    /// Makes a marker for the caller to publish. `None`: nothing was set aside since the last marker that came through, or
    /// somebody made one less than `every` ago, or the gate has no data.
    async fn make_marker(&self, sale: SaleId, every: Duration) -> Result<Option<Marker>, Fault>;

    /// Records that `marker` has come out of the queue and everything that came out before it is in the ledger. An older
    /// marker than the last one changes nothing.
    async fn marker_passed(&self, sale: SaleId, marker: &Marker) -> Result<(), Fault>;

    /// Records the moment at which the oldest order was set aside that `worker` has taken off the queue and not committed;
    /// `None`: it holds none. Forgotten 10 s after the last call.
    async fn report_held(&self, sale: SaleId, worker: Uuid, oldest_ms: Option<u64>) -> Result<(), Fault>;

    /// Records that orders that were set aside earlier are about to be sent again: until a marker that is made after this has
    /// come through, orders may still arrive. Call it before the first of them is published.
    async fn mark_resending(&self, sale: SaleId) -> Result<(), Fault>;

    /// Records that everything set aside before `made_ms` has been compared with the ledger, and nothing was missing.
    async fn mark_reconciled(&self, sale: SaleId, made_ms: u64) -> Result<(), Fault>;

    /// How far the queue has got, as the gate knows it; `None` when it has no data for the sale. Changes nothing.
    async fn progress(&self, sale: SaleId) -> Result<Option<QueueProgress>, Fault>;

    /// Removes everything that the gate has of a sale.
    async fn remove(&self, sale: SaleId) -> Result<(), Fault>;

    /// Keeps the sales that gateways know, in place of what was kept before.
    async fn keep_known_sales(&self, known: &KnownSales) -> Result<(), Fault>;

    /// What was kept by [`Self::keep_known_sales`]; `None`: nothing.
    async fn known_sales(&self) -> Result<Option<KnownSales>, Fault>;

    /// Whether every unit of the sale is taken, on `epoch` and within the sale's time. `None`: units are left or withheld, it
    /// is too early or too late, or the gate would refuse a reservation with [`Fault::Lost`]. Small enough to be asked many
    /// times a second. Changes nothing.
    async fn sold_out(&self, sale: SaleId, epoch: Epoch) -> Result<Option<SoldOutSince>, Fault>;

    /// Whether the gate answers and takes writes.
    async fn ping(&self) -> Result<(), Fault>;
}

/// Where the gate of one sale stands, all of it read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLevel {
    /// Which filling it is on.
    pub epoch: Epoch,
    /// Units not yet set aside.
    pub remaining: u32,
    /// Orders set aside since it was filled.
    pub orders: u64,
    /// Of these, orders that no one has settled yet.
    pub pending_orders: u64,
}

/// Whether a sale's gate can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateCondition {
    /// It takes claims of the epoch.
    Sound,
    /// It has no data for the sale, or a part of it is gone.
    Missing,
    /// Its server has been started again, or replaced, since it was filled: it may be older than it was.
    OtherRun {
        /// The epoch that it is on.
        epoch: Epoch,
    },
    /// It is on another epoch: an older copy came back, or the ledger did, or a rebuild has fenced it.
    OtherEpoch {
        /// The epoch that it is on: the one that its holders were set aside in.
        epoch: Epoch,
        /// It refuses reservations of earlier epochs than this; 0: it is not fenced.
        fenced: Epoch,
    },
}

/// How far the queue has got with the orders of one sale, in milliseconds since 1970 by the gate's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueProgress {
    /// The gate's clock when this was read.
    pub now_ms: u64,
    /// When an order was set aside last, or sent again; 0: never.
    pub last_set_aside_ms: u64,
    /// The newest marker that came through: when it was made, and when it came.
    pub marker: Option<(u64, u64)>,
    /// When the oldest order was set aside that a live worker holds.
    pub oldest_held_ms: Option<u64>,
    /// Everything set aside before this has been compared with the ledger.
    pub reconciled_ms: u64,
}

impl QueueProgress {
    /// How long after a marker came through everything that was published before it must be in the ledger: by then the queue
    /// has delivered again what a dead consumer held.
    pub const GRACE_MS: u64 = 60_000;

    /// The moment before which every order that was set aside is settled: it is in the ledger, or pending, or lost. `None`:
    /// orders of every age may still arrive.
    pub fn settled_before_ms(&self) -> Option<u64> {
        let (made, came) = self.marker?;
        let held = self.oldest_held_ms.is_some_and(|oldest| oldest <= made);
        (!held && self.now_ms >= came + Self::GRACE_MS).then_some(made)
    }

    /// Whether no order can arrive any more: everything that was ever set aside is settled.
    pub fn nothing_can_arrive(&self) -> bool {
        self.last_set_aside_ms == 0
            || self.settled_before_ms().is_some_and(|before| self.last_set_aside_ms < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> QueueProgress {
        QueueProgress {
            now_ms: 100_000,
            last_set_aside_ms: 10_000,
            marker: Some((20_000, 30_000)),
            ..Default::default()
        }
    }

    #[test]
    fn what_was_set_aside_before_a_marker_is_settled_a_minute_after_it_came() {
        assert_eq!(progress().settled_before_ms(), Some(20_000));
        assert!(progress().nothing_can_arrive());
        let early = QueueProgress { now_ms: 89_999, ..progress() };
        assert_eq!((early.settled_before_ms(), early.nothing_can_arrive()), (None, false));
    }

    #[test]
    fn a_worker_that_holds_older_orders_keeps_them_open() {
        let held = QueueProgress { oldest_held_ms: Some(9_000), ..progress() };
        assert_eq!((held.settled_before_ms(), held.nothing_can_arrive()), (None, false));
        let newer = QueueProgress { oldest_held_ms: Some(21_000), ..progress() };
        assert_eq!(newer.settled_before_ms(), Some(20_000));
    }

    #[test]
    fn what_was_set_aside_after_the_marker_may_still_arrive() {
        let later = QueueProgress { last_set_aside_ms: 20_001, ..progress() };
        assert_eq!((later.settled_before_ms(), later.nothing_can_arrive()), (Some(20_000), false));
        assert!(QueueProgress::default().nothing_can_arrive());
    }
}
