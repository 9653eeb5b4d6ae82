//! Hears what the ledger's writers announce, remembers it, and wakes the event streams that wait for it. What was not
//! announced is found by looking up what the streams wait for, seldom and many orders at a time.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{FateNews, Fault, Heard, MAX_ORDERS_AT_ONCE};
use tokio::time::{Instant, sleep, timeout};

use super::memory::Known;
use super::{LedgerOrder, Statuses};
use crate::retry::backoff;

/// The longest pause before listening is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Statuses {
    /// Listens and looks after the event streams; never returns. May be dropped at any point.
    pub(crate) async fn keep_current(&self) {
        tokio::join!(self.listen(), self.check_what_is_waited_for());
    }

    async fn listen(&self) {
        let mut delays = backoff();
        loop {
            let begin = Instant::now();
            let Err(fault) = self.listen_once().await;
            // What streams wait for is looked up meanwhile, and once more when it is listened again.
            tracing::warn!(error = %fault, "what becomes of orders is not heard at the moment; polls ask the ledger");
            if begin.elapsed() > LONGEST_PAUSE {
                delays = backoff();
            }
            sleep(delays.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    async fn listen_once(&self) -> Result<std::convert::Infallible, Fault> {
        let mut listener = self.backend.fates.listen().await?;
        self.check_now.notify_one();
        loop {
            match listener.next().await? {
                Heard::News(news) => self.take(news).await,
                Heard::Gap => self.check_now.notify_one(),
            }
        }
    }

    async fn take(&self, FateNews { orders, changed }: FateNews) {
        metrics::counter!("seckill_fates_heard_total").increment((orders.len() + changed.len()) as u64);
        for id in &changed {
            self.memory.forget(*id);
        }
        for order in &orders {
            self.of_users.invalidate(&(order.claim.user_id, order.sale_id)).await;
        }
        self.waiters.wake(changed.into_iter().map(|id| (id, None)));
        self.tell(orders);
    }

    /// Remembers orders, and wakes who waits for them.
    fn tell(&self, orders: Vec<LedgerOrder>) {
        let known: Vec<_> = orders.into_iter().map(|order| Arc::new(Known::Recorded(order))).collect();
        for known in &known {
            self.remember(Arc::clone(known));
        }
        self.waiters.wake(known.iter().map(|known| (known.id(), Some(known.stage()))));
    }

    async fn check_what_is_waited_for(&self) {
        loop {
            // Gateways that were started together do not look together.
            let pause = self.check_every.mul_f64(rand::random_range(0.8..=1.2));
            let _ = timeout(pause, self.check_now.notified()).await;
            for ids in self.waiters.orders().chunks(MAX_ORDERS_AT_ONCE) {
                match self.reads.orders(ids).await {
                    Ok(orders) => self.tell(orders),
                    Err(fault) => {
                        tracing::debug!(error = %fault, "the orders that event streams wait for cannot be looked up");
                        break;
                    }
                }
            }
        }
    }
}
