//! The rule by which the ledger sorts the orders of a batch that did not fit in one piece. Every ledger uses this one.

use std::collections::{HashMap, HashSet};

use crate::{Epoch, Fate, Order, OrderId, RejectReason, SaleId, UserId};

/// What is left of a sale in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Units not yet sold.
    pub units: u32,
    /// Units one user may have.
    pub per_user_limit: u32,
    /// Orders of earlier epochs are stale: the sale's epoch, and while its gate is being rebuilt the epoch that was open last.
    pub oldest_epoch: Epoch,
}

/// What the ledger knows about a batch, read under a lock on the batch's sales.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The batch's sales; one that is missing does not exist.
    pub rooms: HashMap<SaleId, Room>,
    /// Orders of the batch that are rows already.
    pub committed: HashSet<OrderId>,
    /// Orders of the batch that are recorded as rejected already.
    pub rejected: HashMap<OrderId, RejectReason>,
    /// Buyers of the batch that have an active order in that sale.
    pub holders: HashSet<(SaleId, UserId)>,
}

impl Known {
    /// Orders of the batch that are recorded as stale.
    pub fn stale(&self) -> HashSet<OrderId> {
        let stale = self.rejected.iter().filter(|(_, reason)| **reason == RejectReason::StaleEpoch);
        stale.map(|(id, _)| *id).collect()
    }
}

/// Orders that were recorded as stale and are decided anew: their old rows have to go.
pub fn decided_anew<'a>(orders: &'a [Order], fates: &[Fate], stale: &HashSet<OrderId>) -> Vec<&'a Order> {
    let is_new = |fate: &Fate| matches!(fate, Fate::Committed | Fate::Rejected(_));
    let pairs = orders.iter().zip(fates);
    pairs
        .filter(|(order, fate)| is_new(fate) && stale.contains(&order.claim.order_id))
        .map(|(order, _)| order)
        .collect()
}

/// Decides order by order, first come first served. An order id keeps the fate that it once had, so that a redelivery
/// changes nothing, except that a stale order is decided anew under a later epoch; of what is new, nothing may oversell and no user may have a second active order.
pub fn decide(orders: &[Order], mut known: Known) -> Vec<Fate> {
    orders.iter().map(|order| decide_one(order, &mut known)).collect()
}

fn decide_one(Order { sale_id, epoch, claim }: &Order, known: &mut Known) -> Fate {
    if known.committed.contains(&claim.order_id) {
        return Fate::AlreadyCommitted;
    }
    if let Some(reason) = known.rejected.get(&claim.order_id) {
        // A late copy of a promised order may have been stale. Sent again under an epoch that counts, the order is decided anew.
        let decided_anew = *reason == RejectReason::StaleEpoch
            && known.rooms.get(sale_id).is_some_and(|room| *epoch >= room.oldest_epoch);
        if !decided_anew {
            return Fate::AlreadyRejected(*reason);
        }
        known.rejected.remove(&claim.order_id);
    }
    let reason = match known.rooms.get_mut(sale_id) {
        None => RejectReason::UnknownSale,
        Some(room) if *epoch < room.oldest_epoch => RejectReason::StaleEpoch,
        Some(room) if claim.quantity == 0 || claim.quantity > room.per_user_limit => {
            RejectReason::BadQuantity
        }
        Some(_) if known.holders.contains(&(*sale_id, claim.user_id)) => RejectReason::UserHasOrder,
        Some(room) if claim.quantity > room.units => RejectReason::SoldOut,
        Some(room) => {
            room.units -= claim.quantity;
            known.holders.insert((*sale_id, claim.user_id));
            known.committed.insert(claim.order_id);
            return Fate::Committed;
        }
    };
    known.rejected.insert(claim.order_id, reason);
    Fate::Rejected(reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::Claim;

    const SALE: SaleId = SaleId(1);
    const EPOCH: Epoch = 2;

    fn order(id: u128, user: u64, quantity: u32) -> Order {
        let order_id = OrderId(Uuid::from_u128(id));
        Order {
            sale_id: SALE,
            epoch: EPOCH,
            claim: Claim { order_id, user_id: UserId(user), quantity, accepted_at: crate::now() },
        }
    }

    fn known(units: u32) -> Known {
        Known {
            rooms: HashMap::from([(SALE, Room { units, per_user_limit: 2, oldest_epoch: EPOCH })]),
            ..Known::default()
        }
    }

    #[test]
    fn each_order_is_answered_by_itself() {
        let mut unknown_sale = order(9, 9, 1);
        unknown_sale.sale_id = SaleId(2);
        let orders = [
            order(1, 1, 2),
            order(1, 1, 2),
            order(2, 1, 1),
            order(3, 3, 0),
            order(4, 4, 3),
            order(5, 5, 2),
            order(6, 6, 1),
            order(5, 5, 2),
            unknown_sale,
            Order { epoch: EPOCH - 1, ..order(8, 8, 1) },
            Order { epoch: EPOCH - 1, ..order(1, 1, 2) },
        ];
        use Fate::*;
        use RejectReason::*;
        assert_eq!(
            decide(&orders, known(3)),
            [
                Committed,
                AlreadyCommitted,
                Rejected(UserHasOrder),
                Rejected(BadQuantity),
                Rejected(BadQuantity),
                Rejected(SoldOut),
                Committed,
                AlreadyRejected(SoldOut),
                Rejected(UnknownSale),
                Rejected(StaleEpoch),
                AlreadyCommitted,
            ]
        );
    }

    #[test]
    fn a_stale_order_is_decided_anew_under_an_epoch_that_counts() {
        let stale = HashMap::from([(order(1, 1, 1).claim.order_id, RejectReason::StaleEpoch)]);
        let known = Known { rejected: stale, ..known(3) };
        let orders = [Order { epoch: EPOCH - 1, ..order(1, 1, 1) }, order(1, 1, 1), order(1, 1, 1)];
        assert_eq!(
            decide(&orders, known),
            [Fate::AlreadyRejected(RejectReason::StaleEpoch), Fate::Committed, Fate::AlreadyCommitted]
        );
    }

    #[test]
    fn the_old_row_goes_only_of_a_stale_order_that_gets_a_new_fate() {
        let ids = [1, 2, 3].map(|id| order(id, 1, 1).claim.order_id);
        let rejected = HashMap::from([(ids[0], RejectReason::StaleEpoch), (ids[1], RejectReason::SoldOut)]);
        let stale = Known { rejected, ..known(3) }.stale();
        assert_eq!(stale, HashSet::from([ids[0]]));
        let orders = [order(1, 1, 1), order(2, 2, 1), order(3, 3, 1)];
        let anew = |fates: [Fate; 3]| -> Vec<OrderId> {
            decided_anew(&orders, &fates, &stale).iter().map(|order| order.claim.order_id).collect()
        };
        let (sold_out, committed) = (RejectReason::SoldOut, Fate::Committed);
        assert_eq!(anew([committed, Fate::AlreadyRejected(sold_out), committed]), [ids[0]]);
        assert_eq!(anew([Fate::Rejected(sold_out), committed, committed]), [ids[0]]);
        assert_eq!(anew([Fate::AlreadyRejected(RejectReason::StaleEpoch), committed, committed]), []);
    }

    proptest! {
        #[test]
        fn whatever_arrives_nothing_is_oversold_or_sold_twice(
            units in 0_u32..20,
            arrivals in proptest::collection::vec((0_u128..30, 0_u64..12, 0_u32..4), 0..80),
        ) {
            let orders: Vec<_> = arrivals.iter().map(|&(id, user, quantity)| order(id, user, quantity)).collect();
            let fates = decide(&orders, known(units));
            let committed = || orders.iter().zip(&fates).filter(|(_, fate)| **fate == Fate::Committed).map(|(o, _)| o);
            let sold: u32 = committed().map(|o| o.claim.quantity).sum();
            let buyers: HashSet<_> = committed().map(|o| o.claim.user_id).collect();
            let ids: HashSet<_> = committed().map(|o| o.claim.order_id).collect();
            prop_assert!(sold <= units);
            prop_assert_eq!(buyers.len(), committed().count());
            prop_assert_eq!(ids.len(), committed().count());
            for (at, order) in orders.iter().enumerate() {
                let first = orders.iter().position(|o| o.claim.order_id == order.claim.order_id);
                let new = matches!(fates[at], Fate::Committed | Fate::Rejected(_));
                prop_assert_eq!(new, first == Some(at), "an order id gets a new fate exactly once");
            }
        }
    }
}
