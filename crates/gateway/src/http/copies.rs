//! One computed copy of what anybody may ask for: it is read from the back ends once per interval, however many ask. A page that
//! every buyer reloads must not become the load that the queue takes off the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use moka::future::Cache;
use seckill_core::{Dependency, Fault, SaleId};
use tokio::sync::{Semaphore, watch};

/// Sales whose copies are kept.
const MAX_COPIES: u64 = 1_000;

/// What was read of a sale; `None`: there is no such sale.
type Answer<T> = Result<Option<T>, Fault>;
type Read<T> = dyn Fn(SaleId) -> BoxFuture<'static, Answer<T>> + Send + Sync;

/// The copies of one kind, one for each sale.
pub(super) struct Copies<T> {
    read: Arc<Read<T>>,
    /// How old a copy may be.
    interval: Duration,
    /// Reads that may be under way at the same time, over all sales.
    reads: Arc<Semaphore>,
    copies: Cache<SaleId, Copy<T>>,
}

/// One copy, or a read under way.
#[derive(Clone)]
struct Copy<T>(watch::Receiver<Option<Done<T>>>);

#[derive(Clone)]
struct Done<T> {
    at: Instant,
    /// How long the read took. The next one waits as long, so that reading takes half of the time at the most.
    took: Duration,
    answer: Answer<T>,
}

impl<T: Clone + Send + Sync + 'static> Copies<T> {
    /// Copies that are at most `interval` old, or as old as the read took where that is longer; `reads` of them are read at the same
    /// time at the most.
    pub(super) fn new<R>(interval: Duration, reads: usize, read: R) -> Self
    where
        R: Fn(SaleId) -> BoxFuture<'static, Answer<T>> + Send + Sync + 'static,
    {
        Self {
            read: Arc::new(read),
            interval,
            reads: Arc::new(Semaphore::new(reads)),
            copies: Cache::builder().max_capacity(MAX_COPIES).build(),
        }
    }

    /// The copy for this sale. A read runs in a task of its own, so those who hang up neither stop nor repeat it.
    ///
    /// # Errors
    /// The fault that the read ended with; it serves everybody for the interval, too.
    pub(super) async fn get(&self, id: SaleId) -> Answer<T> {
        let is_old = |copy: &Copy<T>| copy.is_old(self.interval);
        let entry = self.copies.entry(id).or_insert_with_if(async { self.start(id) }, is_old).await;
        let Copy(mut copy) = entry.into_value();
        let done = copy.wait_for(Option::is_some).await;
        let lost = || Fault::unavailable(Dependency::Ledger, "reading the sale was broken off");
        done.ok().and_then(|done| done.clone()).ok_or_else(lost)?.answer
    }

    fn start(&self, id: SaleId) -> Copy<T> {
        let (tell, copy) = watch::channel(None);
        let (read, reads) = (Arc::clone(&self.read), Arc::clone(&self.reads));
        tokio::spawn(async move {
            let _permit = reads.acquire().await;
            let begin = Instant::now();
            let answer = read(id).await;
            tell.send_replace(Some(Done { at: Instant::now(), took: begin.elapsed(), answer }));
        });
        Copy(copy)
    }
}

impl<T> Copy<T> {
    fn is_old(&self, interval: Duration) -> bool {
        match &*self.0.borrow() {
            Some(done) => done.at.elapsed() >= interval.max(done.took),
            // Only a read that panicked ends without an answer.
            None => self.0.has_changed().is_err(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_crowd_that_hangs_up_neither_stops_nor_repeats_the_read() {
        let (begun, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counted, wait) = (Arc::clone(&begun), Arc::clone(&go));
        let copies = Copies::new(Duration::from_secs(60), 1, move |_| {
            counted.fetch_add(1, Relaxed);
            let wait = Arc::clone(&wait);
            Box::pin(async move {
                wait.notified().await;
                Ok(Some(7))
            })
        });
        for _ in 0..50 {
            let hung_up = tokio::time::timeout(Duration::from_millis(1), copies.get(SaleId(1))).await;
            assert!(hung_up.is_err());
        }
        assert_eq!(begun.load(Relaxed), 1);
        go.notify_one();
        assert_eq!(copies.get(SaleId(1)).await.unwrap(), Some(7));
        assert_eq!(copies.get(SaleId(1)).await.unwrap(), Some(7));
        assert_eq!(begun.load(Relaxed), 1, "a copy that is not old serves");
    }

    #[tokio::test]
    async fn an_old_copy_is_read_anew_and_so_is_one_whose_read_panicked() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&begun);
        let copies = Copies::new(Duration::ZERO, 1, move |_| {
            let nth = counted.fetch_add(1, Relaxed);
            Box::pin(async move {
                assert!(nth > 0, "the first read panics");
                Ok(Some(nth))
            })
        });
        assert!(copies.get(SaleId(1)).await.is_err());
        assert_eq!(copies.get(SaleId(1)).await.unwrap(), Some(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(copies.get(SaleId(1)).await.unwrap(), Some(2));
    }
}
