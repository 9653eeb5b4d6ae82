//! `seckill demo --lifecycle`: buyers who pay, cancel, want their money back, or let the time run out; and the units that come back,
//! sold once more. Everything goes over HTTP, as a shop's own buyers would send it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use console::style;
use loadtest::{CancellationToken, Job, Order, Plan, Progress, Session};
use reqwest::{Client, Method, Response, StatusCode};
use seckill_core::money::Money;
use seckill_core::{AuditReport, SaleId, UserId, Verdict};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use url::Url;

use super::{STALLED, System, TOKEN_TTL, session};
use crate::cli::demo::DemoArgs;
use crate::secrets;

/// Hundredths of the sale's currency.
pub(super) const PRICE_CENTS: u64 = 999;
/// Buyers who act at the same time.
const HANDS: usize = 32;
/// How long a buyer waits before asking again for an order that is still on its way.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often the sale is looked at until all of its orders have come to their end.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a buyer does with an order. Of ten, five pay, one pays and wants the money back, one cancels, three do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Pay,
    PayAndRefund,
    Cancel,
    Nothing,
}

impl Act {
    fn of(buyer: u32) -> Self {
        match buyer % 10 {
            0..=4 => Self::Pay,
            5 => Self::PayAndRefund,
            6 => Self::Cancel,
            _ => Self::Nothing,
        }
    }
}

/// What became of the orders of all buyers who came at one time.
#[derive(Debug, Serialize)]
struct Funnel {
    accepted: u64,
    /// Accepted orders in the ledger, whatever became of them.
    committed: u64,
    /// Paid, refunded later or not.
    paid: u64,
    cancelled: u64,
    expired: u64,
    refunded: u64,
}

/// The outcome of a demo with payments.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    stock: u32,
    payment_window_seconds: f64,
    price_cents: u64,
    first: Funnel,
    /// Units that were on sale again after the first buyers.
    returned_units: u64,
    /// The orders for the units that came back.
    again: Funnel,
    /// Units in nobody's hands at the end.
    left: u64,
    /// Accepted orders without a row.
    lost: u64,
    /// From the first request until every order had come to its end.
    seconds: f64,
    money: Money,
    /// As the gateway sent it.
    audit: AuditReport,
}

/// Opens no sale: that has been done. Sends the buyers, has them act, sends them all again for what came back, and waits until
/// every order has come to its end.
pub(super) async fn play(system: &System, args: &DemoArgs, sale: SaleId) -> Result<Outcome> {
    let Session { plan, mut clients, tokens, .. } = session(system, args, sale).await?;
    let shop = Arc::new(Shop::new(system, sale)?);
    let (began, stop) = (Instant::now(), CancellationToken::new());
    let mut waves: Vec<Wave> = Vec::new();
    let mut returned_units = 0;
    // The second time nobody asks twice: whoever still has an order would be answered with it anyway.
    let plans = [plan.clone(), Plan { retry_ratio: 0.0, ..plan.clone() }];
    for (at, plan) in plans.into_iter().enumerate() {
        let who = if at == 0 { "buyers arrive" } else { "buyers come back for what was not paid" };
        eprintln!("{:>5.1} s  {} {who}", began.elapsed().as_secs_f64(), plan.buyers());
        let job = Job::new(plan.clone(), sale.0, tokens.clone());
        let run = loadtest::run(&mut clients, &job, &Progress::shared(), &stop).await?;
        let seen: BTreeSet<_> =
            waves.iter().flat_map(|wave| wave.orders.iter()).map(|o| o.order_id).collect();
        let promised = run.orders().into_iter().filter(|o| o.promised && !seen.contains(&o.order_id));
        let orders: Arc<Vec<Order>> = Arc::new(promised.collect());
        eprintln!(
            "{:>5.1} s  {} orders accepted; their buyers pay, cancel, or do nothing",
            began.elapsed().as_secs_f64(),
            orders.len()
        );
        let acted = act(&shop, &plan, &orders).await?;
        shop.settled(began).await?;
        if at == 0 {
            returned_units = shop.audit().await?.remaining.unwrap_or_default().into();
        }
        waves.push(Wave { orders, cancelled: acted });
    }
    let seconds = began.elapsed().as_secs_f64();
    let audit = shop.audit().await?;
    let rows = shop.rows().await?;
    let accepted: u64 = waves.iter().map(|wave| wave.orders.len() as u64).sum();
    let [first, again] = [&waves[0], &waves[1]].map(|wave| wave.funnel(&rows));
    Ok(Outcome {
        stock: args.stock,
        payment_window_seconds: args.payment_window.as_secs_f64(),
        price_cents: PRICE_CENTS,
        lost: accepted - first.committed - again.committed - rejected(&waves, &rows),
        first,
        returned_units,
        again,
        left: audit.remaining.unwrap_or_default().into(),
        seconds,
        money: audit.money.context("the audit says nothing of the sale's money")?,
        audit,
    })
}

/// Promised orders that the ledger rejected; the audit counts them, too.
fn rejected(waves: &[Wave], rows: &BTreeMap<String, String>) -> u64 {
    waves.iter().map(|wave| wave.count(rows, &["rejected"])).sum()
}

/// All buyers who came at one time.
struct Wave {
    orders: Arc<Vec<Order>>,
    /// Orders that their buyers have cancelled.
    cancelled: u64,
}

impl Wave {
    /// Its orders whose row has one of these states; without states, all that have a row.
    fn count(&self, rows: &BTreeMap<String, String>, states: &[&str]) -> u64 {
        let has = |order: &&Order| {
            rows.get(&order.order_id.to_string())
                .is_some_and(|status| states.is_empty() || states.contains(&status.as_str()))
        };
        self.orders.iter().filter(has).count() as u64
    }

    fn funnel(&self, rows: &BTreeMap<String, String>) -> Funnel {
        let refunded = self.count(rows, &["refunded"]);
        Funnel {
            accepted: self.orders.len() as u64,
            committed: self.count(rows, &[]) - self.count(rows, &["rejected"]),
            paid: self.count(rows, &["paid"]) + refunded,
            cancelled: self.cancelled,
            expired: self.count(rows, &["cancelled"]).saturating_sub(self.cancelled),
            refunded,
        }
    }
}

/// Has the buyers of these orders act, in the order in which they came; how many of them cancelled.
async fn act(shop: &Arc<Shop>, plan: &Plan, orders: &Arc<Vec<Order>>) -> Result<u64> {
    let (next, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let mut hands = JoinSet::new();
    for _ in 0..HANDS {
        let (shop, plan, orders) = (Arc::clone(shop), plan.clone(), Arc::clone(orders));
        let (next, cancelled) = (Arc::clone(&next), Arc::clone(&cancelled));
        hands.spawn(async move {
            while let Some(order) = orders.get(next.fetch_add(1, Relaxed)) {
                let user = plan.user(order.buyer);
                match Act::of(order.buyer) {
                    Act::Nothing => {}
                    Act::Cancel => {
                        let done = shop.cancel(user, order).await?;
                        cancelled.fetch_add(done.into(), Relaxed);
                    }
                    Act::Pay => {
                        shop.pay(user, order).await?;
                    }
                    Act::PayAndRefund => {
                        if shop.pay(user, order).await? {
                            shop.refund(user, order).await?;
                        }
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = hands.join_next().await {
        ended.context("a buyer panicked")??;
    }
    Ok(cancelled.load(Relaxed))
}

/// What buyers and the operator of the demo ask of the gateway.
struct Shop {
    http: Client,
    server: Url,
    sale: SaleId,
    jwt_secret: SecretString,
    admin: SecretString,
}

impl Shop {
    fn new(system: &System, sale: SaleId) -> Result<Self> {
        let http =
            Client::builder().timeout(TIMEOUT).no_proxy().build().context("cannot make an HTTP client")?;
        let System { server, jwt_secret, admin_token, .. } = system;
        let (server, jwt_secret, admin) = (server.clone(), jwt_secret.clone(), admin_token.clone());
        Ok(Self { http, server, sale, jwt_secret, admin })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Result<Response> {
        let mut request = self.http.request(method, self.server.join(path)?).bearer_auth(token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.with_context(|| format!("no answer to {path}"))
    }

    /// A buyer's step with an order, once the order is in the ledger; false: that is not possible any more.
    async fn step(&self, user: u64, order: &Order, step: &str, body: Option<Value>) -> Result<bool> {
        let token = secrets::sign(&self.jwt_secret, UserId(user), TOKEN_TTL)?;
        let (path, key) = (format!("/api/v1/orders/{}/{step}", order.order_id), order.order_id.to_string());
        let began = Instant::now();
        loop {
            let answer = self.send(Method::POST, &path, &token, Some(&key), body.clone()).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(true);
            }
            if status == StatusCode::CONFLICT && !self.is_queued(&token, order).await? {
                return Ok(false);
            }
            if began.elapsed() > STALLED {
                bail!("{path} is answered with {status}: {}", answer.text().await.unwrap_or_default());
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Whether the order is on its way to the ledger.
    async fn is_queued(&self, token: &str, order: &Order) -> Result<bool> {
        let path = format!("/api/v1/orders/{}", order.order_id);
        let order: Value = self.send(Method::GET, &path, token, None, None).await?.json().await?;
        Ok(order["status"] == "queued")
    }

    /// Gives the buyer what the order costs, and pays with it.
    async fn pay(&self, user: u64, order: &Order) -> Result<bool> {
        let path = format!("/api/v1/users/{user}/balance");
        let gift = Some(json!({"cents": PRICE_CENTS}));
        let given = self.send(Method::POST, &path, self.admin.expose_secret(), None, gift).await?;
        given.error_for_status().context("a buyer could not be given a balance")?;
        self.step(user, order, "payment", Some(json!({"balance_cents": PRICE_CENTS}))).await
    }

    async fn cancel(&self, user: u64, order: &Order) -> Result<bool> {
        self.step(user, order, "cancel", None).await
    }

    async fn refund(&self, user: u64, order: &Order) -> Result<bool> {
        self.step(user, order, "refund", None).await
    }

    async fn read(&self, path: &str) -> Result<Response> {
        let answer = self.send(Method::GET, path, self.admin.expose_secret(), None, None).await?;
        answer.error_for_status().with_context(|| format!("{path} cannot be read"))
    }

    async fn audit(&self) -> Result<AuditReport> {
        Ok(self.read(&format!("/api/v1/sales/{}/audit", self.sale)).await?.json().await?)
    }

    /// The state of every order in the ledger, by its id.
    async fn rows(&self) -> Result<BTreeMap<String, String>> {
        let list = self.read(&format!("/api/v1/sales/{}/audit/orders", self.sale)).await?.text().await?;
        let row = |line: &str| {
            let mut fields = line.split(',');
            Some((fields.next()?.to_owned(), fields.nth(2)?.to_owned()))
        };
        Ok(list.lines().skip(1).filter_map(row).collect())
    }

    /// Waits until every order has come to its end, and every unit that came back is on sale again.
    async fn settled(&self, began: Instant) -> Result<()> {
        let (mut moved, mut before) = (Instant::now(), BTreeMap::new());
        loop {
            let audit = self.audit().await?;
            let mut states = BTreeMap::<String, u64>::new();
            self.rows().await?.into_values().for_each(|status| *states.entry(status).or_default() += 1);
            let open = ["committed", "refunding"].iter().any(|status| states.contains_key(*status));
            if !open && audit.verdict != Verdict::InFlight {
                return Ok(());
            }
            let shown: Vec<_> = states.iter().map(|(status, orders)| format!("{status} {orders}")).collect();
            eprintln!("{:>5.1} s  {}", began.elapsed().as_secs_f64(), shown.join("   "));
            if states != before {
                (moved, before) = (Instant::now(), states);
            } else if moved.elapsed() > STALLED {
                bail!("nothing has changed for {}: {:?}", humantime::format_duration(STALLED), audit.verdict);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

impl Outcome {
    /// Whether every invariant held.
    pub(super) fn holds(&self) -> bool {
        let clean = self.audit.conserved && self.audit.verdict == Verdict::Clean;
        let counts = [self.audit.oversold, self.lost, self.audit.duplicates];
        clean && counts == [0; 3] && self.money.findings().is_empty()
    }

    /// To stdout: one JSON object, or the funnel and the verdict.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let heads = ["accepted", "committed", "paid", "cancelled", "expired", "refunded"];
        let cells = |of: [String; 6]| of.map(|cell| format!("{cell:>10}")).concat();
        println!("{:<12}{}", style("orders").bold(), cells(heads.map(str::to_owned)));
        for (name, funnel) in [("at first", &self.first), ("once more", &self.again)] {
            let Funnel { accepted, committed, paid, cancelled, expired, refunded } = funnel;
            let numbers = [accepted, committed, paid, cancelled, expired, refunded];
            println!("{name:<12}{}", cells(numbers.map(u64::to_string)));
        }
        println!();
        println!(
            "{} of {} units came back, and {} of them were sold once more; {} are left after {:.1} s",
            self.returned_units, self.stock, self.again.accepted, self.left, self.seconds
        );
        let Money { charged_cents, refunded_cents, paid_cents, entries_sum, .. } = self.money;
        println!(
            "charged {} − refunded {} = paid orders {}   entries sum {entries_sum}   {}",
            amount(charged_cents),
            amount(refunded_cents),
            amount(paid_cents),
            mark(self.money.findings().is_empty())
        );
        println!(
            "oversold {}   lost {}   duplicates {}   conserved {}",
            self.audit.oversold,
            self.lost,
            self.audit.duplicates,
            if self.audit.conserved { "yes" } else { "no" }
        );
        for finding in &self.audit.findings {
            println!("  {finding}");
        }
        let words = if self.holds() { "every invariant held" } else { "an invariant is violated" };
        println!("{} {words}", mark(self.holds()));
        Ok(())
    }
}

fn mark(holds: bool) -> String {
    if holds { style("✔").green().to_string() } else { style("✘").red().to_string() }
}

fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ten_buyers_six_pay_one_cancels_and_three_do_nothing() {
        let count = |act| (0..10).filter(|buyer| Act::of(*buyer) == act).count();
        assert_eq!([Act::Pay, Act::PayAndRefund, Act::Cancel, Act::Nothing].map(count), [5, 1, 1, 3]);
    }

    #[test]
    fn amounts_have_two_digits_after_the_point() {
        assert_eq!([0, 5, 999, 100_000].map(amount), ["0.00", "0.05", "9.99", "1000.00"]);
    }
}
