//! What this gateway remembers of orders.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use seckill_core::{Claim, LedgerOrder, OrderId, OrderStatus, SaleId, UserId};

/// How long an order is remembered that can change. Nobody is told anything that is older, whatever announcement was lost.
const CAN_CHANGE: Duration = Duration::from_secs(1);
/// How long one is remembered that stays as it is.
const STAYS: Duration = Duration::from_secs(600);

/// An order as it stood a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// The gate held it, and the ledger had not recorded it.
    Queued {
        sale_id: SaleId,
        claim: Claim,
    },
    Recorded(LedgerOrder),
}

impl Known {
    pub(crate) fn claim(&self) -> &Claim {
        match self {
            Self::Queued { claim, .. } | Self::Recorded(LedgerOrder { claim, .. }) => claim,
        }
    }

    pub(crate) fn id(&self) -> OrderId {
        self.claim().order_id
    }

    pub(crate) fn is_of(&self, user: UserId) -> bool {
        self.claim().user_id == user
    }

    pub(crate) fn status(&self) -> OrderStatus {
        match self {
            Self::Queued { .. } => OrderStatus::Queued,
            Self::Recorded(order) => order.status,
        }
    }

    /// How far the order is. Of two readings the one that is further is newer.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Queued { .. } => Stage::QUEUED,
            Self::Recorded(order) => Stage(order.sequence.saturating_add(1)),
        }
    }
}

/// How far an order is: queued, rejected, or in its so-manieth state since its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stage(pub(crate) u32);

impl Stage {
    const QUEUED: Self = Self(0);
}

#[derive(Clone)]
struct Remembered {
    known: Arc<Known>,
    lasts: Duration,
}

struct AsLongAsItLasts;

impl Expiry<OrderId, Remembered> for AsLongAsItLasts {
    fn expire_after_create(&self, _: &OrderId, order: &Remembered, _: Instant) -> Option<Duration> {
        Some(order.lasts)
    }

    fn expire_after_update(
        &self,
        _: &OrderId,
        order: &Remembered,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(order.lasts)
    }
}

/// The orders that were announced, or asked for, lately. Where it is full, it forgets those that were not asked for longest.
pub(crate) struct Memory(Cache<OrderId, Remembered>);

impl Memory {
    pub(crate) fn new(orders: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(orders)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(AsLongAsItLasts)
            .build();
        Self(cache)
    }

    pub(crate) fn get(&self, id: OrderId) -> Option<Arc<Known>> {
        self.0.get(&id).map(|remembered| remembered.known)
    }

    /// Remembers an order, unless it is known to be further. `stays`: it does not change any more.
    pub(crate) fn put(&self, known: Arc<Known>, stays: bool) {
        let lasts = if stays { STAYS } else { CAN_CHANGE };
        self.0.entry(known.id()).and_compute_with(|entry| {
            let further = entry.is_some_and(|entry| entry.into_value().known.stage() > known.stage());
            if further { Op::Nop } else { Op::Put(Remembered { known, lasts }) }
        });
    }

    pub(crate) fn forget(&self, id: OrderId) {
        self.0.invalidate(&id);
    }
}

#[cfg(test)]
mod tests {
    use seckill_core::{Order, now};

    use super::*;

    fn order() -> Order {
        let claim =
            Claim { order_id: OrderId::generate(), user_id: UserId(7), quantity: 1, accepted_at: now() };
        Order { sale_id: SaleId(1), epoch: 1, claim }
    }

    #[test]
    fn what_is_older_does_not_replace_what_is_newer() {
        let (memory, order) = (Memory::new(10), order());
        let id = order.claim.order_id;
        let queued = Arc::new(Known::Queued { sale_id: order.sale_id, claim: order.claim });
        let committed = Arc::new(Known::Recorded(LedgerOrder::committed(&order, 5, now())));
        memory.put(Arc::clone(&queued), false);
        memory.put(Arc::clone(&committed), true);
        memory.put(queued, false);
        assert_eq!(memory.get(id), Some(committed));
        memory.forget(id);
        assert_eq!(memory.get(id), None);
    }

    #[test]
    fn it_is_bounded() {
        let memory = Memory::new(100);
        for _ in 0..1_000 {
            let known = Known::Recorded(LedgerOrder::committed(&order(), 5, now()));
            memory.put(Arc::new(known), true);
        }
        memory.0.run_pending_tasks();
        assert_eq!(memory.0.entry_count(), 100);
    }
}
