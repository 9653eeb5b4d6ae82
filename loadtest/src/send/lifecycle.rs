//! What buyers do after the order: they wait for the commit, pay, cancel or want their money back, and look until their order is
//! where it must end. Every order has one small record; a few connections serve all of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::check::verify::Status;
use crate::plan::lifecycle::{Behaviour, LifecyclePlan};
use crate::plan::tokens::Tokens;
use crate::send::client::{Answer, Client, Clients, Failure};
use crate::send::life::{FIRST_PAUSE, LONGEST_PAUSE, Life, Stage, Told};
use crate::send::outcome::problem;
use crate::send::run::Promise;
use crate::send::template::Template;

/// Orders that are served at one time.
const AT_ONCE: usize = 128;
/// The pause between the promise and the first look: an order is not committed earlier.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// The pause before a request is sent again whose answer did not say when.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a `Retry-After` is obeyed.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How many different refusals are counted by name.
const MAX_REFUSALS: usize = 32;

static KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// All orders of a run after their buyers have gone.
#[derive(Debug, Clone, Default)]
pub struct Lives {
    /// Each order once, by buyer and order id.
    pub lives: Vec<Life>,
    /// Requests that were sent: looks, payments, cancellations, refunds.
    pub requests: u64,
    /// Of these, payments, cancellations and refunds that were sent again.
    pub retries: u64,
    /// Refusals by HTTP status and problem, such as `409 order-state`.
    pub refusals: BTreeMap<String, u64>,
}

/// How many orders there are, and how many are where they must end. A caller may read it during a run.
#[derive(Debug, Default)]
pub struct LifeProgress {
    pub orders: AtomicU64,
    pub ended: AtomicU64,
}

/// What the following of orders needs.
pub(crate) struct LifeJob {
    pub(crate) plan: LifecyclePlan,
    pub(crate) tokens: Tokens,
    /// After the last promise it ends when no order has changed for so long.
    pub(crate) stall: Duration,
    pub(crate) progress: Arc<LifeProgress>,
}

/// Follows every promised order until all are where they must end. Ends earlier when nothing has moved for too long, or when
/// `cancel` ends it.
pub(crate) async fn follow_orders(
    clients: Vec<(Client, Client)>,
    asking: Asking,
    mut promises: UnboundedReceiver<Promise>,
    cancel: CancellationToken,
) -> Lives {
    let (asking, mut idle) = (Arc::new(asking), clients);
    let (mut lives, mut known) = (Vec::<Life>::new(), HashSet::new());
    let mut due = BinaryHeap::new();
    let mut running = FuturesUnordered::new();
    let (mut open, mut moved) = (true, Instant::now());
    while open || !due.is_empty() || !running.is_empty() {
        while let Some(&Reverse((at, place))) = due.peek()
            && at <= Instant::now()
            && let Some(pair) = idle.pop()
        {
            due.pop();
            running.push(Arc::clone(&asking).step(pair, place, lives[place]));
        }
        let next = due.peek().filter(|_| !idle.is_empty()).map(|Reverse((at, _))| *at);
        let given_up = moved + asking.job.stall;
        tokio::select! {
            promise = promises.recv(), if open => match promise {
                Some(Promise { order, sent }) if known.insert(order.order_id) => {
                    let behaviour = asking.job.plan.behaviour(order.buyer);
                    due.push(Reverse((Instant::now() + FIRST_LOOK, lives.len())));
                    lives.push(Life::new(order, behaviour, sent));
                    asking.job.progress.orders.fetch_add(1, Relaxed);
                    moved = Instant::now();
                }
                Some(_) => {}
                None => (open, moved) = (false, Instant::now()),
            },
            Some((pair, place, life, wait)) = running.next(), if !running.is_empty() => {
                idle.push(pair);
                if life.moved_from(&lives[place]) {
                    moved = Instant::now();
                }
                lives[place] = life;
                match wait {
                    Some(wait) => due.push(Reverse((Instant::now() + wait, place))),
                    None => _ = asking.job.progress.ended.fetch_add(1, Relaxed),
                }
            }
            () = sleep_until(next.unwrap_or(given_up)), if next.is_some() => {}
            () = sleep_until(given_up), if !open => break,
            () = cancel.cancelled() => break,
        }
    }
    drop(running);
    lives.sort_unstable_by_key(|life| (life.order.buyer, life.order.order_id));
    let refusals = asking.refusals.lock().map(|refusals| refusals.clone()).unwrap_or_default();
    let (requests, retries) = (asking.requests.load(Relaxed), asking.retries.load(Relaxed));
    Lives { lives, requests, retries, refusals }
}

/// The connections that serve the orders; they connect when they are needed.
pub(crate) fn connections(clients: &Clients) -> Vec<(Client, Client)> {
    (0..AT_ONCE).map(|_| (clients.another(), clients.another())).collect()
}

/// What an answer to a wish means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// The same request is to be sent again, after this time.
    Later(Duration),
    Told(Told, Option<Uuid>),
}

/// The requests of the buyers, and what is counted of them.
pub(crate) struct Asking {
    job: LifeJob,
    path: String,
    look: Template,
    pay: Template,
    wish: Template,
    requests: AtomicU64,
    retries: AtomicU64,
    refusals: std::sync::Mutex<BTreeMap<String, u64>>,
}

#[derive(Deserialize)]
struct View {
    order_id: Uuid,
    status: Status,
    amount_cents: Option<u64>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Payment {
    order_id: Uuid,
    status: Status,
    payment_id: Uuid,
}

impl Asking {
    pub(crate) fn new(clients: &Clients, job: LifeJob) -> Self {
        let target = clients.target();
        Self {
            job,
            path: target.path("/api/v1/orders/"),
            look: Template::get(target),
            pay: Template::post(target, r#"{"card":"tok_visa"}"#),
            wish: Template::post(target, "{}"),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            refusals: std::sync::Mutex::default(),
        }
    }

    /// The next steps of one order, up to a pause. Returns how long it is; `None`: the order is where it must end.
    async fn step(
        self: Arc<Self>,
        mut pair: (Client, Client),
        place: usize,
        mut life: Life,
    ) -> ((Client, Client), usize, Life, Option<Duration>) {
        loop {
            let wait = match life.stage {
                Stage::Commit => self.wait_for_commit(&mut pair.0, &mut life).await,
                Stage::Act if life.behaviour == Behaviour::Cancel => {
                    self.cancel(&mut pair.0, &mut life).await
                }
                Stage::Act => self.pay(&mut pair, &mut life).await,
                Stage::GiveBack => self.give_back(&mut pair.0, &mut life).await,
                Stage::End | Stage::Done => self.wait_for_end(&mut pair.0, &mut life).await,
            };
            // A buyer who sees the commit pays at once, and does not wait behind others who only look.
            if wait != Some(Duration::ZERO) {
                return (pair, place, life, wait);
            }
        }
    }

    async fn wait_for_commit(&self, client: &mut Client, life: &mut Life) -> Option<Duration> {
        if let Some(wait) = self.look(client, life).await {
            return Some(wait);
        }
        match life.status {
            None | Some(Status::Queued) => Some(life.longer_pause()),
            Some(Status::Rejected) => life.end(),
            Some(_) => match life.behaviour {
                // Looks before the window is over, too: the order must be there still.
                Behaviour::Expire => {
                    let half = self.job.plan.window / 2;
                    let wait = life.enter(Stage::End, half);
                    life.pause = half.min(LONGEST_PAUSE);
                    wait
                }
                Behaviour::PayLate => {
                    let late = self.job.plan.window + self.job.plan.late_by(life.order.buyer);
                    life.enter(Stage::Act, late)
                }
                _ => life.enter(Stage::Act, Duration::ZERO),
            },
        }
    }

    async fn pay(&self, pair: &mut (Client, Client), life: &mut Life) -> Option<Duration> {
        let reply = if life.behaviour == Behaviour::PayTwice {
            let (one, other) = join(self.pay_once(&mut pair.0, life), self.pay_once(&mut pair.1, life)).await;
            life.contradicted |= contradict(one, other);
            firmer(one, other)
        } else {
            self.pay_once(&mut pair.0, life).await
        };
        match reply {
            Reply::Later(wait) => self.again(life, wait),
            Reply::Told(told, payment) => {
                (life.told, life.payment) = (told, payment);
                let give_back = told == Told::Paid && life.behaviour == Behaviour::Refund;
                life.enter(if give_back { Stage::GiveBack } else { Stage::End }, Duration::ZERO)
            }
        }
    }

    fn again(&self, life: &mut Life, wait: Duration) -> Option<Duration> {
        if life.stage == Stage::Act {
            life.told = Told::Open;
        }
        self.retries.fetch_add(1, Relaxed);
        Some(wait)
    }

    /// Sends the payment; the same order has the same key always.
    async fn pay_once(&self, client: &mut Client, life: &Life) -> Reply {
        let answer = self.ask(client, &self.pay, life, "/payment").await;
        self.read(answer, |answer| {
            let Payment { order_id, status, payment_id } = serde_json::from_slice(&answer.body).ok()?;
            let fits = order_id == life.order.order_id && status == Status::Paid && answer.status == 200;
            fits.then_some(Reply::Told(Told::Paid, Some(payment_id)))
        })
    }

    async fn cancel(&self, client: &mut Client, life: &mut Life) -> Option<Duration> {
        let answer = self.ask(client, &self.wish, life, "/cancel").await;
        let order_id = life.order.order_id;
        match self.read(answer, |answer| {
            let view: View = serde_json::from_slice(&answer.body).ok()?;
            (view.order_id == order_id && answer.status == 200).then_some(Reply::Told(Told::Cancelled, None))
        }) {
            Reply::Later(wait) => self.again(life, wait),
            Reply::Told(told, _) => {
                life.told = told;
                life.enter(Stage::End, Duration::ZERO)
            }
        }
    }

    async fn give_back(&self, client: &mut Client, life: &mut Life) -> Option<Duration> {
        let answer = self.ask(client, &self.wish, life, "/refund").await;
        let order_id = life.order.order_id;
        match self.read(answer, |answer| {
            let view: View = serde_json::from_slice(&answer.body).ok()?;
            (view.order_id == order_id && answer.status == 202).then_some(Reply::Told(Told::Refunding, None))
        }) {
            Reply::Later(wait) => self.again(life, wait),
            // A refused refund leaves the last word: the order is paid.
            Reply::Told(told, _) => {
                if told == Told::Refunding {
                    life.told = told;
                }
                life.enter(Stage::End, Duration::ZERO)
            }
        }
    }

    async fn wait_for_end(&self, client: &mut Client, life: &mut Life) -> Option<Duration> {
        if let Some(wait) = self.look(client, life).await {
            return Some(wait);
        }
        if life.rests() { life.end() } else { Some(life.longer_pause()) }
    }

    /// Looks at the order. Returns the time after which to look again where the server gave no state of it.
    async fn look(&self, client: &mut Client, life: &mut Life) -> Option<Duration> {
        let answer = match self.ask(client, &self.look, life, "").await {
            Ok(answer) => answer,
            Err(_) => return Some(RETRY),
        };
        let view = serde_json::from_slice::<View>(&answer.body);
        match view {
            Ok(view) if answer.status == 200 && view.order_id == life.order.order_id => {
                life.status = Some(view.status);
                life.amount_cents = view.amount_cents.unwrap_or(life.amount_cents);
                let expired = view.status == Status::Cancelled && view.reason.as_deref() == Some("expired");
                // The window begins with the commit, which comes after the request has left.
                life.expired_early |= expired && life.sent.elapsed() < self.job.plan.window;
                None
            }
            _ => Some(retry_after(&answer).unwrap_or_else(|| life.longer_pause())),
        }
    }

    async fn ask(
        &self,
        client: &mut Client,
        template: &Template,
        life: &Life,
        of: &str,
    ) -> Result<Answer, Failure> {
        let order_id = life.order.order_id;
        let uri = format!("{}{order_id}{of}", self.path);
        let uri = uri.try_into().expect("the path of a URL, an order id and a word make a path");
        let mut request = template.request(uri, self.job.tokens.header(life.order.buyer));
        let key = HeaderValue::try_from(order_id.to_string()).expect("an id is plain text");
        request.headers_mut().insert(&KEY, key);
        self.requests.fetch_add(1, Relaxed);
        client.send(request).await
    }

    /// What an answer to a payment, a cancellation or a refund means; `done` reads a success.
    fn read(&self, answer: Result<Answer, Failure>, done: impl FnOnce(&Answer) -> Option<Reply>) -> Reply {
        let Ok(answer) = answer else { return Reply::Later(RETRY) };
        if let Some(reply) = done(&answer) {
            return reply;
        }
        let later = Reply::Later(retry_after(&answer).unwrap_or(RETRY));
        let name = problem(&answer.body);
        match (answer.status, &*name) {
            // Processing.
            (202 | 429, _) | (409, "payment-under-way") | (404, _) => later,
            (status, _) if status >= 500 => later,
            (402, _) => Reply::Told(Told::Declined, None),
            (409, "paid-too-late") => Reply::Told(Told::TooLate, None),
            (status, name) => {
                self.count_refusal(status, name);
                Reply::Told(Told::Refused, None)
            }
        }
    }

    fn count_refusal(&self, status: u16, name: &str) {
        let name = format!("{status} {}", if status < 300 { "malformed" } else { name });
        let mut refusals = self.refusals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = refusals.len() < MAX_REFUSALS || refusals.contains_key(&name);
        *refusals.entry(if room { name } else { "other".to_owned() }).or_default() += 1;
    }
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.retry_after.map(|seconds| Duration::from_secs(seconds).clamp(FIRST_PAUSE, LONGEST_RETRY))
}

/// Whether two answers to one payment cannot both be right.
fn contradict(one: Reply, other: Reply) -> bool {
    match (one, other) {
        (Reply::Told(one, first), Reply::Told(other, second)) => one != other || first != second,
        _ => false,
    }
}

/// Of two answers to one payment the one that says more.
fn firmer(one: Reply, other: Reply) -> Reply {
    match (one, other) {
        (Reply::Told(told, _), Reply::Told(second, _)) => {
            if told >= second {
                one
            } else {
                other
            }
        }
        (Reply::Later(_), Reply::Told(..)) => other,
        (Reply::Told(..), Reply::Later(_)) => one,
        (Reply::Later(first), Reply::Later(second)) => Reply::Later(first.max(second)),
    }
}
