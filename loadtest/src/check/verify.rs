//! Looks up every order whose id was in an answer, until the order has a final row or the time is over.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::plan::tokens::Tokens;
use crate::send::client::{Client, Clients};
use crate::send::latency::{Latency, Times};
use crate::send::run::Order;
use crate::send::template::Template;

/// How many of the newest orders are looked up to find out whether the queue has drained. More than one, because any order may
/// be lost.
const PROBES: usize = 3;

/// How long, and how often, orders are looked up.
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// After this time, orders without a final row are looked up no more.
    pub within: Duration,
    /// The pause before orders without a final row are looked up again.
    pub pause: Duration,
    /// When the run began; `None`: the time from the intended start to the commit is not computed.
    pub started_at: Option<SystemTime>,
    /// Counts the orders that have been looked up. An order that is looked up again counts again.
    pub looked_up: Arc<AtomicU64>,
}

impl Default for VerifySettings {
    /// 60 s; every 200 ms.
    fn default() -> Self {
        Self {
            within: Duration::from_secs(60),
            pause: Duration::from_millis(200),
            started_at: None,
            looked_up: Arc::default(),
        }
    }
}

/// The state of an order when it was last looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Committed,
    /// Recorded by the ledger as rejected.
    Rejected,
    /// No final row: the server says that the order is still on its way.
    Queued,
    /// No final row: the server does not know the order (404).
    Missing,
    /// Not known: the server was not asked, or its answer has no state of the order.
    Unclear,
}

impl End {
    pub fn word(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Queued => "queued",
            Self::Missing => "missing",
            Self::Unclear => "unclear",
        }
    }

    /// Whether the order has a final row.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Rejected)
    }
}

/// The word that the server has for an order's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Committed,
    Rejected,
    Paid,
    Cancelled,
    Refunding,
    RefundHeld,
    Refunded,
}

impl Status {
    /// Reads the server's word; `None`: it is none of these.
    pub fn read(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"queued" => Self::Queued,
            b"committed" => Self::Committed,
            b"rejected" => Self::Rejected,
            b"paid" => Self::Paid,
            b"cancelled" => Self::Cancelled,
            b"refunding" => Self::Refunding,
            b"refund_held" => Self::RefundHeld,
            b"refunded" => Self::Refunded,
            _ => return None,
        })
    }

    /// The word, as it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Refunding => "refunding",
            Self::RefundHeld => "refund held",
            Self::Refunded => "refunded",
        }
    }

    /// What it says of the order's final row. An order that was paid, cancelled or refunded has reached the ledger before.
    pub fn end(self) -> End {
        match self {
            Self::Queued => End::Queued,
            Self::Rejected => End::Rejected,
            Self::Committed
            | Self::Paid
            | Self::Cancelled
            | Self::Refunding
            | Self::RefundHeld
            | Self::Refunded => End::Committed,
        }
    }

    /// Whether the order has given its units back, so that they may be sold again, and its buyer may order again.
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Rejected | Self::Cancelled | Self::Refunded)
    }
}

/// One order and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    pub order: Order,
    /// Its state when it was last looked up.
    pub end: End,
    /// The server's word for it; `None`: the server has not said one.
    pub status: Option<Status>,
}

impl Check {
    /// Whether the order has given its units back.
    pub fn has_ended(&self) -> bool {
        self.status.is_some_and(Status::has_ended)
    }

    /// Whether the server has promised the order, and no final row of it is known.
    pub fn is_lost(&self) -> bool {
        self.order.promised && !self.end.is_final()
    }

    /// Whether the server has promised the order, and answered the last look-up without a final row.
    pub fn is_unrecorded(&self) -> bool {
        self.order.promised && matches!(self.end, End::Queued | End::Missing)
    }
}

/// The states of all orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Every order, by buyer.
    pub checks: Vec<Check>,
    /// Whether it was cancelled while orders had no final row: they may still get one.
    pub cancelled: bool,
    /// From the intended start of a buyer's first request to the order's commit, where the server reports the time of the commit.
    pub end_to_end: Latency,
    /// When the last final row was written, by the ledger's clock; `None`: the server did not report it.
    pub last_recorded_at: Option<SystemTime>,
}

impl Verification {
    /// Orders in the state `end`.
    pub fn count(&self, end: End) -> u64 {
        self.checks.iter().filter(|check| check.end == end).count() as u64
    }

    /// Promised orders of which no final row is known. Orders that could not be looked up are among them: see how many are
    /// [`End::Unclear`].
    pub fn lost(&self) -> u64 {
        self.checks.iter().filter(|check| check.is_lost()).count() as u64
    }

    /// Orders in the ledger that have not given their units back.
    pub fn active(&self) -> u64 {
        self.checks.iter().filter(|check| check.end == End::Committed && !check.has_ended()).count() as u64
    }

    /// Buyers who were given two different order ids. An order that was cancelled or refunded does not count: its buyer may order
    /// again.
    pub fn buyers_with_two_orders(&self) -> u64 {
        let over = |check: &&Check| matches!(check.status, Some(Status::Cancelled | Status::Refunded));
        let runs = self.checks.chunk_by(|one, other| one.order.buyer == other.order.buyer);
        runs.filter(|orders| orders.iter().filter(|check| !over(check)).count() > 1).count() as u64
    }
}

/// Looks up every order, then again and again those without a final row, until all have one, or the time is over, or `cancel`
/// ends it. Call it after the queue has drained, because the first pass looks up all orders. `orders` are those of
/// [`Run::orders`](crate::send::run::Run::orders). May last one request time-out longer than the settings say.
///
/// # Panics
/// When an order's buyer has no token.
pub async fn verify(
    clients: &mut Clients,
    orders: &[Order],
    tokens: &Tokens,
    settings: &VerifySettings,
    cancel: &CancellationToken,
) -> Verification {
    let mut followed = Followed::new(orders, settings.started_at);
    let cancelled = follow(clients, &mut followed, tokens, settings, cancel).await;
    followed.finish(cancelled)
}

/// Looks up the orders without a final row until all have one. Returns whether `cancel` ended it before.
pub(crate) async fn follow(
    clients: &mut Clients,
    followed: &mut Followed,
    tokens: &Tokens,
    settings: &VerifySettings,
    cancel: &CancellationToken,
) -> bool {
    let deadline = Instant::now() + settings.within;
    loop {
        let all_final = ask_for_open(clients, followed, tokens, settings, deadline, cancel).await;
        if all_final || !pause(settings, deadline, cancel).await {
            return !all_final && cancel.is_cancelled();
        }
    }
}

/// Looks up every order without a final row once. Returns whether all have one now.
pub(crate) async fn ask_for_open(
    clients: &mut Clients,
    followed: &mut Followed,
    tokens: &Tokens,
    settings: &VerifySettings,
    deadline: Instant,
    cancel: &CancellationToken,
) -> bool {
    let open: Vec<usize> = followed.open().collect();
    let asked = open.iter().map(|&at| followed.checks[at].order).collect();
    for (at, state) in ask(clients, asked, tokens, settings, deadline, cancel).await {
        followed.set(open[at], state);
    }
    followed.open().next().is_none()
}

/// The server's answer about one order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderState {
    pub(crate) end: End,
    pub(crate) status: Option<Status>,
    /// When the final row was written, in milliseconds since 1970, where the server reports it.
    pub(crate) recorded_ms: Option<u64>,
}

/// Collects the states of orders for a [`Verification`].
pub(crate) struct Followed {
    pub(crate) checks: Vec<Check>,
    started_us: Option<u64>,
    times: Times,
    last_recorded_ms: Option<u64>,
}

impl Followed {
    pub(crate) fn new(orders: &[Order], started_at: Option<SystemTime>) -> Self {
        let since_1970 = started_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self {
            checks: orders.iter().map(|&order| Check { order, end: End::Unclear, status: None }).collect(),
            started_us: since_1970.and_then(|time| u64::try_from(time.as_micros()).ok()),
            times: Times::new(),
            last_recorded_ms: None,
        }
    }

    /// Stores the server's answer about the order at a place.
    pub(crate) fn set(&mut self, at: usize, OrderState { end, status, recorded_ms }: OrderState) {
        let check = &mut self.checks[at];
        (check.end, check.status) = (end, status);
        let Some(recorded_ms) = recorded_ms.filter(|_| end.is_final()) else { return };
        self.last_recorded_ms = self.last_recorded_ms.max(Some(recorded_ms));
        if let (End::Committed, Some(started_us)) = (end, self.started_us) {
            let due_us = started_us.saturating_add(check.order.due_us);
            self.times.record(recorded_ms.saturating_mul(1_000).saturating_sub(due_us));
        }
    }

    /// Whether a promised order has no final row by the server's own answer.
    pub(crate) fn has_unrecorded(&self) -> bool {
        self.checks.iter().any(Check::is_unrecorded)
    }

    fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.checks.len()).filter(|&at| !self.checks[at].end.is_final())
    }

    pub(crate) fn finish(self, cancelled: bool) -> Verification {
        Verification {
            checks: self.checks,
            cancelled,
            end_to_end: self.times.latency(),
            last_recorded_at: self.last_recorded_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms)),
        }
    }
}

/// Waits until one of the three newest orders has a final row. The queue is in order, so nearly all orders before it have one,
/// too. Few orders are looked up, so that this does not slow the drain. `false`: the time was over, or `cancel` ended it.
///
/// # Panics
/// When an order's buyer has no token.
pub async fn wait_for_drain(
    clients: &mut Clients,
    orders: &[Order],
    tokens: &Tokens,
    settings: &VerifySettings,
    cancel: &CancellationToken,
) -> bool {
    let deadline = Instant::now() + settings.within;
    let newest: Vec<Order> =
        orders.iter().rev().filter(|order| order.promised).take(PROBES).copied().collect();
    loop {
        let ends = ask(clients, newest.clone(), tokens, settings, deadline, cancel).await;
        if newest.is_empty() || ends.iter().any(|(_, state)| state.end.is_final()) {
            return true;
        }
        if !pause(settings, deadline, cancel).await {
            return false;
        }
    }
}

/// Waits, and returns whether there is time for another pass.
async fn pause(settings: &VerifySettings, deadline: Instant, cancel: &CancellationToken) -> bool {
    cancel.run_until_cancelled(sleep(settings.pause)).await.is_some() && Instant::now() < deadline
}

/// Looks up each order once, over all connections. Returns the answers by place, without the orders that there was no time for.
async fn ask(
    clients: &mut Clients,
    orders: Vec<Order>,
    tokens: &Tokens,
    settings: &VerifySettings,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Vec<(usize, OrderState)> {
    let pass = Arc::new(Pass {
        next: AtomicUsize::new(0),
        path: clients.target().path("/api/v1/orders/"),
        template: Template::get(clients.target()),
        tokens: tokens.clone(),
        cancel: cancel.clone(),
        looked_up: settings.looked_up.clone(),
        deadline,
        orders,
    });
    let mut asking = JoinSet::new();
    let mut idle = clients.take();
    for client in idle.drain(..idle.len().min(pass.orders.len())) {
        asking.spawn(pass.clone().ask_while_any(client));
    }
    let mut ends = Vec::with_capacity(pass.orders.len());
    while let Some(done) = asking.join_next().await {
        let (client, some) = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        ends.extend(some);
        idle.push(client);
    }
    clients.put_back(idle);
    ends
}

/// One pass over some orders, which all connections share.
struct Pass {
    orders: Vec<Order>,
    next: AtomicUsize,
    path: String,
    template: Template,
    tokens: Tokens,
    deadline: Instant,
    cancel: CancellationToken,
    looked_up: Arc<AtomicU64>,
}

#[derive(Deserialize)]
struct OrderBody<'a> {
    order_id: Uuid,
    status: Status,
    /// RFC 3339.
    #[serde(borrow)]
    recorded_at: Option<Cow<'a, str>>,
}

impl Pass {
    async fn ask_while_any(self: Arc<Self>, mut client: Client) -> (Client, Vec<(usize, OrderState)>) {
        let mut states = Vec::new();
        while Instant::now() < self.deadline && !self.cancel.is_cancelled() {
            let at = self.next.fetch_add(1, Relaxed);
            let Some(order) = self.orders.get(at) else { break };
            states.push((at, self.ask(order, &mut client).await));
            self.looked_up.fetch_add(1, Relaxed);
        }
        (client, states)
    }

    async fn ask(&self, order: &Order, client: &mut Client) -> OrderState {
        let unfinished = |end| OrderState { end, status: None, recorded_ms: None };
        let uri = format!("{}{}", self.path, order.order_id);
        let uri = uri.try_into().expect("the path of a URL, and an order id, make a path");
        let request = self.template.request(uri, self.tokens.header(order.buyer));
        let Ok(answer) = client.send(request).await else { return unfinished(End::Unclear) };
        match (answer.status, serde_json::from_slice::<OrderBody<'_>>(&answer.body)) {
            (404, _) => unfinished(End::Missing),
            (200, Ok(body)) if body.order_id == order.order_id => {
                let (end, status) = (body.status.end(), Some(body.status));
                OrderState { end, status, recorded_ms: body.recorded_ms() }
            }
            _ => unfinished(End::Unclear),
        }
    }
}

impl OrderBody<'_> {
    /// In milliseconds since 1970.
    fn recorded_ms(&self) -> Option<u64> {
        let at = humantime::parse_rfc3339(self.recorded_at.as_deref()?).ok()?;
        u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    }
}
