//! The hot path: claim -> lane -> gate -> queue -> answer. One file, from the handler's hand-over to the buyer's answer.
//!
//! A sale has a few lanes. A lane takes whatever has gathered while its last batch was under way, so batches form by
//! themselves: no timer, and no added delay at low load. A user's claims always go to the same lane. So no lock is
//! shared between lanes, and a buyer's second click waits behind the first one's confirm instead of seeing a reservation
//! that nobody has confirmed yet.
//!
//! Work runs in the lane, never in the handler's future: a client that hangs up cancels nothing.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{
    AbortPoint, Backend, Claim, Decision, Dependency, Epoch, Fault, MAX_BATCH_ORDERS, OrderBatch,
    PROMISE_WINDOW, Publisher, ReservationId, Reserved, SaleId, TraceParent, UserId, abort_point,
};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use crate::outage::Outage;
use crate::retry::{Attempts, backoff};
use crate::sold_out::SoldOut;
use crate::ticket::{Answer, NotTaken, Ticket};

/// How the intake of each sale is laid out.
#[derive(Debug, Clone, Copy)]
pub struct IntakeConfig {
    /// Lanes of a sale, 1 or more.
    pub lanes: usize,
    /// Claims that may wait in one lane, 1 or more; one more is refused.
    pub lane_capacity: usize,
    /// Claims in one batch, 1 to [`MAX_BATCH_ORDERS`].
    pub max_batch: usize,
    /// A claim that waited longer than this for its lane is refused instead of being reserved.
    pub max_wait: Duration,
}

impl Default for IntakeConfig {
    fn default() -> Self {
        Self { lanes: 4, lane_capacity: 4_096, max_batch: MAX_BATCH_ORDERS, max_wait: Duration::from_secs(5) }
    }
}

/// A lane with nothing to do for this long settles what is confirmed, rather than leave it to the next batch.
const SETTLE_LINGER: Duration = Duration::from_millis(20);
/// A lane with nothing to do for this long gives its publisher back.
const IDLE: Duration = Duration::from_secs(60);
/// How long a lane that panicked stays away.
const PANIC_PAUSE: Duration = Duration::from_millis(200);
/// How often one batch is put to the gate again when the gate does not say how the call ended.
const RESERVE_RETRIES: usize = 3;

/// The way in for one sale's claims: its lanes, and whether there is anything left to go in for.
#[derive(Clone)]
pub struct Intake {
    lanes: Arc<[mpsc::Sender<Ticket>]>,
    sold_out: Arc<SoldOut>,
}

impl Intake {
    /// Starts the lanes of one sale on `tracker`. They end once `shutdown` is cancelled, or every `Intake` of the sale
    /// is dropped, and every claim taken in before that is answered.
    pub fn start(
        sale: SaleId,
        epoch: Epoch,
        backend: &Backend,
        config: IntakeConfig,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let gate = Arc::clone(&backend.gate);
        let sold_out = SoldOut::new(sale, epoch, gate, tracker.clone(), shutdown.clone());
        let start_lane = |_| {
            let (sender, tickets) = mpsc::channel(config.lane_capacity);
            let (backend, tickets) = (backend.clone(), Arc::new(Mutex::new(tickets)));
            let sold_out = Arc::clone(&sold_out);
            let new = move |tickets| Lane {
                sale,
                epoch,
                backend: backend.clone(),
                config,
                tickets,
                publisher: None,
                connect_after: Instant::now(),
                delays: backoff(),
                settled: Vec::new(),
                gate_outage: Outage::new("the gate decided nothing"),
                queue_outage: Outage::new("an order batch was not confirmed"),
                sold_out: Arc::clone(&sold_out),
            };
            tracker.spawn(run_through_panics(new, tickets, shutdown.clone()));
            sender
        };
        let lanes = (0..config.lanes.max(1)).map(start_lane).collect();
        Self { lanes, sold_out }
    }

    /// Whether it is known without asking the gate that nothing is left, and that `user` holds no order.
    pub(crate) fn is_sold_out_for(&self, user: UserId) -> bool {
        self.sold_out.is_for(user)
    }

    /// Hands a claim to its user's lane. The answer comes through the receiver; the lane finishes its work also where the
    /// receiver is dropped.
    ///
    /// # Errors
    /// [`NotTaken`]: refused at once, with nothing deducted.
    pub fn submit(&self, claim: Claim) -> Result<oneshot::Receiver<Answer>, NotTaken> {
        let (ticket, answer) = Ticket::new(claim);
        // A multiplicative hash (Knuth, TAOCP 6.4), so that user ids with a common stride still spread over the lanes.
        let hash = claim.user_id.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        self.lanes[hash as usize % self.lanes.len()].try_send(ticket)?;
        Ok(answer)
    }
}

/// Runs a lane and starts it again after a panic. The claims that it had in hand are answered `outcome-unknown`, and what was
/// reserved for them is in the pending log; those that wait in its channel go to the new one.
async fn run_through_panics(
    new: impl Fn(OwnedMutexGuard<mpsc::Receiver<Ticket>>) -> Lane,
    tickets: Arc<Mutex<mpsc::Receiver<Ticket>>>,
    shutdown: CancellationToken,
) {
    loop {
        // Held by one lane for as long as it lives.
        let lane = new(Arc::clone(&tickets).lock_owned().await);
        let Err(panic) = tokio::spawn(lane.run(shutdown.clone())).await else { return };
        tracing::error!(error = %panic, "a lane panicked and is started again");
        metrics::counter!("seckill_lane_panics_total").increment(1);
        // So that a claim which panics every time cannot take the processor with it.
        sleep(PANIC_PAUSE).await;
    }
}

struct Lane {
    sale: SaleId,
    epoch: Epoch,
    backend: Backend,
    config: IntakeConfig,
    tickets: OwnedMutexGuard<mpsc::Receiver<Ticket>>,
    /// One lane, one publisher; none until there is something to publish, and after a fault.
    publisher: Option<Box<dyn Publisher>>,
    /// No new publisher is asked for before this moment.
    connect_after: Instant,
    delays: backon::ExponentialBackoff,
    /// Confirmed by the queue; the next call to the gate takes them out of the pending log.
    settled: Vec<ReservationId>,
    gate_outage: Outage,
    queue_outage: Outage,
    sold_out: Arc<SoldOut>,
}

impl Lane {
    async fn run(mut self, shutdown: CancellationToken) {
        let mut tickets = Vec::with_capacity(self.config.max_batch);
        let mut claims = Vec::with_capacity(self.config.max_batch);
        while self.gather(&mut tickets, &shutdown).await {
            let (span, trace) = begin_batch(self.sale, &tickets);
            self.step(&mut tickets, &mut claims, trace).instrument(span).await;
        }
        self.settle().await;
    }

    /// Waits for claims and takes all that have gathered. False: no more will come.
    async fn gather(&mut self, tickets: &mut Vec<Ticket>, shutdown: &CancellationToken) -> bool {
        loop {
            let linger = if self.settled.is_empty() { IDLE } else { SETTLE_LINGER };
            let taken = tokio::select! {
                // Closing the channel refuses new claims; the ones inside still come out, and then 0.
                () = shutdown.cancelled(), if !self.tickets.is_closed() => { self.tickets.close(); continue }
                taken = timeout(linger, self.tickets.recv_many(tickets, self.config.max_batch)) => taken,
            };
            match taken {
                Ok(taken) => return taken > 0,
                Err(_) if self.settled.is_empty() => self.publisher = None,
                Err(_) => self.settle().await,
            }
        }
    }

    /// Takes one batch from the lane to its answers. Leaves `tickets` and `claims` empty.
    async fn step(&mut self, tickets: &mut Vec<Ticket>, claims: &mut Vec<Claim>, trace: Option<TraceParent>) {
        self.shed_the_late(tickets);
        if tickets.is_empty() {
            return;
        }
        metrics::histogram!("seckill_intake_batch_orders").record(tickets.len() as f64);
        // Before stock is deducted: a queue that takes nothing must not cost anyone a unit.
        let Some(mut publisher) = self.ready_publisher().await else {
            return answer_all(tickets, |_| Answer::Unavailable(Dependency::Queue));
        };
        claims.clear();
        claims.extend(tickets.iter().map(|ticket| ticket.claim));
        abort_point(AbortPoint::ReserveBefore);
        let sent_at = Instant::now();
        let Reserved { decisions, reservation } = match self.reserve(claims).await {
            Ok(reserved) => reserved,
            Err(fault) => {
                self.publisher = Some(publisher);
                self.gate_outage.failed(self.sale, &fault);
                // Whatever the gate did all the same is in its pending log, under these order ids: the recoverer's.
                return answer_all(tickets, |claim| match &fault {
                    Fault::Unknown { .. } => Answer::Unknown { order_id: claim.order_id },
                    Fault::Lost { .. } => Answer::Rebuilding,
                    _ => Answer::Unavailable(Dependency::Gate),
                });
            }
        };
        self.gate_outage.over(self.sale);
        // A process killed here leaves the reservations in the pending log: nobody was answered, the recoverer publishes.
        abort_point(AbortPoint::ReserveAfter);
        if decisions.contains(&Decision::SoldOut { remaining: 0 }) {
            self.sold_out.notice();
        }
        let orders = to_publish(claims, &decisions);
        let mut confirmed = true;
        if !orders.is_empty() {
            let set_aside = set_aside_ms(reservation, &decisions);
            let batch =
                OrderBatch::new(self.sale, self.epoch, orders).set_aside_at(set_aside).in_trace(trace);
            match publisher.publish(&batch).await {
                // Killed here: queued, still in the pending log; the recoverer publishes once more, harmlessly.
                Ok(()) => {
                    self.queue_outage.over(self.sale);
                    self.settled.extend(reservation);
                }
                Err(fault) => {
                    self.queue_outage.failed(self.sale, &fault);
                    confirmed = false;
                }
            }
        }
        abort_point(AbortPoint::PublishAfter);
        // A publisher that has failed once is not used again; what it sent may still arrive.
        self.publisher = confirmed.then_some(publisher);
        // A process that was frozen here wakes up beside a gate that may have been rebuilt without its orders: it promises
        // nothing. The rebuild has waited for this window before it read what had been promised.
        let confirmed = confirmed && sent_at.elapsed() <= PROMISE_WINDOW;
        for (ticket, decision) in tickets.drain(..).zip(decisions) {
            let answer = answer(&ticket.claim, decision, confirmed);
            // The buyer may have hung up. The order stands; a retry is told its id.
            let _ = ticket.answer.send(answer);
        }
        abort_point(AbortPoint::ReplyAfter);
    }

    /// Refuses claims that have waited so long that their buyers will have given up: nothing was deducted for them.
    fn shed_the_late(&self, tickets: &mut Vec<Ticket>) {
        let Some(deadline) = Instant::now().checked_sub(self.config.max_wait) else { return };
        for late in tickets.extract_if(.., |ticket| ticket.since < deadline) {
            let _ = late.answer.send(Answer::Overloaded);
        }
    }

    /// A publisher that would take a batch now, or `None`. While the queue is away it is asked again and again, with
    /// growing pauses, and claims in between are refused at once.
    async fn ready_publisher(&mut self) -> Option<Box<dyn Publisher>> {
        if let Some(publisher) = self.publisher.take_if(|publisher| publisher.accepting()) {
            return Some(publisher);
        }
        self.publisher = None;
        if Instant::now() < self.connect_after {
            return None;
        }
        let reason = match self.backend.queue.publisher().await {
            Ok(publisher) if publisher.accepting() => {
                self.delays = backoff();
                return Some(publisher);
            }
            Ok(_) => "the queue has told its publishers to wait".to_owned(),
            Err(fault) => fault.to_string(),
        };
        let delay = self.delays.next().unwrap_or(IDLE);
        self.connect_after = Instant::now() + delay;
        tracing::warn!(sale_id = %self.sale, reason, retry_in = ?delay, "a lane has no publisher");
        None
    }

    /// One atomic decision about the whole batch. Where the gate did not say how a call ended, the same claims are put
    /// to it again: it knows them by their order ids and deducts once.
    async fn reserve(&mut self, claims: &[Claim]) -> Result<Reserved, Fault> {
        let mut attempts = Attempts::new(RESERVE_RETRIES);
        loop {
            let fault = match self.backend.gate.reserve(self.sale, self.epoch, &self.settled, claims).await {
                Ok(reserved) => {
                    self.settled.clear();
                    return Ok(reserved);
                }
                Err(fault) => fault,
            };
            sleep(attempts.pause_after(fault)?).await;
        }
    }

    /// Takes what is confirmed out of the pending log, when there is no next batch to do it along with.
    async fn settle(&mut self) {
        if self.settled.is_empty() {
            return;
        }
        if let Err(fault) = self.backend.gate.settle(self.sale, &self.settled).await {
            // The entries stay pending: the recoverer publishes these orders once more and settles them.
            tracing::warn!(sale_id = %self.sale, error = %fault, "confirmed reservations are left to the recoverer");
        }
        self.settled.clear();
        abort_point(AbortPoint::SettleAfter);
    }
}

/// The span of one batch, caused by the requests in it, and where their trace goes on. Without a recorded request there is no span.
fn begin_batch(sale: SaleId, tickets: &[Ticket]) -> (Span, Option<TraceParent>) {
    if tickets.iter().all(|ticket| ticket.trace.is_none()) {
        return (Span::none(), None);
    }
    let span = tracing::info_span!(parent: None, "send orders", otel.kind = "producer", sale_id = %sale, orders = tickets.len());
    let trace = seckill_trace::of_causes(&span, tickets.iter().filter_map(|ticket| ticket.trace));
    (span, trace)
}

/// What must be confirmed by the queue before this batch is answered: what was reserved now, and what was reserved
/// earlier without a confirm. Publishing the latter twice is harmless; calling it accepted without a confirm is not.
fn to_publish(claims: &[Claim], decisions: &[Decision]) -> Vec<Claim> {
    let order = |(claim, decision): (&Claim, &Decision)| match *decision {
        Decision::Reserved => Some(*claim),
        Decision::Replayed { order_id, quantity, pending: true, accepted_at } => {
            Some(Claim { order_id, user_id: claim.user_id, quantity, accepted_at })
        }
        _ => None,
    };
    claims.iter().zip(decisions).filter_map(order).collect()
}

/// When the oldest order of a batch was set aside, by the gate's clock: now, or for one that is published again at the latest
/// when its request was taken, minus what the clocks may differ.
fn set_aside_ms(reservation: Option<ReservationId>, decisions: &[Decision]) -> u64 {
    const SKEW_MS: u64 = 10_000;
    let again = decisions.iter().filter_map(|decision| match decision {
        Decision::Replayed { pending: true, accepted_at, .. } => {
            Some(accepted_at.timestamp_millis().unsigned_abs().saturating_sub(SKEW_MS))
        }
        _ => None,
    });
    let now = || seckill_core::now().timestamp_millis().unsigned_abs().saturating_sub(SKEW_MS);
    again.chain(reservation.map(|id| id.millis)).min().unwrap_or_else(now)
}

fn answer(claim: &Claim, decision: Decision, confirmed: bool) -> Answer {
    match decision {
        Decision::Reserved if confirmed => Answer::Accepted,
        Decision::Reserved => Answer::Unknown { order_id: claim.order_id },
        Decision::Replayed { order_id, quantity, .. } if confirmed => Answer::Replayed { order_id, quantity },
        // The replayed order may be one of this very batch.
        Decision::Replayed { order_id, .. } => Answer::Unknown { order_id },
        Decision::SoldOut { remaining } => Answer::SoldOut { remaining },
        Decision::OverLimit { limit } => Answer::OverLimit { limit },
        Decision::NotOpen => Answer::NotOpen,
        Decision::Closed => Answer::Closed,
        Decision::Paused => Answer::Paused,
    }
}

fn answer_all(tickets: &mut Vec<Ticket>, answer: impl Fn(&Claim) -> Answer) {
    for ticket in tickets.drain(..) {
        let answer = answer(&ticket.claim);
        let _ = ticket.answer.send(answer);
    }
}
