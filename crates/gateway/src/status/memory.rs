//! What this gateway remembers of orders.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The orders that were announced, asked for, or accepted here lately. Where it is full, it forgets those that were not asked for
/// longest.
pub(crate) struct Memory {
    known: Cache<OrderId, Remembered>,
    /// Apart, because each order that is accepted goes in here, and few are asked for within that time.
    accepted: JustAccepted,
}

impl Memory {
    pub(crate) fn new(orders: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(orders)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(AsLongAsItLasts)
            .build();
        Self { known: cache, accepted: JustAccepted::new(usize::try_from(orders).unwrap_or(usize::MAX)) }
    }

    pub(crate) fn get(&self, id: OrderId) -> Option<Arc<Known>> {
        // An order that was announced or read is at least as far as it was when it was accepted.
        let known = self.known.get(&id).map(|remembered| remembered.known);
        known.or_else(|| self.accepted.get(id).map(Arc::new))
    }

    /// Takes in an order that was accepted just now.
    pub(crate) fn accepted(&self, sale_id: SaleId, claim: Claim) {
        self.accepted.put(sale_id, claim);
    }

    /// Remembers an order, unless it is known to be further. `stays`: it does not change any more.
    pub(crate) fn put(&self, known: Arc<Known>, stays: bool) {
        let lasts = if stays { STAYS } else { CAN_CHANGE };
        self.known.entry(known.id()).and_compute_with(|entry| {
            let further = entry.is_some_and(|entry| entry.into_value().known.stage() > known.stage());
            if further { Op::Nop } else { Op::Put(Remembered { known, lasts }) }
        });
    }

    pub(crate) fn forget(&self, id: OrderId) {
        self.known.invalidate(&id);
        self.accepted.forget(id);
    }
}

/// The orders that this gateway has accepted within the last second, in two halves of a second: each is dropped as a whole.
struct JustAccepted {
    /// Held only to look up, insert or drop; never across an await.
    halves: Mutex<Halves>,
    /// In each half, at the most.
    most: usize,
}

struct Halves {
    newer: HashMap<OrderId, (SaleId, Claim)>,
    older: HashMap<OrderId, (SaleId, Claim)>,
    /// When the newer half began.
    since: Instant,
}

impl JustAccepted {
    fn new(most: usize) -> Self {
        let halves = Halves { newer: HashMap::new(), older: HashMap::new(), since: Instant::now() };
        Self { halves: Mutex::new(halves), most: most / 2 }
    }

    fn put(&self, sale_id: SaleId, claim: Claim) {
        let mut halves = self.current();
        if halves.newer.len() < self.most {
            halves.newer.insert(claim.order_id, (sale_id, claim));
        }
    }

    fn get(&self, id: OrderId) -> Option<Known> {
        let halves = self.current();
        let (sale_id, claim) = *halves.newer.get(&id).or_else(|| halves.older.get(&id))?;
        Some(Known::Queued { sale_id, claim })
    }

    fn forget(&self, id: OrderId) {
        let mut halves = self.current();
        halves.newer.remove(&id);
        halves.older.remove(&id);
    }

    fn current(&self) -> MutexGuard<'_, Halves> {
        // Inserting and dropping leave the maps whole, whoever panicked.
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let age = halves.since.elapsed();
        if age >= CAN_CHANGE / 2 {
            let Halves { newer, older, since } = &mut *halves;
            std::mem::swap(newer, older);
            newer.clear();
            if age >= CAN_CHANGE {
                older.clear();
            }
            *since = Instant::now();
        }
        halves
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
        memory.known.run_pending_tasks();
        assert_eq!(memory.known.entry_count(), 100);
        for _ in 0..1_000 {
            memory.accepted(SaleId(1), order().claim);
        }
        let halves = memory.accepted.current();
        assert!(halves.newer.len() + halves.older.len() <= 100);
    }

    #[test]
    fn what_was_accepted_is_known_until_more_is_known_and_for_a_second_at_the_most() {
        let (memory, order) = (Memory::new(10), order());
        let id = order.claim.order_id;
        memory.accepted(order.sale_id, order.claim);
        assert_eq!(memory.get(id).map(|known| known.status()), Some(OrderStatus::Queued));
        let committed = Arc::new(Known::Recorded(LedgerOrder::committed(&order, 5, now())));
        memory.put(Arc::clone(&committed), true);
        assert_eq!(memory.get(id), Some(committed));
        memory.forget(id);
        assert_eq!(memory.get(id), None);

        memory.accepted(order.sale_id, order.claim);
        let age = |halves: &mut Halves, age| halves.since = halves.since.checked_sub(age).unwrap();
        age(&mut memory.accepted.halves.lock().unwrap(), CAN_CHANGE / 2);
        assert!(memory.get(id).is_some());
        age(&mut memory.accepted.halves.lock().unwrap(), CAN_CHANGE / 2);
        assert_eq!(memory.get(id), None);
    }
}
