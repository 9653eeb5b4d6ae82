//! What the lanes of one worker hold: a gauge, and for each sale the moment at which the oldest of those orders was set aside.
//! The gate gets it once a second, so that nobody takes an order for lost that a worker has in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seckill_core::{SaleId, StockGate};
use uuid::Uuid;

/// How often the gate is informed: often enough that the gate, which forgets after 10 s, does not forget a worker that lives.
const EVERY: Duration = Duration::from_secs(1);

type Oldest = BTreeMap<SaleId, u64>;

/// What all lanes of one worker hold.
#[derive(Clone, Default)]
pub(crate) struct HeldByWorker(Arc<Mutex<BTreeMap<Uuid, Oldest>>>);

impl HeldByWorker {
    /// A place for one more lane.
    pub(crate) fn lane(&self) -> HeldOrders {
        HeldOrders { orders: 0, place: Some((self.clone(), Uuid::now_v7())) }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Uuid, Oldest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For each sale when the oldest order was set aside that any lane holds.
    fn oldest(&self) -> Oldest {
        let mut all = Oldest::new();
        for (sale, millis) in self.lanes().values().flatten() {
            all.entry(*sale).and_modify(|oldest| *oldest = (*oldest).min(*millis)).or_insert(*millis);
        }
        all
    }

    /// Informs the gate once a second; never returns. May be dropped at any point.
    pub(crate) async fn report(&self, gate: &dyn StockGate, worker: Uuid) {
        let mut reported = BTreeSet::new();
        loop {
            let oldest = self.oldest();
            let ended: Vec<SaleId> =
                reported.iter().filter(|sale| !oldest.contains_key(sale)).copied().collect();
            let news = oldest.iter().map(|(sale, millis)| (*sale, Some(*millis)));
            for (sale, millis) in news.chain(ended.into_iter().map(|sale| (sale, None))).collect::<Vec<_>>() {
                match gate.report_held(sale, worker, millis).await {
                    Ok(()) if millis.is_some() => {
                        reported.insert(sale);
                    }
                    Ok(()) => {
                        reported.remove(&sale);
                    }
                    // A gate that is away is no reason to stop draining; nobody can take an order for lost meanwhile either.
                    Err(fault) => {
                        tracing::debug!(sale_id = %sale, error = %fault, "what a worker holds cannot be reported");
                    }
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// What one lane holds.
#[derive(Default)]
pub(crate) struct HeldOrders {
    orders: usize,
    /// `None` for a lane whose worker reports nothing.
    place: Option<(HeldByWorker, Uuid)>,
}

impl HeldOrders {
    pub(crate) fn set(&mut self, orders: usize, set_aside: impl Iterator<Item = (SaleId, u64)>) {
        metrics::gauge!("seckill_held_orders").increment(orders as f64 - self.orders as f64);
        self.orders = orders;
        let Some((worker, lane)) = &self.place else { return };
        let mut oldest = Oldest::new();
        for (sale, millis) in set_aside {
            oldest.entry(sale).and_modify(|known| *known = (*known).min(millis)).or_insert(millis);
        }
        if oldest.is_empty() {
            worker.lanes().remove(lane);
        } else {
            worker.lanes().insert(*lane, oldest);
        }
    }
}

/// A lane that ends, by a panic too, holds nothing any more.
impl Drop for HeldOrders {
    fn drop(&mut self) {
        self.set(0, std::iter::empty());
    }
}
