//! The recoverer: publishes reservations that nobody settled in time, under their own order ids. Their gateway died
//! between deducting and publishing, or the confirm never came. Any gateway does it for all; two that do the same cost a
//! duplicate message, and the ledger takes each order id once. It also publishes the markers that show how far the queue has
//! got. It asks the gate and the queue, never the ledger: a database that is away stops none of it.

use std::collections::HashMap;
use std::time::Duration;

use backon::ExponentialBackoff;
use rand::RngExt;
use seckill_core::{
    AbortPoint, Backend, Dependency, Fault, MAX_BATCH_ORDERS, OrderBatch, Publisher, ReservationId, Sale,
    SaleId, SaleState, abort_point,
};
use tokio::time::Instant;

use crate::directory::Directory;
use crate::retry::backoff;

/// How stranded reservations are looked for.
#[derive(Debug, Clone, Copy)]
pub struct RecoverConfig {
    /// A reservation is stranded once it has been pending this long. Longer than a publisher waits for a confirm.
    pub deadline: Duration,
    /// Pause between two looks; jittered by half, so that gateways do not look in step.
    pub interval: Duration,
    /// Pause between two markers of a sale, whichever gateways publish them.
    pub markers: Duration,
}

impl Default for RecoverConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            markers: Duration::from_secs(5),
        }
    }
}

/// Pending entries that one look takes in hand.
const LOOK_LIMIT: usize = 64;
/// A sale that closed longer ago than this is looked at only every so many rounds.
const CLOSED_ROUNDS: u64 = 60;
/// Parked and unrouted messages are counted every so many rounds.
const PARKED_ROUNDS: u64 = 5;
/// An entry that was published and could not be settled is published again only after this long.
const AGAIN: Duration = Duration::from_secs(60);
/// Entries that were published and could not be settled, at the most; one more is published again sooner.
const MAX_UNSETTLED: usize = 10_000;

/// Looks after every sale of `directory`; never returns. May be dropped at any point.
pub async fn run(backend: Backend, directory: &Directory, config: RecoverConfig) {
    let mut recoverer = Recoverer::new(backend, config);
    let mut backlog = Backlog { sales: HashMap::new(), read_at: Instant::now(), failed: false };
    for round in 0_u64.. {
        let now = seckill_core::now();
        for desk in directory.desks() {
            let closed_long = desk.sale.ends_at + chrono::Duration::hours(1) < now;
            if !desk.has_gate() || (closed_long && round % CLOSED_ROUNDS != 0) {
                continue;
            }
            recoverer.look_after(&desk.sale).await;
            backlog.read(&recoverer.backend, &desk.sale).await;
        }
        backlog.show(directory);
        if round % PARKED_ROUNDS == 0
            && let Ok(depth) = recoverer.backend.queue.parked_depth().await
        {
            metrics::gauge!("seckill_parked_messages").set(depth.parked as f64);
            metrics::gauge!("seckill_unrouted_messages").set(depth.unrouted as f64);
            metrics::gauge!("seckill_newer_messages").set(depth.newer as f64);
        }
        let pause = config.interval.mul_f64(rand::rng().random_range(0.5..1.5));
        tokio::time::sleep(pause).await;
    }
}

/// Publishes what is stranded, and markers.
pub struct Recoverer {
    backend: Backend,
    config: RecoverConfig,
    publisher: Option<Box<dyn Publisher>>,
    /// Sales that could not be looked after: when to look again.
    paused: HashMap<SaleId, (Instant, ExponentialBackoff)>,
    /// Entries that were published and not settled, and when they were published.
    unsettled: HashMap<(SaleId, ReservationId), Instant>,
}

impl Recoverer {
    /// A recoverer that connects when it first has something to publish.
    pub fn new(backend: Backend, config: RecoverConfig) -> Self {
        Self { backend, config, publisher: None, paused: HashMap::new(), unsettled: HashMap::new() }
    }

    /// Recovers one sale and publishes its marker. A sale whose gate or queue fails is left alone for a while, longer each time
    /// up to 2 s, and holds up no other sale.
    async fn look_after(&mut self, sale: &Sale) {
        if self.paused.get(&sale.id).is_some_and(|(until, _)| Instant::now() < *until) {
            return;
        }
        let fault = match self.recover(sale).await {
            Ok(orders) => {
                if orders > 0 {
                    tracing::info!(sale_id = %sale.id, orders, "recovered stranded reservations");
                }
                match self.publish_marker(sale).await {
                    Ok(()) => {
                        self.paused.remove(&sale.id);
                        return;
                    }
                    Err(fault) => fault,
                }
            }
            Err(fault) => fault,
        };
        let (until, delays) = self.paused.entry(sale.id).or_insert_with(|| (Instant::now(), backoff()));
        let delay = delays.next().unwrap_or(self.config.interval);
        *until = Instant::now() + delay;
        tracing::warn!(sale_id = %sale.id, error = %fault, retry_in = ?delay, "stranded reservations must wait");
    }

    /// Publishes the sale's stranded reservations and settles them; the number of orders. A reservation that cannot be published
    /// now is found again by the next look.
    ///
    /// # Errors
    /// The gate or the queue is away; what was published so far is settled, or found again.
    pub async fn recover(&mut self, sale: &Sale) -> Result<usize, Fault> {
        let mut orders = 0;
        for reservation in self.backend.gate.stranded(sale.id, self.config.deadline, LOOK_LIMIT).await? {
            let key = (sale.id, reservation.id);
            let published = self.unsettled.get(&key).is_some_and(|at| at.elapsed() < AGAIN);
            if !published {
                for part in reservation.claims.chunks(MAX_BATCH_ORDERS) {
                    let batch = OrderBatch::new(sale.id, sale.epoch, part.to_vec());
                    self.publish(&batch.set_aside_at(reservation.id.millis)).await?;
                    orders += part.len();
                }
                if self.unsettled.len() < MAX_UNSETTLED {
                    self.unsettled.insert(key, Instant::now());
                }
            }
            // Killed here, or the gate refuses writes: published and still pending, so it is published once more, harmlessly.
            abort_point(AbortPoint::RecoverPublished);
            self.backend.gate.settle(sale.id, &[reservation.id]).await?;
            self.unsettled.remove(&key);
        }
        metrics::counter!("seckill_orders_recovered_total").increment(orders as u64);
        Ok(orders)
    }

    /// Publishes a marker where one is due.
    ///
    /// # Errors
    /// The gate or the queue is away; the next marker does what this one did not.
    pub async fn publish_marker(&mut self, sale: &Sale) -> Result<(), Fault> {
        if let Some(marker) = self.backend.gate.make_marker(sale.id, self.config.markers).await? {
            self.publish(&OrderBatch::marker(sale.id, sale.epoch, marker)).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        let mut publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => self.backend.queue.publisher().await?,
        };
        if !publisher.accepting() {
            return Err(Fault::unavailable(Dependency::Queue, "it takes no orders at the moment"));
        }
        publisher.publish(batch).await?;
        self.publisher = Some(publisher);
        Ok(())
    }
}

/// What is on its way, for two gauges. While the gate is away they keep their last value, and a third gauge says how old it is.
struct Backlog {
    sales: HashMap<SaleId, (u64, u64)>,
    /// When everything was last read; the start of the process before that.
    read_at: Instant,
    /// Whether a sale could not be read in this round.
    failed: bool,
}

impl Backlog {
    /// Reads the orders of the sale that are pending, and those between the queue's confirm and the ledger's commit. The ledger's
    /// count is the directory's, read before the gate's, so that what moves meanwhile counts as still on its way.
    async fn read(&mut self, backend: &Backend, sale: &Sale) {
        match backend.gate.level(sale.id).await {
            Ok(Some(level)) => {
                let queued = level.orders.saturating_sub(sale.orders + level.pending_orders);
                self.sales.insert(sale.id, (level.pending_orders, queued));
            }
            Ok(None) => {}
            Err(_) => self.failed = true,
        }
    }

    fn show(&mut self, directory: &Directory) {
        let known: std::collections::HashSet<_> = directory.desks().iter().map(|desk| desk.sale.id).collect();
        self.sales.retain(|sale, _| known.contains(sale));
        let sum = |part: fn(&(u64, u64)) -> u64| self.sales.values().map(part).sum::<u64>() as f64;
        metrics::gauge!("seckill_pending_orders").set(sum(|(pending, _)| *pending));
        metrics::gauge!("seckill_queue_orders").set(sum(|(_, queued)| *queued));
        let rebuilding =
            directory.desks().iter().filter(|desk| desk.sale.state == SaleState::Rebuilding).count();
        metrics::gauge!("seckill_rebuilding_sales").set(rebuilding as f64);
        if !std::mem::take(&mut self.failed) {
            self.read_at = Instant::now();
        }
        metrics::gauge!("seckill_backlog_age_seconds").set(self.read_at.elapsed().as_secs_f64());
    }
}
