//! One filling of the gate for one sale: its stock, its buyers and its pending log. Pure: the clock, ids and locks are the
//! caller's.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use seckill_core::{
    Claim, Decision, Epoch, GateCondition, GateLevel, Holder, HolderPage, OrderId, RETURN_HOLD, Release,
    Reservation, ReservationId, Reserved, Sale, SoldOutSince, Timestamp, UserId,
};

use super::progress::Progress;

/// One sale from the moment that the gate was filled for it.
pub(crate) struct Filling {
    epoch: Epoch,
    /// Reservations of earlier epochs are refused.
    fence: Epoch,
    /// A sale of the same id that was created at another time is another sale.
    created_at: Timestamp,
    starts_at: Timestamp,
    ends_at: Timestamp,
    per_user_limit: u32,
    paused: bool,
    /// The revision of the sale that is applied here.
    revision: u32,
    /// The sale's stock as of that revision: what it gains later is added to what remains.
    stock: u32,
    remaining: u32,
    /// As [`SoldOutSince::returns`].
    returns: u64,
    /// When units came back while none were left, until somebody has looked after the hold is over.
    withheld_since: Option<Instant>,
    /// A tree, since a hash map of a million buyers that grows copies them all while every lane waits for the lock.
    buyers: BTreeMap<UserId, Buyer>,
    pending: BTreeMap<ReservationId, Vec<Claim>>,
    /// The entry of each buyer whose order is in the pending log; beside the buyers, as it is a few hundred of them.
    pending_of: HashMap<UserId, ReservationId>,
    pending_orders: u64,
    /// How far the queue has got.
    pub(crate) progress: Progress,
}

/// What is remembered of each buyer. There are as many as units, so it is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buyer {
    pub(crate) order_id: OrderId,
    pub(crate) quantity: u32,
    /// Milliseconds from accepting to setting aside.
    waited: u32,
    accepted_at_millis: i64,
}

impl Buyer {
    pub(crate) fn accepted_at(&self) -> Timestamp {
        Timestamp::from_timestamp_millis(self.accepted_at_millis).expect("it was made from a timestamp")
    }
}

impl Buyer {
    fn new(claim: &Claim, set_aside_ms: u64) -> Self {
        let accepted_at_millis = claim.accepted_at.timestamp_millis();
        let waited = set_aside_ms.saturating_sub(accepted_at_millis.max(0).unsigned_abs());
        Self {
            order_id: claim.order_id,
            quantity: claim.quantity,
            waited: u32::try_from(waited).unwrap_or(u32::MAX),
            accepted_at_millis,
        }
    }

    fn holder(&self, user_id: UserId) -> Holder {
        let claim = Claim {
            order_id: self.order_id,
            user_id,
            quantity: self.quantity,
            accepted_at: self.accepted_at(),
        };
        let set_aside_ms = self.accepted_at_millis.max(0).unsigned_abs() + u64::from(self.waited);
        Holder { claim, set_aside_ms }
    }
}

/// A filling that nobody uses yet.
pub(crate) struct Staged {
    pub(crate) epoch: Epoch,
    buyers: BTreeMap<UserId, Buyer>,
}

impl Staged {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { epoch, buyers: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, holders: &[Claim]) {
        self.buyers.extend(holders.iter().map(|claim| (claim.user_id, Buyer::new(claim, 0))));
    }

    pub(crate) fn len(&self) -> u64 {
        self.buyers.len() as u64
    }
}

impl Filling {
    /// All of the sale's stock is left, and nobody has bought.
    pub(crate) fn new(sale: &Sale, epoch: Epoch) -> Self {
        Self {
            epoch,
            fence: 0,
            created_at: sale.created_at,
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
            per_user_limit: sale.per_user_limit,
            paused: sale.paused,
            revision: sale.revision,
            stock: sale.stock,
            remaining: sale.stock,
            returns: 0,
            withheld_since: None,
            buyers: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_of: HashMap::new(),
            pending_orders: 0,
            progress: Progress::default(),
        }
    }

    /// What was staged, with `remaining` units left.
    pub(crate) fn refilled(sale: &Sale, staged: Staged, remaining: u32) -> Self {
        Self { remaining, buyers: staged.buyers, ..Self::new(sale, staged.epoch) }
    }

    /// Takes the place of the filling `before`, at this moment by two clocks. A gateway may still take everything for sold by
    /// the filling before, so the units are withheld where none of it were for sale.
    pub(crate) fn in_place_of(mut self, before: Option<&Self>, now: Instant, now_ms: u64) -> Self {
        // Where the filling before was lost its number is, too: the clock's is larger than all that were counted.
        self.returns = before.map_or(now_ms, |before| now_ms.max(before.returns + 1));
        let sold_out = before.is_some_and(|before| before.remaining == 0 || before.withholds(now));
        self.withheld_since = sold_out.then_some(now);
        self
    }

    /// Whether units are withheld that came back while none were left.
    fn withholds(&self, now: Instant) -> bool {
        self.withheld_since.is_some_and(|since| now.duration_since(since) < RETURN_HOLD)
    }

    /// Sells what was withheld long enough.
    pub(crate) fn end_hold(&mut self, now: Instant) {
        self.withheld_since = self.withheld_since.filter(|_| self.withholds(now));
    }

    /// What it says where all units are taken and the sale is open.
    pub(crate) fn sold_out(&self, now: Timestamp) -> Option<SoldOutSince> {
        let open = now >= self.starts_at && now < self.ends_at && !self.paused;
        let sold_out = SoldOutSince { returns: self.returns, holders: self.buyers.len() as u64 };
        (open && self.remaining == 0).then_some(sold_out)
    }

    /// Whether it is the filling of this sale, and not of another one of the same id.
    pub(crate) fn is_of(&self, sale: &Sale) -> bool {
        self.created_at == sale.created_at
    }

    pub(crate) fn condition(&self, epoch: Epoch) -> GateCondition {
        if self.epoch != epoch || self.fence > epoch {
            GateCondition::OtherEpoch { epoch: self.epoch, fenced: self.fence }
        } else {
            GateCondition::Sound
        }
    }

    /// Refuses reservations of epochs before `epoch` from now on.
    pub(crate) fn fence(&mut self, epoch: Epoch) {
        self.fence = self.fence.max(epoch);
    }

    /// Applies a later revision of the sale.
    pub(crate) fn apply_change(&mut self, sale: &Sale, now: Instant) {
        if sale.revision <= self.revision {
            return;
        }
        self.add_units(sale.stock.saturating_sub(self.stock), now);
        self.stock = sale.stock.max(self.stock);
        (self.revision, self.ends_at, self.paused) = (sale.revision, sale.ends_at, sale.paused);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn buyer(&self, user: UserId) -> Option<&Buyer> {
        self.buyers.get(&user)
    }

    pub(crate) fn level(&self) -> GateLevel {
        GateLevel {
            epoch: self.epoch,
            remaining: self.remaining,
            orders: self.buyers.len() as u64,
            pending_orders: self.pending_orders,
        }
    }

    /// Decides every claim in order; what is reserved becomes the pending entry `id`, newer than every entry before it.
    pub(crate) fn reserve(&mut self, id: ReservationId, now: Timestamp, claims: &[Claim]) -> Reserved {
        let mut entry = Vec::new();
        let decisions = claims.iter().map(|claim| self.decide(id, now, claim, &mut entry)).collect();
        let reservation = (!entry.is_empty()).then_some(id);
        if reservation.is_some() {
            self.pending_orders += entry.len() as u64;
            self.pending.insert(id, entry);
            self.progress.set_aside(id.millis);
        }
        Reserved { decisions, reservation }
    }

    fn decide(
        &mut self,
        id: ReservationId,
        now: Timestamp,
        claim: &Claim,
        entry: &mut Vec<Claim>,
    ) -> Decision {
        // First of all, and at any hour: who has an order here is told of it.
        if let Some(buyer) = self.buyers.get(&claim.user_id) {
            if buyer.order_id == claim.order_id {
                return Decision::Reserved;
            }
            return Decision::Replayed {
                order_id: buyer.order_id,
                quantity: buyer.quantity,
                // What this very call has reserved leaves in the caller's next publish, whose confirm answers both.
                pending: self.pending_of.get(&claim.user_id).is_some_and(|entry| *entry != id),
                accepted_at: buyer.accepted_at(),
            };
        }
        if now >= self.ends_at {
            return Decision::Closed;
        }
        if now < self.starts_at {
            return Decision::NotOpen;
        }
        if self.paused {
            return Decision::Paused;
        }
        if claim.quantity > self.per_user_limit {
            return Decision::OverLimit { limit: self.per_user_limit };
        }
        let for_sale = if self.withheld_since.is_some() { 0 } else { self.remaining };
        let Some(remaining) = for_sale.checked_sub(claim.quantity) else {
            return Decision::SoldOut { remaining: for_sale };
        };
        self.remaining = remaining;
        self.buyers.insert(claim.user_id, Buyer::new(claim, id.millis));
        self.pending_of.insert(claim.user_id, id);
        entry.push(*claim);
        Decision::Reserved
    }

    /// Removes entries from the pending log. Their buyers and their stock stay as they are.
    pub(crate) fn settle(&mut self, now_ms: u64, settled: &[ReservationId]) {
        for id in settled {
            let Some(claims) = self.pending.remove(id) else { continue };
            self.progress.settled(now_ms, id.millis);
            self.pending_orders -= claims.len() as u64;
            for claim in claims {
                // A user whose order was released meanwhile may have another one, in another entry.
                if self.pending_of.get(&claim.user_id) == Some(id) {
                    self.pending_of.remove(&claim.user_id);
                }
            }
        }
    }

    /// The holders from the user `from` on, `limit` at the most.
    pub(crate) fn holders(&self, from: UserId, limit: usize) -> HolderPage {
        let mut rest = self.buyers.range(from..);
        let page = rest.by_ref().take(limit.max(1));
        let holders = page.map(|(user, buyer)| buyer.holder(*user)).collect();
        HolderPage { holders, next: rest.next().map(|(user, _)| user.0) }
    }

    /// Forgets orders that the ledger has rejected.
    pub(crate) fn release(&mut self, orders: &[Release], now: Instant) {
        let mut units = 0;
        for order in orders {
            let Some(buyer) =
                self.buyers.get(&order.user_id).filter(|buyer| buyer.order_id == order.order_id)
            else {
                continue;
            };
            if order.returns_units {
                units += buyer.quantity;
            }
            self.buyers.remove(&order.user_id);
        }
        self.add_units(units, now);
    }

    /// The one place where units come on sale that were not: at once, or where none were left after the hold.
    fn add_units(&mut self, units: u32, now: Instant) {
        if units == 0 {
            return;
        }
        if self.remaining == 0 {
            self.withheld_since = Some(now);
        }
        self.remaining += units;
        self.returns += 1;
    }

    /// The oldest pending entries that were written at `millis` since 1970 or before, `limit` at the most.
    pub(crate) fn pending_since(&self, millis: u64, limit: usize) -> Vec<Reservation> {
        let newest = ReservationId { millis, sequence: u64::MAX };
        let oldest_first = self.pending.range(..=newest).take(limit);
        oldest_first.map(|(&id, claims)| Reservation { id, claims: claims.clone() }).collect()
    }

    /// Takes in an order that was set aside before a restart. Of two orders of one user the first is the one replayed.
    pub(crate) fn restore(&mut self, claim: &Claim) {
        self.remaining = self.remaining.saturating_sub(claim.quantity);
        self.buyers.entry(claim.user_id).or_insert_with(|| Buyer::new(claim, 0));
    }
}

#[cfg(test)]
mod tests;
