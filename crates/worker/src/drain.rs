//! One lane of the worker: gather orders, wait for the pace, commit, acknowledge. The step is apart from the loop, so
//! that a test can drain a queue to the last order and know that it did.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use seckill_core::{Backend, Consumer, DeliveryTag, Fate, Fault, Ledger, LedgerWriter, Order, OrderQueue};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{Config, Pace};

/// What one commit did, order by order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// New rows.
    pub committed: usize,
    /// Newly recorded as rejected.
    pub rejected: usize,
    /// Redelivered: they had reached their end before.
    pub redelivered: usize,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A batch was committed.
    Committed(Progress),
    /// Shut down before there was a batch, or before it was admitted; nothing was written.
    Stopped,
}

/// One lane. It owns a consumer and a ledger writer, and makes new ones after a fault.
pub struct Lane {
    queue: Arc<dyn OrderQueue>,
    ledger: Arc<dyn Ledger>,
    pace: Arc<Pace>,
    config: Config,
    shutdown: CancellationToken,
    consumer: Option<Box<dyn Consumer>>,
    writer: Option<Box<dyn LedgerWriter>>,
    /// Orders taken and not yet committed, oldest first; a delivery's orders stand together.
    orders: VecDeque<Order>,
    /// The deliveries of those orders, oldest first, each with how many of its orders are not yet committed.
    deliveries: VecDeque<(DeliveryTag, usize)>,
    held: Held,
}

/// How many orders a lane holds, in a gauge that all lanes share.
#[derive(Default)]
struct Held(usize);

impl Held {
    fn set(&mut self, orders: usize) {
        metrics::gauge!("seckill_held_orders").increment(orders as f64 - self.0 as f64);
        self.0 = orders;
    }
}

/// A lane that is gone, in whatever way, holds nothing.
impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Lane {
    /// A lane that connects when it first steps.
    pub fn new(backend: &Backend, config: Config, pace: Arc<Pace>, shutdown: CancellationToken) -> Self {
        Self {
            queue: Arc::clone(&backend.queue),
            ledger: Arc::clone(&backend.ledger),
            pace,
            config,
            shutdown,
            consumer: None,
            writer: None,
            orders: VecDeque::new(),
            deliveries: VecDeque::new(),
            held: Held::default(),
        }
    }

    /// Steps until shutdown. After a fault it waits, longer each time up to 5 s and never the same, and goes on.
    pub async fn run(mut self) {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times();
        let mut delays = backoff.build();
        while !self.shutdown.is_cancelled() {
            let Err(fault) = self.step().await else {
                delays = backoff.build();
                continue;
            };
            let delay = delays.next().unwrap_or(Duration::from_secs(5));
            metrics::counter!("seckill_worker_faults_total").increment(1);
            tracing::warn!(error = %fault, held_orders = self.orders.len(), retry_in = ?delay, "the worker cannot go on");
            let _ = self.shutdown.run_until_cancelled(tokio::time::sleep(delay)).await;
        }
    }

    /// Brings one batch from the queue to its end: gathers it, waits until the pace admits it, commits it, and
    /// acknowledges the deliveries that are done with it. Waits for orders as long as there are none.
    ///
    /// # Errors
    /// A fault of the queue: what the lane held goes back to the queue and will come again. A fault of the ledger: the
    /// lane keeps what it holds and the next step tries the same orders again; nothing is put back, so a database that
    /// is down causes no storm of redeliveries, and the queue stops sending once the prefetch is used up.
    pub async fn step(&mut self) -> Result<Step, Fault> {
        let shutdown = self.shutdown.clone();
        // Only the waits may be cut short. From the commit on, the step runs to its end.
        let Some(gathered) = shutdown.run_until_cancelled(self.gather()).await else {
            return Ok(Step::Stopped);
        };
        gathered?;
        let Some(count) = shutdown.run_until_cancelled(self.pace.admit(self.orders.len())).await else {
            return Ok(Step::Stopped);
        };
        let progress = self.commit(count).await?;
        // A process killed here has committed orders whose messages come again, and the ledger knows them by their ids.
        self.acknowledge(count).await?;
        Ok(Step::Committed(progress))
    }

    /// Takes deliveries until a batch is full, or until the linger time after the first order is over.
    async fn gather(&mut self) -> Result<(), Fault> {
        let mut full_by = (!self.orders.is_empty()).then(|| Instant::now() + self.config.linger);
        while self.orders.len() < self.pace.batch()
            && self.deliveries.len() < usize::from(self.config.prefetch)
        {
            let consumer = match &mut self.consumer {
                Some(consumer) => consumer,
                none => none.insert(self.queue.consumer(self.config.prefetch).await?),
            };
            let next = match full_by {
                None => consumer.next().await,
                Some(full_by) => match timeout_at(full_by, consumer.next()).await {
                    Ok(next) => next,
                    Err(_elapsed) => break,
                },
            };
            let delivery = next.inspect_err(|_| self.give_back())?;
            self.deliveries.push_back((delivery.tag, delivery.batch.orders.len()));
            self.orders.extend(delivery.batch.into_orders());
            self.held.set(self.orders.len());
            full_by.get_or_insert_with(|| Instant::now() + self.config.linger);
        }
        Ok(())
    }

    /// Commits the oldest `count` orders in one transaction.
    async fn commit(&mut self, count: usize) -> Result<Progress, Fault> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.ledger.writer().await?,
        };
        let begin = Instant::now();
        let batch = &self.orders.make_contiguous()[..count];
        let fates = writer.commit(batch).await?;
        // Only a writer that ended well is used again.
        self.writer = Some(writer);
        metrics::histogram!("seckill_commit_seconds").record(begin.elapsed());
        metrics::histogram!("seckill_commit_batch_orders").record(count as f64);
        Ok(record(&self.orders, &fates))
    }

    /// Forgets the oldest `count` orders, and acknowledges each delivery that has none left.
    async fn acknowledge(&mut self, count: usize) -> Result<(), Fault> {
        self.orders.drain(..count);
        self.held.set(self.orders.len());
        let mut done = count;
        while let Some((_, left)) = self.deliveries.front_mut() {
            let part = done.min(*left);
            done -= part;
            *left -= part;
            if *left > 0 {
                break;
            }
            let Some((tag, _)) = self.deliveries.pop_front() else { break };
            if let Some(consumer) = &mut self.consumer {
                let acknowledged = consumer.ack(tag).await;
                acknowledged.inspect_err(|_| self.give_back())?;
            }
        }
        Ok(())
    }

    /// Drops the consumer, and with it everything unacknowledged: the queue delivers it again.
    fn give_back(&mut self) {
        self.consumer = None;
        self.orders.clear();
        self.deliveries.clear();
        self.held.set(0);
    }
}

/// Counts what became of a batch, and logs what was rejected: it means that the gate had lost data.
fn record(orders: &VecDeque<Order>, fates: &[Fate]) -> Progress {
    let mut progress = Progress::default();
    for (order, fate) in orders.iter().zip(fates) {
        match fate {
            Fate::Committed => progress.committed += 1,
            Fate::AlreadyCommitted | Fate::AlreadyRejected(_) => progress.redelivered += 1,
            Fate::Rejected(reason) => {
                progress.rejected += 1;
                metrics::counter!("seckill_orders_rejected_total", "reason" => reason.as_str()).increment(1);
                tracing::warn!(
                    order_id = %order.claim.order_id, sale_id = %order.sale_id, reason = reason.as_str(),
                    "the ledger rejected an order that the gate had let through"
                );
            }
        }
    }
    metrics::counter!("seckill_orders_committed_total").increment(progress.committed as u64);
    metrics::counter!("seckill_orders_redelivered_total").increment(progress.redelivered as u64);
    progress
}
