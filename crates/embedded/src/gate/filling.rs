//! One filling of the gate for one sale: its stock, its buyers and its pending log. Pure: the clock, ids and locks are the
//! caller's.

use std::collections::{BTreeMap, HashMap};

use seckill_core::{
    Claim, Decision, Epoch, GateLevel, OrderId, Reservation, ReservationId, Reserved, Sale, Timestamp, UserId,
};

/// One sale from the moment that the gate was filled for it.
pub(crate) struct Filling {
    epoch: Epoch,
    starts_at: Timestamp,
    ends_at: Timestamp,
    per_user_limit: u32,
    remaining: u32,
    /// Orders set aside since the filling; more than there are buyers when the ledger rejected some before a restart.
    orders: u64,
    /// A tree, since a hash map of a million buyers that grows copies them all while every lane waits for the lock.
    buyers: BTreeMap<UserId, Buyer>,
    pending: BTreeMap<ReservationId, Vec<Claim>>,
    /// The entry of each buyer whose order is in the pending log; beside the buyers, as it is a few hundred of them.
    pending_of: HashMap<UserId, ReservationId>,
}

/// What is remembered of each buyer. There are as many as units, so it is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buyer {
    pub(crate) order_id: OrderId,
    pub(crate) quantity: u32,
    accepted_at_millis: i64,
}

impl Buyer {
    pub(crate) fn accepted_at(&self) -> Timestamp {
        Timestamp::from_timestamp_millis(self.accepted_at_millis).expect("it was made from a timestamp")
    }
}

impl From<&Claim> for Buyer {
    fn from(claim: &Claim) -> Self {
        Self {
            order_id: claim.order_id,
            quantity: claim.quantity,
            accepted_at_millis: claim.accepted_at.timestamp_millis(),
        }
    }
}

impl Filling {
    /// All of the sale's stock is left, and nobody has bought.
    pub(crate) fn new(sale: &Sale, epoch: Epoch) -> Self {
        Self {
            epoch,
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
            per_user_limit: sale.per_user_limit,
            remaining: sale.stock,
            orders: 0,
            buyers: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_of: HashMap::new(),
        }
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
            orders: self.orders,
            pending_orders: self.pending_of.len() as u64,
        }
    }

    /// Decides every claim in order; what is reserved becomes the pending entry `id`, newer than every entry before it.
    pub(crate) fn reserve(&mut self, id: ReservationId, now: Timestamp, claims: &[Claim]) -> Reserved {
        let mut entry = Vec::new();
        let decisions = claims.iter().map(|claim| self.decide(id, now, claim, &mut entry)).collect();
        let reservation = (!entry.is_empty()).then_some(id);
        if reservation.is_some() {
            self.pending.insert(id, entry);
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
        if now < self.starts_at {
            return Decision::NotOpen;
        }
        if now >= self.ends_at {
            return Decision::Closed;
        }
        if claim.quantity > self.per_user_limit {
            return Decision::OverLimit { limit: self.per_user_limit };
        }
        let Some(remaining) = self.remaining.checked_sub(claim.quantity) else {
            return Decision::SoldOut { remaining: self.remaining };
        };
        self.remaining = remaining;
        self.orders += 1;
        self.buyers.insert(claim.user_id, Buyer::from(claim));
        self.pending_of.insert(claim.user_id, id);
        entry.push(*claim);
        Decision::Reserved
    }

    /// Removes entries from the pending log. Their buyers and their stock stay as they are.
    pub(crate) fn settle(&mut self, settled: &[ReservationId]) {
        for claim in settled.iter().filter_map(|id| self.pending.remove(id)).flatten() {
            self.pending_of.remove(&claim.user_id);
        }
    }

    /// The oldest pending entries that were written at `millis` since 1970 or before, `limit` at the most.
    pub(crate) fn pending_since(&self, millis: u64, limit: usize) -> Vec<Reservation> {
        let newest = ReservationId { millis, sequence: u64::MAX };
        let oldest_first = self.pending.range(..=newest).take(limit);
        oldest_first.map(|(&id, claims)| Reservation { id, claims: claims.clone() }).collect()
    }

    /// Takes in an order that was set aside before a restart. Of two orders of one user the first is the one replayed.
    pub(crate) fn restore(&mut self, claim: &Claim) {
        self.restore_without_buyer(1, u64::from(claim.quantity));
        self.buyers.entry(claim.user_id).or_insert_with(|| Buyer::from(claim));
    }

    /// Takes in orders that were set aside before a restart and then rejected by the ledger. Their units are not given
    /// back, as the gate does not give them back while it runs either.
    pub(crate) fn restore_without_buyer(&mut self, orders: u64, units: u64) {
        self.orders += orders;
        self.remaining = self.remaining.saturating_sub(u32::try_from(units).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests;
