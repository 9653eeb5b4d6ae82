//! The direct mode: the path of an order without a gate and without a queue, as the simplest gateway has it. Every order
//! is a transaction of its own, on one of a few writers. It is here to show what the shaved peak is compared with.
//!
//! A few writers share one bounded channel of claims. A claim that finds no stock left is refused after reading the sale,
//! which costs no write. The ledger decides the others; it oversells nothing and takes no user twice.

mod absent;

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{
    Backend, Claim, Dependency, Fate, Fault, Ledger, LedgerWriter, Order, Phase, RejectReason, Sale, SaleId,
    in_trace, now,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::retry::Attempts;
use crate::ticket::{Answer, NotTaken, Ticket};

/// How orders get into the ledger.
#[derive(Debug, Clone, Copy)]
pub struct DirectConfig {
    /// Transactions that may be under way at the same time, 1 or more.
    pub writers: usize,
    /// Orders that may wait for a writer, 1 or more; one more is refused.
    pub capacity: usize,
    /// An order that waited longer than this for a writer is refused instead of being written.
    pub max_wait: Duration,
}

impl Default for DirectConfig {
    fn default() -> Self {
        Self { writers: 8, capacity: 4_096, max_wait: Duration::from_secs(5) }
    }
}

/// How often one order is put to the ledger again when the ledger does not say how its commit ended.
const COMMIT_RETRIES: usize = 3;

/// The back end as a direct gateway uses it: the ledger alone. Gate and queue are neither asked nor missed.
pub(crate) fn without_gate(backend: &Backend) -> Backend {
    Backend { gate: Arc::new(absent::Gate), queue: Arc::new(absent::Queue), ..backend.clone() }
}

/// A ticket and its sale: the writers serve all sales.
type Waiting = (SaleId, Ticket);

/// The way to the writers.
#[derive(Clone)]
pub(crate) struct Pool {
    waiting: mpsc::Sender<Waiting>,
}

impl Pool {
    /// Starts the writers on `tracker`. They end once `shutdown` is cancelled and every waiting order has been answered.
    pub(crate) fn start(
        ledger: &Arc<dyn Ledger>,
        config: DirectConfig,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let (waiting, receiver) = mpsc::channel(config.capacity.max(1));
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..config.writers.max(1) {
            let writer = Writer { ledger: Arc::clone(ledger), max_wait: config.max_wait, connection: None };
            tracker.spawn(writer.run(Arc::clone(&receiver), shutdown.clone()));
        }
        Self { waiting }
    }

    /// Hands a claim to the writers. The answer comes through the receiver.
    ///
    /// # Errors
    /// [`NotTaken`]: refused at once, with nothing written.
    pub(crate) fn submit(&self, sale: SaleId, claim: Claim) -> Result<oneshot::Receiver<Answer>, NotTaken> {
        let (ticket, answer) = Ticket::new(claim);
        self.waiting.try_send((sale, ticket))?;
        Ok(answer)
    }
}

/// Waits for the next order. `None`: no more will come.
async fn next(waiting: &Mutex<mpsc::Receiver<Waiting>>, shutdown: &CancellationToken) -> Option<Waiting> {
    // Held while waiting: free writers wait for the lock in turn, and each holder takes one order.
    let mut waiting = waiting.lock().await;
    tokio::select! {
        // Closing the channel refuses new orders; the ones inside still come out, and then `None`.
        () = shutdown.cancelled(), if !waiting.is_closed() => waiting.close(),
        next = waiting.recv() => return next,
    }
    waiting.recv().await
}

struct Writer {
    ledger: Arc<dyn Ledger>,
    max_wait: Duration,
    /// None until there is something to write, and after a fault.
    connection: Option<Box<dyn LedgerWriter>>,
}

impl Writer {
    async fn run(mut self, waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>, shutdown: CancellationToken) {
        while let Some((sale, Ticket { claim, trace, since, answer })) = next(&waiting, &shutdown).await {
            let late = since.elapsed() > self.max_wait;
            let outcome =
                if late { Answer::Overloaded } else { in_trace(trace, self.take(sale, claim)).await };
            // The buyer may have hung up. The order stands; a retry gets its id.
            let _ = answer.send(outcome);
        }
    }

    /// Brings one order to its answer.
    async fn take(&mut self, id: SaleId, claim: Claim) -> Answer {
        let answer = match self.ledger.sale(id).await {
            Ok(Some(sale)) => self.decide(&sale, claim).await,
            Ok(None) => Ok(Answer::Gone),
            Err(fault) => Err(fault),
        };
        answer.unwrap_or_else(|fault| {
            tracing::warn!(sale_id = %id, order_id = %claim.order_id, error = %fault, "an order was not written");
            match fault.may_have_happened() {
                true => Answer::Unknown { order_id: claim.order_id },
                false => Answer::Unavailable(Dependency::Ledger),
            }
        })
    }

    async fn decide(&mut self, sale: &Sale, claim: Claim) -> Result<Answer, Fault> {
        let remaining = sale.stock.saturating_sub(sale.sold);
        let refusal = match sale.phase(now()) {
            Phase::Upcoming => return Ok(Answer::NotOpen),
            Phase::Closed => Some(Answer::Closed),
            Phase::Open if sale.paused => Some(Answer::Paused),
            Phase::Open => (claim.quantity > remaining).then_some(Answer::SoldOut { remaining }),
        };
        match refusal {
            // Whoever holds an order gets that order as the answer, whatever is left for others.
            Some(refusal) => Ok(self.held(sale, &claim).await?.unwrap_or(refusal)),
            None => self.write(sale, claim).await,
        }
    }

    async fn write(&mut self, sale: &Sale, claim: Claim) -> Result<Answer, Fault> {
        let answer = match self.commit(&Order { sale_id: sale.id, epoch: sale.epoch, claim }).await? {
            Fate::Committed | Fate::AlreadyCommitted => Answer::Accepted,
            Fate::Rejected(reason) | Fate::AlreadyRejected(reason) => match reason {
                // Sold to others since the sale was read, so that not as many as wanted are left.
                RejectReason::SoldOut => {
                    let sale = self.ledger.sale(sale.id).await.ok().flatten();
                    let remaining = sale.map_or(0, |sale| sale.stock.saturating_sub(sale.sold));
                    Answer::SoldOut { remaining: remaining.min(claim.quantity - 1) }
                }
                RejectReason::BadQuantity => Answer::OverLimit { limit: sale.per_user_limit },
                RejectReason::UnknownSale | RejectReason::StaleEpoch => Answer::Gone,
                RejectReason::UserHasOrder => self.held(sale, &claim).await?.unwrap_or(Answer::Gone),
            },
        };
        Ok(answer)
    }

    /// One transaction. Where the ledger did not say how it ended, the same order is put to it again: an order id keeps
    /// the fate that it once had.
    async fn commit(&mut self, order: &Order) -> Result<Fate, Fault> {
        let mut attempts = Attempts::new(COMMIT_RETRIES);
        loop {
            let fault = match self.try_commit(order).await {
                Ok(fate) => return Ok(fate),
                Err(fault) => fault,
            };
            sleep(attempts.pause_after(fault)?).await;
        }
    }

    async fn try_commit(&mut self, order: &Order) -> Result<Fate, Fault> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.ledger.writer().await?,
        };
        let begin = Instant::now();
        let fates = connection.commit(std::slice::from_ref(order)).await?;
        // Only a writer that ended well is used again.
        self.connection = Some(connection);
        metrics::histogram!("seckill_direct_commit_seconds").record(begin.elapsed());
        Ok(*fates.first().expect("a ledger answers every order"))
    }

    /// The user's order in the sale, where there is one.
    async fn held(&mut self, sale: &Sale, claim: &Claim) -> Result<Option<Answer>, Fault> {
        let orders = self.ledger.orders_of(claim.user_id, sale.id).await?;
        let active = orders.into_iter().find(|order| order.rejected.is_none());
        Ok(active.map(|found| {
            let Claim { order_id, quantity, .. } = found.claim;
            Answer::Replayed { order_id, quantity }
        }))
    }
}
