//! One lane of the worker: gather orders, wait for the pace, commit, acknowledge. The step is apart from the loop, so
//! that a test can drain a queue to the last order and know that it did.

mod known_sales;
mod progress;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use seckill_core::{
    AbortPoint, Backend, Consumer, Delivery, DeliveryTag, Dependency, Fate, Fault, LedgerWriter, Marker,
    Order, OrderBatch, RejectReason, Release, SaleId, TraceParent, abort_point, in_trace,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use self::known_sales::KnownSales;
pub use self::progress::Progress;
use self::progress::record;
use crate::held::HeldOrders;
use crate::rebuild::Turn;
use crate::{Config, Pace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A batch was committed, or a marker came through.
    Committed(Progress),
    /// Shut down, or asked to step aside, before there was a batch or before it was admitted; nothing was written.
    Stopped,
}

/// A delivery of which not everything is committed yet.
struct Taken {
    tag: DeliveryTag,
    batch: OrderBatch,
    /// Its orders that are not committed yet.
    left: usize,
    /// Why it is parked instead of acknowledged.
    bad: Option<String>,
}

/// One lane. It owns a consumer and a ledger writer, and makes new ones after a fault.
pub struct Lane {
    backend: Backend,
    pace: Arc<Pace>,
    config: Config,
    shutdown: CancellationToken,
    /// Whose turn it is at the queue; `None`: always this lane's.
    turn: Option<watch::Receiver<Turn>>,
    consumer: Option<Box<dyn Consumer>>,
    writer: Option<Box<dyn LedgerWriter>>,
    /// Orders taken and not yet committed, oldest first; a delivery's orders stand together.
    orders: VecDeque<Order>,
    /// The deliveries of those orders and markers among them, oldest first.
    deliveries: VecDeque<Taken>,
    /// Markers that came through since [`Self::take_passed`].
    passed: Vec<Marker>,
    known_sales: KnownSales,
    held: HeldOrders,
}

/// Why nothing of a batch was written: one order or several, each with the reason.
type BadOrders = BTreeMap<usize, String>;

impl Lane {
    /// A lane that connects when it first steps, and never steps aside.
    pub fn new(backend: &Backend, config: Config, pace: Arc<Pace>, shutdown: CancellationToken) -> Self {
        Self::beside(backend, config, pace, shutdown, None, HeldOrders::default())
    }

    /// A lane that consumes only while it is its `turn`, and reports in `held` what it holds.
    pub(crate) fn beside(
        backend: &Backend,
        config: Config,
        pace: Arc<Pace>,
        shutdown: CancellationToken,
        turn: Option<watch::Receiver<Turn>>,
        held: HeldOrders,
    ) -> Self {
        Self {
            backend: backend.clone(),
            pace,
            config,
            shutdown,
            turn,
            consumer: None,
            writer: None,
            orders: VecDeque::new(),
            deliveries: VecDeque::new(),
            passed: Vec::new(),
            known_sales: KnownSales::default(),
            held,
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
            self.await_turn().await;
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

    /// Gives everything back to the queue while a rebuild needs the queue for itself, and waits until the lane may consume.
    async fn await_turn(&mut self) {
        let Some(mut turn) = self.turn.clone() else { return };
        if turn.borrow().aside {
            self.give_back();
        }
        if self.consumer.is_none() {
            let allowed = turn.wait_for(Turn::may_consume);
            let _ = self.shutdown.run_until_cancelled(allowed).await;
        }
    }

    /// Ends at shutdown, or when a rebuild needs the queue for itself.
    async fn interrupted(shutdown: CancellationToken, turn: Option<watch::Receiver<Turn>>) {
        let asked = async {
            let ended = match turn {
                Some(mut turn) => turn.wait_for(|turn| turn.aside).await.is_err(),
                None => true,
            };
            if ended {
                // Nobody will ever ask.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = asked => {}
        }
    }

    /// Brings one batch from the queue to its end: gathers it, waits until the pace admits it, commits it, and
    /// acknowledges the deliveries that are done with it. Waits for orders as long as there are none.
    ///
    /// # Errors
    /// A fault of the queue: what the lane held goes back to the queue and will come again. A fault of the ledger, or of the gate
    /// that cannot take a rejected order back: the lane keeps what it holds and the next step tries the same orders again;
    /// nothing is put back, so a database that is down causes no storm of redeliveries, and the queue stops sending once the
    /// prefetch is used up.
    pub async fn step(&mut self) -> Result<Step, Fault> {
        let interrupted = || Self::interrupted(self.shutdown.clone(), self.turn.clone());
        let (before_gathering, before_writing) = (interrupted(), interrupted());
        // Only the waits may be cut short. From the commit on, the step runs to its end.
        tokio::select! {
            () = before_gathering => return Ok(Step::Stopped),
            gathered = self.gather() => gathered?,
        }
        if self.orders.is_empty() {
            self.acknowledge(0).await?;
            return Ok(Step::Committed(Progress::default()));
        }
        let count = tokio::select! {
            () = before_writing => return Ok(Step::Stopped),
            count = self.pace.admit(self.orders.len()) => count,
        };
        abort_point(AbortPoint::CommitBefore);
        let (span, trace) = self.begin_commit(count);
        let progress = in_trace(trace, self.commit(count)).instrument(span).await?;
        // A process killed here has committed orders whose messages come again, and the ledger knows them by their ids.
        abort_point(AbortPoint::AckBefore);
        self.acknowledge(count).await?;
        abort_point(AbortPoint::AckAfter);
        Ok(Step::Committed(progress))
    }

    /// The markers that came through since the last call.
    pub fn take_passed(&mut self) -> Vec<Marker> {
        std::mem::take(&mut self.passed)
    }

    /// Connects to the queue where that has not been done, so that the queue counts this consumer.
    ///
    /// # Errors
    /// The queue is away.
    pub async fn subscribe(&mut self) -> Result<(), Fault> {
        if self.consumer.is_some() {
            return Ok(());
        }
        let may_consume = || self.turn.as_ref().is_none_or(|turn| turn.borrow().may_consume());
        let not_now = || {
            Fault::unavailable(Dependency::Ledger, "it could not be asked lately whether a gate is rebuilt")
        };
        if !may_consume() {
            return Err(not_now());
        }
        let consumer = self.backend.queue.consumer(self.config.prefetch).await?;
        // A process that was frozen in between drops it again before it has taken anything to the ledger.
        if !may_consume() {
            return Err(not_now());
        }
        self.consumer = Some(consumer);
        Ok(())
    }

    /// Takes deliveries until a batch is full, until the linger time after the first order is over, or until there is nothing
    /// but markers.
    async fn gather(&mut self) -> Result<(), Fault> {
        let mut full_by = (!self.orders.is_empty()).then(|| Instant::now() + self.config.linger);
        while self.orders.len() < self.pace.batch()
            && self.deliveries.len() < usize::from(self.config.prefetch)
        {
            self.subscribe().await?;
            let Some(consumer) = &mut self.consumer else { continue };
            let next = match full_by {
                None => consumer.next().await,
                Some(full_by) => match timeout_at(full_by, consumer.next()).await {
                    Ok(next) => next,
                    Err(_elapsed) => break,
                },
            };
            let delivery = next.inspect_err(|_| self.give_back())?;
            self.take(delivery);
            if self.orders.is_empty() {
                // A marker with nothing before it.
                break;
            }
            full_by.get_or_insert_with(|| Instant::now() + self.config.linger);
        }
        Ok(())
    }

    fn take(&mut self, Delivery { batch, tag }: Delivery) {
        let left = batch.orders.len();
        self.orders.extend(batch.clone().into_orders());
        self.deliveries.push_back(Taken { tag, batch, left, bad: None });
        self.report_held();
    }

    fn report_held(&mut self) {
        let oldest = self.deliveries.iter().filter(|taken| taken.left > 0).map(|taken| {
            // A message that does not say when its orders were set aside holds everything open.
            (taken.batch.sale_id, taken.batch.set_aside_ms.unwrap_or(0))
        });
        self.held.set(self.orders.len(), oldest);
    }

    /// The span of one commit, caused by the batches in it, and where their trace goes on. Without a recorded batch there is no
    /// span.
    fn begin_commit(&self, count: usize) -> (Span, Option<TraceParent>) {
        let mut before = 0;
        let taken = self.deliveries.iter().take_while(|taken| {
            let inside = before < count;
            before += taken.left;
            inside
        });
        let mut causes = taken.filter_map(|taken| taken.batch.traceparent).peekable();
        if causes.peek().is_none() {
            return (Span::none(), None);
        }
        let span = tracing::info_span!(parent: None, "commit orders", otel.kind = "consumer", orders = count);
        let trace = seckill_trace::of_causes(&span, causes);
        (span, trace)
    }

    /// Commits the oldest `count` orders: in one transaction, or where single orders fail by themselves, around them.
    async fn commit(&mut self, count: usize) -> Result<Progress, Fault> {
        let begin = Instant::now();
        let pace = Arc::clone(&self.pace);
        let under_way = pace.commit_begins(count);
        let (fates, bad) = match self.write(0, count).await {
            Ok(fates) => (fates.into_iter().map(Some).collect(), BadOrders::new()),
            Err(fault @ Fault::Corrupt { .. }) => self.commit_around(count, fault).await?,
            Err(fault) => return Err(fault),
        };
        under_way.succeeded(Instant::now());
        metrics::histogram!("seckill_commit_seconds").record(begin.elapsed());
        metrics::histogram!("seckill_commit_batch_orders").record(count as f64);
        // A process killed here has rejected orders that the gate still holds; their messages come again, and the ledger says
        // again that they are rejected.
        abort_point(AbortPoint::ReleaseBefore);
        self.release_rejected(&fates).await?;
        self.mark_bad(&bad);
        Ok(record(&self.orders, &fates))
    }

    /// One transaction over orders `from..until` of those held.
    async fn write(&mut self, from: usize, until: usize) -> Result<Vec<Fate>, Fault> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                // A new connection may lead to a ledger that was restored from a backup.
                self.known_sales = KnownSales::default();
                self.backend.ledger.writer().await?
            }
        };
        let orders = &self.orders.make_contiguous()[from..until];
        self.known_sales.restore_lost(&self.backend, orders).await?;
        let fates = writer.commit(orders).await?;
        // Only a writer that ended well is used again.
        self.writer = Some(writer);
        Ok(fates)
    }

    /// Halves the batch again and again until the orders stand alone that the ledger cannot take. Where it takes none at all, the
    /// fault is not theirs, and nothing is parked.
    async fn commit_around(
        &mut self,
        count: usize,
        first: Fault,
    ) -> Result<(Vec<Option<Fate>>, BadOrders), Fault> {
        let mut fates: Vec<Option<Fate>> = vec![None; count];
        let mut bad = BadOrders::new();
        let mut parts = vec![(0, count)];
        while let Some((from, until)) = parts.pop() {
            match self.write(from, until).await {
                Ok(written) => {
                    for (at, fate) in written.into_iter().enumerate() {
                        fates[from + at] = Some(fate);
                    }
                }
                Err(fault @ Fault::Corrupt { .. }) if until - from == 1 => {
                    bad.insert(from, fault.to_string());
                }
                Err(Fault::Corrupt { .. }) => {
                    let middle = from.midpoint(until);
                    parts.extend([(middle, until), (from, middle)]);
                }
                Err(fault) => return Err(fault),
            }
        }
        if bad.len() == count { Err(first) } else { Ok((fates, bad)) }
    }

    /// Takes orders that the ledger has rejected out of the gate, so that their buyers may try again.
    async fn release_rejected(&mut self, fates: &[Option<Fate>]) -> Result<(), Fault> {
        let mut rejected: BTreeMap<SaleId, Vec<Release>> = BTreeMap::new();
        for (order, fate) in self.orders.iter().zip(fates) {
            let (Some(Fate::Rejected(reason)) | Some(Fate::AlreadyRejected(reason))) = fate else { continue };
            // A gate that was rebuilt does not know stale orders, and there is no gate for an unknown sale.
            if !matches!(reason, RejectReason::StaleEpoch | RejectReason::UnknownSale) {
                rejected.entry(order.sale_id).or_default().push(Release {
                    order_id: order.claim.order_id,
                    user_id: order.claim.user_id,
                    returns_units: *reason != RejectReason::SoldOut,
                });
            }
        }
        for (sale, orders) in rejected {
            self.backend.gate.release(sale, &orders).await?;
        }
        Ok(())
    }

    /// Marks the deliveries to be parked that the bad orders came in.
    fn mark_bad(&mut self, bad: &BadOrders) {
        let mut end = 0;
        for taken in &mut self.deliveries {
            let begin = end;
            end += taken.left;
            if let Some((_, why)) = bad.range(begin..end).next() {
                taken.bad = Some(why.clone());
            }
        }
    }

    /// Forgets the oldest `count` orders, and acknowledges or parks each delivery that has none left.
    async fn acknowledge(&mut self, count: usize) -> Result<(), Fault> {
        self.orders.drain(..count);
        let mut done = count;
        while let Some(taken) = self.deliveries.front_mut() {
            let part = done.min(taken.left);
            done -= part;
            taken.left -= part;
            if taken.left > 0 {
                break;
            }
            let Some(taken) = self.deliveries.pop_front() else { break };
            let finished = self.finish(taken).await;
            finished.inspect_err(|_| self.give_back())?;
        }
        self.report_held();
        Ok(())
    }

    /// Ends a delivery whose every order has reached its end.
    async fn finish(&mut self, Taken { tag, batch, bad, .. }: Taken) -> Result<(), Fault> {
        if let Some(marker) = batch.marker {
            // Where the gate is away, the next marker does what this one did not.
            if let Err(fault) = self.backend.gate.marker_passed(batch.sale_id, &marker).await {
                tracing::warn!(sale_id = %batch.sale_id, error = %fault, "a marker came through and cannot be recorded");
            }
            self.passed.push(marker);
        }
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        match bad {
            None => consumer.ack(tag).await,
            Some(why) => {
                tracing::error!(sale_id = %batch.sale_id, batch_id = %batch.batch_id, why, "parked a message with an order that the ledger cannot take");
                consumer.park(Delivery { batch, tag }, &why).await
            }
        }
    }

    /// Drops the consumer, and with it everything unacknowledged: the queue delivers it again.
    fn give_back(&mut self) {
        self.consumer = None;
        self.orders.clear();
        self.deliveries.clear();
        self.report_held();
    }
}
