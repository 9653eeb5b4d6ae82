//! Rebuilding a lost gate from ledger and queue: any worker, one at a time.
//!
//! A rebuild raises the sale's epoch in the ledger, sends again what the old gate still holds, waits until no gateway can promise
//! an order of the old gate any more, drains the queue up to a marker as its only consumer, and fills the gate with what the
//! ledger has then. Every step may be done twice: a worker that dies in between is replaced once its lease is over, and the next
//! one begins at the first step.

mod drain;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_core::{
    AbortPoint, Backend, Claim, Epoch, Fault, GateCondition, HolderPage, MAX_BATCH_ORDERS, Mode, OrderBatch,
    PROMISE_WINDOW, Publisher, RebuildStep, Sale, SaleId, SaleState, abort_point,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Config, Pace};

/// How often a worker looks whether a gate is lost, and whether another worker wants the queue for itself.
const LOOK: Duration = Duration::from_secs(1);
/// How long a worker owns a rebuild without renewing it.
const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// What is waited beyond the time in which a gateway may promise: for the clocks, which count at different speeds.
const MARGIN: Duration = Duration::from_secs(1);
/// How long a worker whose rebuild has failed takes up none, so that one that can do it may.
const REST: Duration = Duration::from_secs(5);
/// Looks in a row that must find a gate lost.
const LOOKS: u32 = 2;
/// Sales that one query reads.
const PAGE: u32 = 1_000;
/// Holders that one page has, and order ids that one question to the ledger has.
const ORDERS: usize = 400;
/// Orders that are staged in the gate at a time.
const FILL: usize = 2_000;

/// Looks after the gates of all sales until shutdown.
pub(crate) struct Rebuilder {
    backend: Backend,
    config: Config,
    pace: Arc<Pace>,
    shutdown: CancellationToken,
    worker: Uuid,
    /// Tells this worker's lanes whose turn it is.
    turn: watch::Sender<Turn>,
    /// How often in a row a gate was found lost, on which epoch.
    lost: HashMap<SaleId, (Epoch, u32)>,
    /// Until when this worker takes up no rebuild, because its last one has failed.
    rests_until: Option<Instant>,
    /// When it was last logged that a rebuild is left to other workers.
    left_at: Option<Instant>,
}

/// Whose turn it is at the queue.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turn {
    /// Whether the lanes must hold nothing, because a rebuild needs the queue for itself.
    pub(crate) aside: bool,
    /// When the ledger was last asked with success whether a rebuild runs, before it answered.
    pub(crate) asked: Option<Instant>,
}

impl Turn {
    /// Whether a lane may begin to consume. Only a worker that has asked within this window knows of a rebuild that has waited
    /// for the window and is draining the queue.
    pub(crate) fn may_consume(&self) -> bool {
        !self.aside && self.asked.is_some_and(|asked| asked.elapsed() < PROMISE_WINDOW)
    }
}

/// The epochs that a gate names; 0: none.
struct GateEpochs {
    /// The one that it is on. It was open, so what the gate holds was promised, and orders of earlier ones are stale. The one that
    /// it is fenced for says nothing like that: a rebuild began and did not end.
    on: Epoch,
    fenced: Epoch,
}

impl GateEpochs {
    /// An epoch that the gate has not heard of, and neither has the ledger.
    fn after(&self, sale: &Sale) -> Epoch {
        self.on.max(self.fenced).max(sale.epoch) + 1
    }
}

/// What the owner of a rebuild is doing, for the lease that carries it to the ledger.
#[derive(Clone, Copy)]
struct At {
    step: RebuildStep,
    done: u64,
    total: Option<u64>,
}

impl Rebuilder {
    pub(crate) fn new(
        backend: &Backend,
        config: Config,
        pace: Arc<Pace>,
        shutdown: CancellationToken,
        worker: Uuid,
    ) -> (Self, watch::Receiver<Turn>) {
        let (turn, receiver) = watch::channel(Turn::default());
        let (backend, lost) = (backend.clone(), HashMap::new());
        let rebuilder =
            Self { backend, config, pace, shutdown, worker, turn, lost, rests_until: None, left_at: None };
        (rebuilder, receiver)
    }

    /// Looks once a second, through every fault; returns at shutdown.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let looking = async {
            loop {
                if let Err(fault) = self.look().await {
                    tracing::debug!(error = %fault, "the gates cannot be looked after");
                }
                sleep(LOOK).await;
            }
        };
        let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(looking).await;
    }

    /// One look at all sales: begins rebuilds of gates that are lost, and takes up those that nobody owns.
    ///
    /// # Errors
    /// A part of the system is away; the next look goes on.
    async fn look(&mut self) -> Result<(), Fault> {
        let asked = Instant::now();
        let sales = unfinished(&self.backend).await?;
        let rebuilding = sales.iter().filter(|sale| sale.state == SaleState::Rebuilding);
        let others = rebuilding
            .clone()
            .any(|sale| sale.rebuild.is_some_and(|r| r.owner.is_some_and(|o| o != self.worker)));
        self.turn.send_replace(Turn { aside: others, asked: Some(asked) });
        if others {
            // One at a time: whoever owns one takes up the others when it is done.
            return Ok(());
        }
        let able = self.is_able(rebuilding.clone().next().is_some()).await;
        let mut owned = Vec::new();
        for sale in rebuilding.filter(|_| able) {
            // Whoever takes a rebuild over gets an epoch of its own, so that a former owner who wakes up fills nothing.
            let gate = self.gate_epochs(sale).await?;
            owned.extend(self.take_up(sale, gate.after(sale), gate.on).await?);
        }
        for sale in sales.iter().filter(|sale| sale.state == SaleState::Open && sale.epoch > 0) {
            if self.is_lost_for_good(sale).await? {
                let gate = self.gate_epochs(sale).await?;
                let to = gate.after(sale);
                tracing::warn!(sale_id = %sale.id, epoch = to, "the gate of a sale is lost and will be rebuilt");
                if able {
                    owned.extend(self.take_up(sale, to, gate.on).await?);
                } else {
                    self.backend.ledger.begin_rebuild(sale.id, sale.epoch, to, gate.on).await?;
                }
            }
        }
        if owned.is_empty() {
            return Ok(());
        }
        let begin = Instant::now();
        let ended = self.rebuild(&owned).await;
        self.turn.send_modify(|turn| turn.aside = false);
        match &ended {
            Ok(()) => {
                metrics::counter!("seckill_rebuilds_total").increment(owned.len() as u64);
                metrics::histogram!("seckill_rebuild_seconds").record(begin.elapsed());
                tracing::info!(sales = owned.len(), took = ?begin.elapsed(), "gates are rebuilt");
            }
            Err(fault) => {
                metrics::counter!("seckill_rebuild_faults_total").increment(1);
                tracing::warn!(error = %fault, "a rebuild has to begin again");
                self.rests_until = Some(Instant::now() + REST);
                self.give_back(&owned).await;
            }
        }
        ended
    }

    /// Puts a sale on epoch `to` and makes this worker its owner; `None`: another worker was faster, with this sale or
    /// with another one, and rebuilds all that are lost.
    async fn take_up(&self, sale: &Sale, to: Epoch, gate: Epoch) -> Result<Option<Sale>, Fault> {
        if !self.backend.ledger.take_up_rebuild(sale, (to, gate), self.worker, LEASE).await? {
            return Ok(None);
        }
        abort_point(AbortPoint::RebuildBegun);
        let open_epoch = sale.open_epoch.max(gate);
        Ok(Some(Sale { epoch: to, state: SaleState::Rebuilding, open_epoch, ..sale.clone() }))
    }

    /// Ends the leases of rebuilds that have failed: another worker may reach what this one does not.
    async fn give_back(&self, owned: &[Sale]) {
        let waiting = (RebuildStep::Waiting, 0, None);
        for Sale { id, epoch, .. } in owned {
            let own = self.backend.ledger.own_rebuild(*id, *epoch, self.worker, Duration::ZERO, waiting);
            if let Err(fault) = own.await {
                tracing::debug!(error = %fault, "rebuilds are not given back; they are free when their leases end");
                return;
            }
        }
    }

    async fn gate_epochs(&self, sale: &Sale) -> Result<GateEpochs, Fault> {
        let (on, fenced) = match self.backend.gate.condition(sale.id, sale.epoch).await? {
            GateCondition::Missing => (0, 0),
            GateCondition::Sound => (sale.epoch, 0),
            GateCondition::OtherRun { epoch } => (epoch, 0),
            GateCondition::OtherEpoch { epoch, fenced } => (epoch, fenced),
        };
        Ok(GateEpochs { on, fenced })
    }

    /// Whether two looks in a row have found the gate of a sale lost.
    async fn is_lost_for_good(&mut self, sale: &Sale) -> Result<bool, Fault> {
        if self.backend.gate.condition(sale.id, sale.epoch).await? == GateCondition::Sound {
            self.lost.remove(&sale.id);
            return Ok(false);
        }
        let (epoch, looks) = self.lost.entry(sale.id).or_insert((sale.epoch, 0));
        if *epoch != sale.epoch {
            (*epoch, *looks) = (sale.epoch, 0);
        }
        // Counted on until the gate is sound: this worker may not get the rebuild that it begins now.
        *looks = looks.saturating_add(1);
        Ok(*looks >= LOOKS)
    }

    /// Rebuilds the gates of `sales` together, all of them owned: the steps in their order, with the lease renewed beside them.
    async fn rebuild(&self, sales: &[Sale]) -> Result<(), Fault> {
        let at = Mutex::new(At { step: RebuildStep::Waiting, done: 0, total: None });
        tokio::select! {
            ended = self.steps(sales, &at) => ended,
            fault = self.renew(sales, &at) => Err(fault),
        }
    }

    async fn steps(&self, sales: &[Sale], at: &Mutex<At>) -> Result<(), Fault> {
        let say = |step, done, total| {
            *at.lock().unwrap_or_else(PoisonError::into_inner) = At { step, done, total };
        };
        for sale in sales {
            self.backend.gate.fence(sale.id, sale.epoch).await?;
        }
        // From here on the old gate reserves nothing. What it reserved before may be promised for this long.
        let promised_by = Instant::now() + PROMISE_WINDOW + MARGIN;
        abort_point(AbortPoint::RebuildFenced);
        let mut sent = 0;
        for sale in sales {
            sent += self.resend(sale, |done| say(RebuildStep::Resending, done, None)).await?;
        }
        abort_point(AbortPoint::RebuildResent);
        say(RebuildStep::Settling, sent, Some(sent));
        sleep_until(promised_by).await;
        abort_point(AbortPoint::RebuildSettled);
        self.drain(&sales[0], |done, total| say(RebuildStep::Draining, done, total)).await?;
        abort_point(AbortPoint::RebuildDrained);
        let mut filled = 0;
        // The newest first: it is the one that buyers most likely wait for.
        for sale in sales.iter().rev() {
            loop {
                let fill = self.fill(sale, |done| say(RebuildStep::Filling, filled + done, None)).await?;
                if let Some(holders) = fill {
                    filled += holders;
                    break;
                }
                // The queue has lost meanwhile what only the old gate still knew; it was sent again.
                self.drain(sale, |done, total| say(RebuildStep::Draining, done, total)).await?;
            }
        }
        Ok(())
    }

    /// Renews the lease and carries the progress to the ledger; returns when the rebuild is no longer this worker's.
    async fn renew(&self, sales: &[Sale], at: &Mutex<At>) -> Fault {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEW).await;
            let At { step, done, total } = *at.lock().unwrap_or_else(PoisonError::into_inner);
            for sale in sales {
                let progress = (step, done, total);
                match self.backend.ledger.own_rebuild(sale.id, sale.epoch, self.worker, LEASE, progress).await
                {
                    Ok(true) => renewed = Instant::now(),
                    // A sale that is open already is done; every other one is somebody else's.
                    Ok(false) => match self.backend.ledger.sale(sale.id).await {
                        Ok(Some(now)) if now.epoch == sale.epoch && now.state != SaleState::Rebuilding => {}
                        Ok(_) => return lost_lease(sale.id),
                        Err(fault) => tracing::debug!(error = %fault, "a lease cannot be looked up"),
                    },
                    Err(fault) => tracing::debug!(error = %fault, "a lease cannot be renewed"),
                }
            }
            // A worker that cannot renew must stop before another one may begin. While it fills a gate the sale's row is locked:
            // nobody can renew then, and nobody can take over.
            if step != RebuildStep::Filling && renewed.elapsed() + RENEW >= LEASE {
                return lost_lease(sales[0].id);
            }
        }
    }

    /// Sends again what the old gate holds and the ledger lacks; the number of orders. What waits in the queue is among them, and
    /// is taken once. A gate that is older than the epoch that was open last is left alone: what it holds was recorded when it was
    /// replaced, or was never promised.
    async fn resend(&self, sale: &Sale, say: impl Fn(u64)) -> Result<u64, Fault> {
        // A gate that has lost a part does not say its epoch; its orders were set aside while the sale was open.
        let level = self.backend.gate.level(sale.id).await?;
        let epoch = level.map_or(sale.open_epoch, |level| level.epoch);
        if epoch < sale.open_epoch || epoch >= sale.epoch {
            return Ok(0);
        }
        let (mut sent, mut cursor) = (0, None);
        let mut publisher: Option<Box<dyn Publisher>> = None;
        loop {
            let HolderPage { holders, next } = self.backend.gate.holders(sale.id, cursor, ORDERS).await?;
            let claims: Vec<Claim> = holders.into_iter().map(|holder| holder.claim).collect();
            for some in claims.chunks(ORDERS) {
                let ids: Vec<_> = some.iter().map(|claim| claim.order_id).collect();
                let missing = self.backend.ledger.missing_among(&ids).await?;
                let lacking: Vec<Claim> =
                    some.iter().filter(|claim| missing.contains(&claim.order_id)).copied().collect();
                for part in lacking.chunks(MAX_BATCH_ORDERS) {
                    let publisher = match &mut publisher {
                        Some(publisher) => publisher,
                        none => none.insert(self.backend.queue.publisher().await?),
                    };
                    self.backend.gate.mark_resending(sale.id).await?;
                    // On the old epoch: they are in the ledger before the new one is open.
                    publisher.publish(&OrderBatch::new(sale.id, epoch, part.to_vec())).await?;
                    sent += part.len() as u64;
                    say(sent);
                }
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(sent);
            }
        }
    }

    /// Fills the gate with what the ledger has left, and opens the sale; the number of orders that it holds. `None`: the old gate
    /// held an order that the ledger lacks; it was sent again, and the queue has to be drained once more.
    async fn fill(&self, sale: &Sale, say: impl Fn(u64)) -> Result<Option<u64>, Fault> {
        let locked = self.backend.ledger.lock_for_refill(sale.id, sale.epoch, self.worker).await?;
        let Some(mut locked) = locked else { return Err(lost_lease(sale.id)) };
        // Under the lock, so that nothing changes between this and the filling.
        if self.resend(sale, |_| {}).await? > 0 {
            return Ok(None);
        }
        let (mut after, mut holders) = (None, 0);
        loop {
            let page = locked.active_orders(after, FILL as u32).await?;
            self.backend.gate.stage_refill(sale.id, sale.epoch, after.is_none(), &page).await?;
            holders += page.len() as u64;
            say(holders);
            let Some(last) = page.last().filter(|_| page.len() == FILL) else { break };
            after = Some(last.order_id);
        }
        abort_point(AbortPoint::RebuildStaged);
        let now = locked.sale();
        let remaining = now.stock.saturating_sub(now.sold);
        self.backend.gate.finish_refill(now, sale.epoch, remaining, holders).await?;
        // Killed here: the gate is full on the new epoch and the ledger says rebuilding. The next owner begins again; no order was
        // taken meanwhile, because gateways ask the ledger for the state.
        abort_point(AbortPoint::RebuildRefilled);
        locked.open().await?;
        abort_point(AbortPoint::RebuildOpened);
        Ok(Some(holders))
    }
}

/// Every sale with a gate that is not closed out.
async fn unfinished(backend: &Backend) -> Result<Vec<Sale>, Fault> {
    let mut all: Vec<Sale> = Vec::new();
    loop {
        let page = backend.ledger.unfinished_sales(all.last().map(|sale| sale.id), PAGE).await?;
        let full = page.len() == PAGE as usize;
        all.extend(page.into_iter().filter(|sale| sale.mode == Mode::Queue));
        if !full {
            return Ok(all);
        }
    }
}

fn lost_lease(sale: SaleId) -> Fault {
    Fault::unavailable(
        seckill_core::Dependency::Ledger,
        format!("the rebuild of sale {sale} has another owner"),
    )
}

fn stopped() -> Fault {
    Fault::unavailable(seckill_core::Dependency::Queue, "the worker is shutting down")
}

#[cfg(test)]
mod tests {
    use seckill_core::DrainRate;
    use seckill_testkit::fixtures::{EPOCH, new_sale};

    use super::*;
    use crate::MAX_BATCH;

    #[tokio::test]
    async fn a_gate_that_is_lost_for_good_stays_lost_until_it_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let backend = seckill_embedded::open(folder.path()).await.unwrap();
        let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
        let sale = Sale { epoch: EPOCH, ..sale };
        let pace = Arc::new(Pace::new(DrainRate::Unlimited, MAX_BATCH));
        let (mut rebuilder, _) =
            Rebuilder::new(&backend, Config::default(), pace, CancellationToken::new(), Uuid::now_v7());
        let mut looks = Vec::new();
        for _ in 0..4 {
            looks.push(rebuilder.is_lost_for_good(&sale).await.unwrap());
        }
        assert_eq!(looks, [false, true, true, true], "each look may begin the rebuild");
        backend.gate.open(&sale, EPOCH).await.unwrap();
        assert!(!rebuilder.is_lost_for_good(&sale).await.unwrap());
        backend.gate.remove(sale.id).await.unwrap();
        assert!(!rebuilder.is_lost_for_good(&sale).await.unwrap(), "counted from the beginning");
    }
}
