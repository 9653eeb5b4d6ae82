//! Follows every order that an answer has named to its end, and says which never got there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Client, Clients, Order, Template, Tokens};

/// Of the newest orders, so many are looked at to tell whether the queue has drained: more than one, for any may be lost.
const PROBES: usize = 3;

/// How long, and how often, orders are asked for.
#[derive(Debug, Clone)]
pub struct VerifySettings {
    /// After this time, orders without an end are given up.
    pub within: Duration,
    /// The pause before unfinished orders are asked for again.
    pub pause: Duration,
}

impl Default for VerifySettings {
    /// 60 s; every 200 ms.
    fn default() -> Self {
        Self { within: Duration::from_secs(60), pause: Duration::from_millis(200) }
    }
}

/// Where an order stood when it was last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// In the ledger.
    Committed,
    /// Recorded by the ledger as rejected.
    Rejected,
    /// Not at its end: still on its way.
    Queued,
    /// Not at its end: the server knows of no such order (404).
    Missing,
    /// Not known: the server was not asked, or gave no answer that says where the order stands.
    Unclear,
}

impl End {
    /// Whether the order has a final row.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Rejected)
    }
}

/// One order and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The order.
    pub order: Order,
    /// Where it stood at last.
    pub end: End,
}

impl Check {
    /// Whether the server has promised the order and has no final row for it.
    pub fn is_lost(&self) -> bool {
        self.order.promised && !self.end.is_final()
    }
}

/// What became of all orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Every order, by buyer.
    pub checks: Vec<Check>,
    /// Whether it was cancelled while orders were open: these may still reach their end.
    pub cancelled: bool,
}

impl Verification {
    /// Orders that stood at `end`.
    pub fn count(&self, end: End) -> u64 {
        self.checks.iter().filter(|check| check.end == end).count() as u64
    }

    /// Orders that were promised and have no final row. Where the server could not be asked, this says so of its orders
    /// too: see how many are [`End::Unclear`].
    pub fn lost(&self) -> u64 {
        self.checks.iter().filter(|check| check.is_lost()).count() as u64
    }

    /// Buyers who were given two order ids for the same wish.
    pub fn buyers_with_two_orders(&self) -> u64 {
        let runs = self.checks.chunk_by(|one, other| one.order.buyer == other.order.buyer);
        runs.filter(|orders| orders.len() > 1).count() as u64
    }
}

/// Asks for every order, then again and again for those that are not at their end, until all are, or the time is up, or
/// `cancel` ends it. Call it once the queue has drained: the first pass asks for all orders. `orders` are those of
/// [`Run::orders`](crate::Run::orders). May last one request time-out longer than the settings say.
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
    let deadline = Instant::now() + settings.within;
    let mut checks: Vec<Check> = orders.iter().map(|&order| Check { order, end: End::Unclear }).collect();
    loop {
        let open: Vec<usize> = (0..checks.len()).filter(|&at| !checks[at].end.is_final()).collect();
        let asked = open.iter().map(|&at| checks[at].order).collect();
        for (at, end) in ask(clients, asked, tokens, deadline, cancel).await {
            checks[open[at]].end = end;
        }
        if checks.iter().all(|check| check.end.is_final()) {
            return Verification { checks, cancelled: false };
        }
        if !pause(settings, deadline, cancel).await {
            return Verification { checks, cancelled: cancel.is_cancelled() };
        }
    }
}

/// Waits until one of the newest orders is at its end, and with it, as the queue is in order, nearly all before it. It
/// asks for three orders at a time, so that a long queue is not slowed by being watched. `false`: the time was up, or
/// `cancel` ended it.
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
        let ends = ask(clients, newest.clone(), tokens, deadline, cancel).await;
        if newest.is_empty() || ends.iter().any(|(_, end)| end.is_final()) {
            return true;
        }
        if !pause(settings, deadline, cancel).await {
            return false;
        }
    }
}

/// Whether there is time for another pass.
async fn pause(settings: &VerifySettings, deadline: Instant, cancel: &CancellationToken) -> bool {
    cancel.run_until_cancelled(sleep(settings.pause)).await.is_some() && Instant::now() < deadline
}

/// Asks for each order once, over all connections; answers by place. Those that the time was too short for are left out.
async fn ask(
    clients: &mut Clients,
    orders: Vec<Order>,
    tokens: &Tokens,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Vec<(usize, End)> {
    let pass = Arc::new(Pass {
        next: AtomicUsize::new(0),
        path: clients.target().path("/api/v1/orders/"),
        template: Template::get(clients.target()),
        tokens: tokens.clone(),
        cancel: cancel.clone(),
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

/// One pass over some orders, worked off by all connections together.
struct Pass {
    orders: Vec<Order>,
    next: AtomicUsize,
    path: String,
    template: Template,
    tokens: Tokens,
    deadline: Instant,
    cancel: CancellationToken,
}

#[derive(Deserialize)]
struct OrderBody {
    order_id: Uuid,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Queued,
    Committed,
    Rejected,
}

impl Pass {
    async fn ask_while_any(self: Arc<Self>, mut client: Client) -> (Client, Vec<(usize, End)>) {
        let mut ends = Vec::new();
        while Instant::now() < self.deadline && !self.cancel.is_cancelled() {
            let at = self.next.fetch_add(1, Relaxed);
            let Some(order) = self.orders.get(at) else { break };
            ends.push((at, self.ask(order, &mut client).await));
        }
        (client, ends)
    }

    async fn ask(&self, order: &Order, client: &mut Client) -> End {
        let uri = format!("{}{}", self.path, order.order_id);
        let uri = uri.try_into().expect("the path of a URL, and an order id, make a path");
        let request = self.template.request(uri, self.tokens.header(order.buyer));
        let Ok(answer) = client.send(request).await else { return End::Unclear };
        match (answer.status, serde_json::from_slice::<OrderBody>(&answer.body)) {
            (404, _) => End::Missing,
            (200, Ok(body)) if body.order_id == order.order_id => match body.status {
                Status::Queued => End::Queued,
                Status::Committed => End::Committed,
                Status::Rejected => End::Rejected,
            },
            _ => End::Unclear,
        }
    }
}
