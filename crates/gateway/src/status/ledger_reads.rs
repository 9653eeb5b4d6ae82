//! Reads of orders by their ids, so many a second and no more. Those that wait for their turn share one statement, so that
//! however many ask, the ledger is not asked more often.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use seckill_core::{Fault, Ledger, LedgerOrder, MAX_ORDERS_AT_ONCE, OrderId};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::NotKnown;

/// Statements that may be under way at the same time.
const LANES: usize = 4;
/// Reads that may wait: those of half a second.
const WAITING: usize = 16_384;

/// A limit on how often something is done, for whoever comes.
pub(crate) struct Turns {
    limiter: DefaultDirectRateLimiter,
    /// The longest wait for a turn.
    patience: Duration,
}

impl Turns {
    /// So many a second; a twentieth of that at once.
    pub(crate) fn new(rate: NonZeroU32, patience: Duration) -> Self {
        let burst = NonZeroU32::new(rate.get() / 20).unwrap_or(NonZeroU32::MIN);
        Self { limiter: RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)), patience }
    }

    /// Waits for a turn.
    pub(crate) async fn take(&self) -> Result<(), NotKnown> {
        timeout(self.patience, self.limiter.until_ready()).await.map_err(|_| NotKnown::TooMany)
    }
}

type Answer = Result<Option<LedgerOrder>, Fault>;

struct Asked {
    id: OrderId,
    answer: oneshot::Sender<Answer>,
}

/// The way to the ledger, for whoever asks for an order.
pub(crate) struct LedgerReads {
    waiting: mpsc::Sender<Asked>,
    ledger: Arc<dyn Ledger>,
    turns: Arc<[Arc<Turns>]>,
    /// The longest wait for an answer.
    patience: Duration,
}

impl LedgerReads {
    /// Starts its lanes, which end when this is dropped. A statement waits for a turn of each of `turns`.
    pub(crate) fn start(ledger: Arc<dyn Ledger>, turns: Vec<Arc<Turns>>, patience: Duration) -> Self {
        let (waiting, asked) = mpsc::channel(WAITING);
        let (asked, turns) = (Arc::new(Mutex::new(asked)), Arc::<[_]>::from(turns));
        for _ in 0..LANES {
            tokio::spawn(lane(Arc::clone(&ledger), Arc::clone(&asked), Arc::clone(&turns)));
        }
        Self { waiting, ledger, turns, patience }
    }

    /// The order as the ledger has it.
    pub(crate) async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, NotKnown> {
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send(Asked { id, answer }).map_err(|_| NotKnown::TooMany)?;
        // The answer is dropped only with the lane, which does not panic.
        let answer = timeout(self.patience, answered).await.ok().and_then(Result::ok);
        Ok(answer.ok_or(NotKnown::TooMany)??)
    }

    /// Waits for the turn of one statement that the caller then makes.
    pub(crate) async fn turn(&self) -> Result<(), NotKnown> {
        for turns in &*self.turns {
            turns.take().await?;
        }
        count(1);
        Ok(())
    }

    /// Those of `ids` that the ledger has, by one statement, after whatever wait it takes.
    pub(crate) async fn orders(&self, ids: &[OrderId]) -> Result<Vec<LedgerOrder>, Fault> {
        take_at_last(&self.turns).await;
        count(1);
        self.ledger.orders(ids).await
    }
}

async fn lane(ledger: Arc<dyn Ledger>, asked: Arc<Mutex<mpsc::Receiver<Asked>>>, turns: Arc<[Arc<Turns>]>) {
    let mut batch = Vec::with_capacity(MAX_ORDERS_AT_ONCE);
    loop {
        {
            let mut asked = asked.lock().await;
            let Some(first) = asked.recv().await else { return };
            batch.push(first);
            // Meanwhile more gather.
            take_at_last(&turns).await;
            while batch.len() < MAX_ORDERS_AT_ONCE
                && let Ok(next) = asked.try_recv()
            {
                batch.push(next);
            }
        }
        // Of those who have given up nobody wants to know.
        batch.retain(|asked| !asked.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        let mut ids: Vec<_> = batch.iter().map(|asked| asked.id).collect();
        ids.sort_unstable();
        ids.dedup();
        count(1);
        let found = ledger.orders(&ids).await.map(|orders| {
            orders.into_iter().map(|order| (order.claim.order_id, order)).collect::<HashMap<_, _>>()
        });
        for Asked { id, answer } in batch.drain(..) {
            let order = found.as_ref().map(|found| found.get(&id).cloned()).map_err(Clone::clone);
            let _ = answer.send(order);
        }
    }
}

/// Waits for a turn of each, as long as it takes.
async fn take_at_last(turns: &[Arc<Turns>]) {
    for turns in turns {
        turns.limiter.until_ready().await;
    }
}

fn count(statements: u64) {
    metrics::counter!("seckill_order_reads_total", "source" => "ledger").increment(statements);
}
