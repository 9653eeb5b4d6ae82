//! The event streams that wait for news of an order. One that has nothing to tell costs a place in this map and nothing else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seckill_core::OrderId;
use tokio::sync::Notify;

use super::memory::Stage;

/// Who waits, by order.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Held only to look up, insert or remove; never across an await.
    by_order: Mutex<HashMap<OrderId, Vec<Arc<Waiting>>>>,
}

struct Waiting {
    news: Notify,
    /// The stage that it has told its client.
    told: AtomicU32,
}

/// One that waits, until it is dropped.
pub(crate) struct Waiter {
    waiters: Arc<Waiters>,
    order: OrderId,
    waiting: Arc<Waiting>,
}

impl Waiters {
    pub(crate) fn wait_for(self: &Arc<Self>, order: OrderId) -> Waiter {
        let waiting = Arc::new(Waiting { news: Notify::new(), told: AtomicU32::new(0) });
        self.lock().entry(order).or_default().push(Arc::clone(&waiting));
        Waiter { waiters: Arc::clone(self), order, waiting }
    }

    /// Wakes those who wait for one of these orders and have told of an earlier stage; `None`: whatever they have told.
    pub(crate) fn wake(&self, orders: impl Iterator<Item = (OrderId, Option<Stage>)>) {
        let by_order = self.lock();
        if by_order.is_empty() {
            return;
        }
        for (order, stage) in orders {
            for waiting in by_order.get(&order).into_iter().flatten() {
                if stage.is_none_or(|stage| stage.0 > waiting.told.load(Relaxed)) {
                    // Kept where it does not wait just now.
                    waiting.news.notify_one();
                }
            }
        }
    }

    /// The orders that somebody waits for.
    pub(crate) fn orders(&self) -> Vec<OrderId> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Vec<Arc<Waiting>>>> {
        // Inserting and removing leave the map whole, whoever panicked.
        self.by_order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Records what its client has been told.
    pub(crate) fn told(&self, stage: Stage) {
        self.waiting.told.store(stage.0, Relaxed);
    }

    /// Waits until there may be news. None is missed that came since the last call.
    pub(crate) async fn news(&self) {
        self.waiting.news.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut by_order = self.waiters.lock();
        if let Some(waiting) = by_order.get_mut(&self.order) {
            waiting.retain(|waiting| !Arc::ptr_eq(waiting, &self.waiting));
            if waiting.is_empty() {
                by_order.remove(&self.order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn news_come_to_those_who_do_not_know_them_and_are_kept() {
        let waiters = Arc::new(Waiters::default());
        let order = OrderId::generate();
        let (one, other) = (waiters.wait_for(order), waiters.wait_for(order));
        other.told(Stage(2));
        waiters.wake([(order, Some(Stage(2))), (OrderId::generate(), None)].into_iter());
        assert_eq!((one.news().now_or_never(), other.news().now_or_never()), (Some(()), None));
        waiters.wake([(order, None)].into_iter());
        assert_eq!((one.news().now_or_never(), other.news().now_or_never()), (Some(()), Some(())));
        drop(one);
        assert_eq!(waiters.orders(), [order]);
        drop(other);
        assert_eq!(waiters.orders(), []);
    }
}
