//! The fates: what the ledger did with orders, told to every gateway, so that those who poll need not ask the ledger.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Fate, Fault, LedgerOrder, Order, OrderId, OrderRecord, Timestamp};

/// Tells every listener what has become of orders.
///
/// A back end announces by itself, after each of its commits: a batch of the worker, an order of a direct gateway, a change
/// after the commit. So no caller can forget it. An announcement that is lost costs those who poll a slower answer and never
/// a wrong one for long: see [`FatesListener::next`].
#[async_trait]
pub trait Fates: Send + Sync {
    /// Hands `news` over to be sent, and returns at once. What cannot be sent is dropped and counted in
    /// `seckill_fates_dropped_total`, and listeners are told of the gap.
    fn announce(&self, news: FateNews);

    /// Everything that is announced from now on, by every process of this ledger.
    async fn listen(&self) -> Result<Box<dyn FatesListener>, Fault>;
}

/// Receives what is announced. After any fault drop it and ask for a new one.
#[async_trait]
pub trait FatesListener: Send {
    /// Waits for the next news. May be cancelled without losing any. A listener that is too slow misses the oldest, and hears
    /// [`Heard::Gap`] instead.
    ///
    /// Lost without a gap is only what a process did not announce because it died between the commit and the announcement.
    /// Orders of such a batch are delivered again, and the second delivery announces them as changed; a change after the
    /// commit is not made up for.
    async fn next(&mut self) -> Result<Heard, Fault>;
}

/// What the ledger did in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FateNews {
    /// Orders as the ledger has them now.
    pub orders: Vec<LedgerOrder>,
    /// Orders of which the ledger may have another state than was announced last.
    pub changed: Vec<OrderId>,
}

impl FateNews {
    /// What a commit of `orders` with these `fates` has to tell. An order that was known before is only said to have changed:
    /// it may be further on by now.
    pub fn of_commit(
        orders: &[Order],
        fates: &[Fate],
        amount_cents: impl Fn(&Order) -> u64,
        recorded_at: Timestamp,
    ) -> Self {
        let mut news = Self::default();
        for (order, fate) in orders.iter().zip(fates) {
            match fate {
                Fate::Committed => {
                    news.orders.push(LedgerOrder::committed(order, amount_cents(order), recorded_at));
                }
                Fate::Rejected(reason) => {
                    news.orders.push(LedgerOrder::rejected(order, *reason, recorded_at));
                }
                Fate::AlreadyCommitted | Fate::AlreadyRejected(_) => news.changed.push(order.claim.order_id),
            }
        }
        news
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.changed.is_empty()
    }

    /// The same orders, without their states: what to announce where it is unknown how a commit ended.
    pub fn unknown(self) -> Self {
        let ids = self.orders.into_iter().map(|order| order.claim.order_id);
        Self { changed: self.changed.into_iter().chain(ids).collect(), orders: Vec::new() }
    }
}

/// Announces changes of orders once it is known how their transaction ended. Dropped before that, it says that they may have
/// changed: the transaction may have been committed.
pub struct Announcement {
    fates: Arc<dyn Fates>,
    news: FateNews,
}

impl Announcement {
    /// For a transaction that moves orders to `moved` and is about to be committed.
    pub fn before_commit(fates: Arc<dyn Fates>, moved: &[OrderRecord]) -> Self {
        let orders = moved.iter().map(LedgerOrder::from).collect();
        Self { fates, news: FateNews { orders, changed: Vec::new() } }
    }

    /// Tells how the commit ended, as far as it is known.
    pub fn after_commit<T>(mut self, ended: &Result<T, Fault>) {
        match ended {
            Ok(_) => {
                let news = std::mem::take(&mut self.news);
                self.send(news);
            }
            Err(fault) if fault.may_have_happened() => {}
            Err(_) => self.news = FateNews::default(),
        }
    }

    fn send(&self, news: FateNews) {
        if !news.is_empty() {
            self.fates.announce(news);
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let news = std::mem::take(&mut self.news);
        self.send(news.unknown());
    }
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// What the ledger did.
    News(FateNews),
    /// Something may have been missed. What was remembered of orders that can change may be out of date.
    Gap,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Claim, Dependency, OrderState, SaleId, UserId, now};

    #[derive(Default)]
    struct Told(Mutex<Vec<FateNews>>);

    #[async_trait]
    impl Fates for Told {
        fn announce(&self, news: FateNews) {
            self.0.lock().unwrap().push(news);
        }

        async fn listen(&self) -> Result<Box<dyn FatesListener>, Fault> {
            Err(Fault::unavailable(Dependency::Ledger, "nobody listens"))
        }
    }

    fn paid() -> OrderRecord {
        let claim =
            Claim { order_id: OrderId::generate(), user_id: UserId(1), quantity: 1, accepted_at: now() };
        OrderRecord {
            sale_id: SaleId(1),
            claim,
            amount_cents: 100,
            state: OrderState::COMMITTED,
            cancelled: None,
            sequence: 2,
            committed_at: now(),
        }
    }

    /// What is told where the commit ends like this; `None`: nobody sees its end.
    fn told(record: &OrderRecord, ended: Option<Result<(), Fault>>) -> Vec<FateNews> {
        let fates = Arc::new(Told::default());
        let announcement =
            Announcement::before_commit(Arc::clone(&fates) as Arc<dyn Fates>, std::slice::from_ref(record));
        match ended {
            Some(ended) => announcement.after_commit(&ended),
            None => drop(announcement),
        }
        std::mem::take(&mut *fates.0.lock().unwrap())
    }

    #[test]
    fn a_change_is_told_as_far_as_it_is_known() {
        let record = paid();
        let is = FateNews { orders: vec![LedgerOrder::from(&record)], changed: Vec::new() };
        let may_be = FateNews { orders: Vec::new(), changed: vec![record.claim.order_id] };
        assert_eq!(told(&record, Some(Ok(()))), [is]);
        let unknown = Fault::unknown(Dependency::Ledger, "no answer");
        assert_eq!(told(&record, Some(Err(unknown))), std::slice::from_ref(&may_be));
        let refused = Fault::unavailable(Dependency::Ledger, "no");
        assert_eq!(told(&record, Some(Err(refused))), []);
        assert_eq!(told(&record, None), [may_be], "a caller that gives up");
    }
}
