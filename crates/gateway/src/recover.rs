//! The recoverer: publishes reservations that nobody settled in time, under their own order ids. Their gateway died
//! between deducting and publishing, or the confirm never came. Any gateway does it for all; two that do the same cost a
//! duplicate message, and the ledger takes each order id once.

use std::time::Duration;

use rand::RngExt;
use seckill_core::{Backend, Dependency, Fault, MAX_BATCH_ORDERS, OrderBatch, Publisher, Sale};

use crate::directory::Directory;

/// How stranded reservations are looked for.
#[derive(Debug, Clone, Copy)]
pub struct RecoverConfig {
    /// A reservation is stranded once it has been pending this long. Longer than a publisher waits for a confirm.
    pub deadline: Duration,
    /// Pause between two looks; jittered by half, so that gateways do not look in step.
    pub interval: Duration,
}

impl Default for RecoverConfig {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), interval: Duration::from_secs(1) }
    }
}

/// Pending entries that one look takes in hand.
const LOOK_LIMIT: usize = 64;
/// A sale that closed longer ago than this is looked at only every so many rounds.
const CLOSED_ROUNDS: u64 = 60;

/// Looks after every sale of `directory`; never returns. May be dropped at any point.
pub async fn run(backend: Backend, directory: &Directory, config: RecoverConfig) {
    let mut recoverer = Recoverer { backend, config, publisher: None };
    for round in 0_u64.. {
        let now = seckill_core::now();
        let (mut pending, mut queued) = (0, 0);
        for desk in directory.desks() {
            let closed_long = desk.sale.ends_at + chrono::Duration::hours(1) < now;
            if !desk.is_sold_here() || (closed_long && round % CLOSED_ROUNDS != 0) {
                continue;
            }
            match recoverer.recover(&desk.sale).await {
                Ok(0) => {}
                Ok(orders) => {
                    tracing::info!(sale_id = %desk.sale.id, orders, "recovered stranded reservations");
                }
                Err(fault) => {
                    tracing::warn!(sale_id = %desk.sale.id, error = %fault, "stranded reservations must wait");
                }
            }
            if let Ok((sale_pending, sale_queued)) = in_flight(&recoverer.backend, &desk.sale).await {
                pending += sale_pending;
                queued += sale_queued;
            }
        }
        metrics::gauge!("seckill_pending_orders").set(pending as f64);
        metrics::gauge!("seckill_queue_orders").set(queued as f64);
        let pause = config.interval.mul_f64(rand::rng().random_range(0.5..1.5));
        tokio::time::sleep(pause).await;
    }
}

/// Publishes what is stranded.
pub struct Recoverer {
    backend: Backend,
    config: RecoverConfig,
    publisher: Option<Box<dyn Publisher>>,
}

impl Recoverer {
    /// A recoverer that connects when it first has something to publish.
    pub fn new(backend: Backend, config: RecoverConfig) -> Self {
        Self { backend, config, publisher: None }
    }

    /// Publishes the sale's stranded reservations and settles them; says how many orders there were. Nothing else reads
    /// the pending log, so a reservation that cannot be published now is found again by the next look.
    ///
    /// # Errors
    /// The gate or the queue is away; what was published so far is settled, or found again.
    pub async fn recover(&mut self, sale: &Sale) -> Result<usize, Fault> {
        let mut orders = 0;
        for reservation in self.backend.gate.stranded(sale.id, self.config.deadline, LOOK_LIMIT).await? {
            for part in reservation.claims.chunks(MAX_BATCH_ORDERS) {
                self.publish(OrderBatch::new(sale.id, sale.epoch, part.to_vec())).await?;
                orders += part.len();
            }
            // Killed here, or the gate is away: published and still pending, so it is published once more, harmlessly.
            self.backend.gate.settle(sale.id, &[reservation.id]).await?;
        }
        metrics::counter!("seckill_orders_recovered_total").increment(orders as u64);
        Ok(orders)
    }

    async fn publish(&mut self, batch: OrderBatch) -> Result<(), Fault> {
        let mut publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => self.backend.queue.publisher().await?,
        };
        if !publisher.accepting() {
            return Err(Fault::unavailable(Dependency::Queue, "it takes no orders just now"));
        }
        publisher.publish(&batch).await?;
        self.publisher = Some(publisher);
        Ok(())
    }
}

/// Orders of the sale that are pending, and orders that are between the queue's confirm and the ledger's commit. The
/// ledger is read first, so that what moves meanwhile can only be counted as still on its way.
async fn in_flight(backend: &Backend, sale: &Sale) -> Result<(u64, u64), Fault> {
    let Some(sale) = backend.ledger.sale(sale.id).await? else { return Ok((0, 0)) };
    let Some(level) = backend.gate.level(sale.id).await? else { return Ok((0, 0)) };
    let done = sale.orders + sale.rejected_orders + level.pending_orders;
    Ok((level.pending_orders, level.orders.saturating_sub(done)))
}
