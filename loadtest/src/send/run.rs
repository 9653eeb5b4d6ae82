//! Sends a schedule over a set of connections and keeps every answer.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::http::uri::Uri;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Error;
use crate::plan::schedule::{Arrivals, Plan, Slot};
use crate::plan::tokens::Tokens;
use crate::send::client::{Client, Clients, Failure};
use crate::send::cpu;
use crate::send::outcome::{Outcome, Reader};
use crate::send::progress::Progress;
use crate::send::template::Template;

/// How many records a connection collects before it moves them to the common list: few, so that ten thousand connections hold
/// little memory, but enough that the lock is rarely taken.
const LOT: usize = 32;
/// The pause between two checks whether more connections are needed.
const GROW_EVERY: Duration = Duration::from_millis(1);
/// How many connections are opened at one time. When a server's accept queue overflows, opening one takes a second or more.
const OPENING: usize = 64;

/// The input of a run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The requests and their times.
    pub plan: Plan,
    pub sale_id: u64,
    /// Units of every order.
    pub quantity: u32,
    /// One token for each buyer.
    pub tokens: Tokens,
    /// A request that leaves later than this after its time counts as late. The runtime's timer alone may take 1 ms.
    pub late_after: Duration,
    /// Gets every order as soon as it is promised, once for each answer that promises it; `None`: nobody waits for them.
    pub promises: Option<UnboundedSender<Promise>>,
}

impl Job {
    /// Every buyer orders one unit; a request is late after 5 ms.
    pub fn new(plan: Plan, sale_id: u64, tokens: Tokens) -> Self {
        Self { plan, sale_id, quantity: 1, tokens, late_after: Duration::from_millis(5), promises: None }
    }
}

/// One request and how it ended. Times are kept in microseconds, so that a million records stay small.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its place in the schedule.
    pub slot: Slot,
    /// From its time in the schedule until it left, in microseconds; 71 minutes at the most.
    pub lag_us: u32,
    /// From leaving until its end, in microseconds; 71 minutes at the most.
    pub service_us: u32,
    pub outcome: Outcome,
}

impl Record {
    /// When it left, in microseconds from the start of the run.
    pub fn sent_us(&self) -> u64 {
        self.slot.due_us.saturating_add(u64::from(self.lag_us))
    }

    /// When it ended, in microseconds from the start of the run.
    pub fn ended_us(&self) -> u64 {
        self.sent_us().saturating_add(u64::from(self.service_us))
    }

    /// From its time in the schedule until its end, in microseconds: how long the buyer waited.
    pub fn latency_us(&self) -> u64 {
        u64::from(self.lag_us) + u64::from(self.service_us)
    }
}

/// An order whose id was in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The buyer, counted from 0.
    pub buyer: u32,
    pub order_id: Uuid,
    /// Whether the server has promised it (202, or a 200 that repeats one), so that it must get a final row.
    pub promised: bool,
    /// When the first request that was answered with it was meant to leave, in microseconds from the start of the run.
    pub due_us: u64,
}

/// An order that has just been promised.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    pub order: Order,
    /// When the request left that was answered with it.
    pub sent: Instant,
}

#[derive(Debug)]
pub struct Run {
    /// Requests of the schedule; more than there are records when the run was cancelled. In the closed model, as many as
    /// there are records.
    pub planned: usize,
    /// When the schedule began, by this machine's clock.
    pub started_at: SystemTime,
    /// From the start until the last answer.
    pub duration: Duration,
    /// Every request that left, in the order of the schedule.
    pub records: Vec<Record>,
    /// The error of the first connection that failed.
    pub connection_error: Option<String>,
    /// A request counts as late when it left later than this.
    pub late_after: Duration,
    /// The most connections that were open.
    pub connections: usize,
    /// CPU time that this process used during the run; `None` where the system does not report it.
    pub cpu: Option<Duration>,
}

impl Run {
    /// The orders whose ids were in answers, by buyer and order id, each once.
    pub fn orders(&self) -> Vec<Order> {
        let named = |record: &Record| {
            let order_id = record.outcome.order_id()?;
            let Slot { buyer, due_us, .. } = record.slot;
            Some(Order { buyer, order_id, promised: record.outcome.is_promise(), due_us })
        };
        // Counted first, because a list of a million orders that grows by doubling would take twice their memory.
        let mut orders = Vec::with_capacity(self.records.iter().filter_map(named).count());
        orders.extend(self.records.iter().filter_map(named));
        orders.sort_unstable();
        orders.dedup_by(|later, kept| {
            let same = (later.buyer, later.order_id) == (kept.buyer, kept.order_id);
            if same {
                // One answer that promises the order is enough.
                kept.promised |= later.promised;
                kept.due_us = kept.due_us.min(later.due_us);
            }
            same
        });
        orders
    }
}

/// Sends every request of the job at its time, over as many connections as there are clients. When `cancel` ends it
/// early, requests under way are still waited for (the time-out at the most) and everything answered is kept.
///
/// # Errors
/// [`Error::Plan`] and [`Error::TooFewTokens`], before anything is sent.
pub async fn run(
    clients: &mut Clients,
    job: &Job,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Run, Error> {
    let source = Source::new(&job.plan)?;
    let buyers = job.plan.comers();
    if (job.tokens.len() as u64) < buyers {
        return Err(Error::TooFewTokens { tokens: job.tokens.len(), buyers });
    }
    progress.plan(job.plan.total().unwrap_or_default() as usize);
    let path = clients.target().path(&format!("/api/v1/sales/{}/orders", job.sale_id));
    let (cpu, started_at) = (cpu::used(), SystemTime::now());
    let line = Arc::new(Line {
        next: AtomicUsize::new(0),
        free: AtomicUsize::new(0),
        opening: AtomicUsize::new(0),
        uri: path.try_into().expect("the path of a URL, and a number, make a path"),
        template: Template::post(clients.target(), format!("{{\"quantity\":{}}}", job.quantity)),
        tokens: job.tokens.clone(),
        late_after: job.late_after,
        promises: job.promises.clone(),
        progress: progress.clone(),
        cancel: cancel.clone(),
        connection_error: OnceLock::new(),
        records: Mutex::new(Vec::with_capacity(job.plan.total().unwrap_or_default() as usize)),
        started: Instant::now(),
        source,
    });
    let connections = line.clone().work_off(clients).await;
    let duration = line.started.elapsed();
    let cpu = cpu.zip(cpu::used()).map(|(before, after)| after.saturating_sub(before));
    let mut records = std::mem::take(&mut *line.records());
    records.sort_unstable_by_key(|record| (record.slot.due_us, record.slot.buyer, record.slot.repeat));
    let connection_error = line.connection_error.get().cloned();
    let planned = line.source.len().unwrap_or(records.len());
    let late_after = job.late_after;
    Ok(Run { planned, started_at, duration, records, connection_error, late_after, connections, cpu })
}

/// The source of the next request.
enum Source {
    Open(Vec<Slot>),
    /// A free connection sends at once, until so many requests have left or the time is over.
    Closed {
        buyers: usize,
        requests: usize,
        lasts: Duration,
    },
}

impl Source {
    fn new(plan: &Plan) -> Result<Self, Error> {
        let schedule = plan.schedule()?;
        let Arrivals::Closed { buyers, lasts } = plan.arrivals else { return Ok(Self::Open(schedule)) };
        let requests = plan.requests.map_or(usize::MAX, |requests| requests as usize);
        Ok(Self::Closed { buyers: buyers as usize, requests, lasts: lasts.unwrap_or(Duration::MAX) })
    }

    /// The request at a place, the first one at 0; `now` is the time from the start of the run.
    fn slot(&self, at: usize, now: Duration) -> Option<Slot> {
        match *self {
            Self::Open(ref slots) => slots.get(at).copied(),
            Self::Closed { buyers, requests, lasts } => (at < requests && now < lasts).then(|| Slot {
                due_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX),
                buyer: (at % buyers) as u32,
                repeat: at >= buyers,
            }),
        }
    }

    fn len(&self) -> Option<usize> {
        match self {
            Self::Open(slots) => Some(slots.len()),
            Self::Closed { .. } => None,
        }
    }

    /// How many requests, from the one at `next` on, are due and have no connection yet.
    fn waiting(&self, next: usize, now: Duration) -> usize {
        match self {
            Self::Open(slots) => {
                let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
                slots.get(next..).map_or(0, |rest| rest.partition_point(|slot| slot.due_us <= now))
            }
            Self::Closed { .. } => 0,
        }
    }
}

/// The requests of a run, which all connections share: a free connection takes the next one.
struct Line {
    source: Source,
    next: AtomicUsize,
    /// Connections that wait for their next request to be due.
    free: AtomicUsize,
    /// Connections that are being made.
    opening: AtomicUsize,
    started: Instant,
    uri: Uri,
    template: Template,
    tokens: Tokens,
    late_after: Duration,
    promises: Option<UnboundedSender<Promise>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    connection_error: OnceLock<String>,
    /// The list of all connections, so that no record is held twice.
    records: Mutex<Vec<Record>>,
}

impl Line {
    /// Sends all requests. Returns the most connections that were open.
    async fn work_off(self: Arc<Self>, clients: &mut Clients) -> usize {
        let mut sending = JoinSet::new();
        for client in clients.take() {
            sending.spawn(self.clone().send_while_any(client));
        }
        let mut look = interval(GROW_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut idle, mut open) = (Vec::new(), sending.len());
        loop {
            let may_grow = open < clients.most();
            tokio::select! {
                done = sending.join_next() => match done {
                    Some(done) => idle.push(done.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))),
                    None => break,
                },
                _ = look.tick(), if may_grow => {
                    let more = self.wanted().min(clients.most() - open);
                    open += more;
                    self.opening.fetch_add(more, Relaxed);
                    for _ in 0..more {
                        sending.spawn(self.clone().open_and_send(clients.another()));
                    }
                }
            }
        }
        clients.put_back(idle);
        open
    }

    /// How many more connections are needed: as many as requests are due while no connection is free.
    fn wanted(&self) -> usize {
        if self.free.load(Relaxed) > 0 {
            // A free connection takes the due requests as soon as this machine schedules it.
            return 0;
        }
        let waiting = self.source.waiting(self.next.load(Relaxed), self.started.elapsed());
        waiting.min(OPENING.saturating_sub(self.opening.load(Relaxed)))
    }

    async fn open_and_send(self: Arc<Self>, mut client: Client) -> Client {
        client.open().await;
        self.opening.fetch_sub(1, Relaxed);
        self.send_while_any(client).await
    }

    async fn send_while_any(self: Arc<Self>, mut client: Client) -> Client {
        let mut lot = Vec::with_capacity(LOT);
        let mut reader = Reader::default();
        while let Some(slot) = self.source.slot(self.next.fetch_add(1, Relaxed), self.started.elapsed()) {
            if !self.wait_until_due(&slot).await {
                break;
            }
            lot.push(self.send(&slot, &mut client, &mut reader).await);
            if lot.len() == LOT {
                self.records().append(&mut lot);
            }
        }
        self.records().append(&mut lot);
        client
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        // The list is intact after a panic: appending is the only change.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the slot is due. Returns whether the run still goes on then.
    async fn wait_until_due(&self, slot: &Slot) -> bool {
        let due = self.started + slot.due();
        if due > Instant::now() {
            self.free.fetch_add(1, Relaxed);
            let goes_on = self.cancel.run_until_cancelled(sleep_until(due)).await.is_some();
            self.free.fetch_sub(1, Relaxed);
            return goes_on;
        }
        !self.cancel.is_cancelled()
    }

    async fn send(&self, slot: &Slot, client: &mut Client, reader: &mut Reader) -> Record {
        let request = self.template.request(self.uri.clone(), self.tokens.header(slot.buyer));
        let sent = Instant::now();
        let lag = sent.saturating_duration_since(self.started + slot.due());
        self.progress.sent(lag > self.late_after);
        let outcome = match client.send(request).await {
            Ok(answer) => reader.read(&answer),
            Err(Failure::TimedOut) => Outcome::TimedOut,
            Err(Failure::Connection(reason)) => {
                self.connection_error.get_or_init(|| reason);
                Outcome::ConnectionError
            }
        };
        let service_us = micros(sent.elapsed());
        if let (Some(promises), true, Some(order_id)) =
            (&self.promises, outcome.is_promise(), outcome.order_id())
        {
            let order = Order { buyer: slot.buyer, order_id, promised: true, due_us: slot.due_us };
            // Nobody waits any more once the run is cancelled.
            let _ = promises.send(Promise { order, sent });
        }
        self.progress.ended(outcome.kind());
        let record = Record { slot: *slot, lag_us: micros(lag), service_us, outcome };
        self.progress.took(record.latency_us());
        record
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
