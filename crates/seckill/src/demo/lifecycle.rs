//! `seckill demo --lifecycle`: buyers who pay, cancel, want their money back, or let the time run out; and the units that come back,
//! sold once more. Everything goes over HTTP, as a shop's own buyers would send it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
use tokio::sync::Semaphore;
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
/// How long a buyer waits before asking again after a refusal that may pass.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often the orders in the ledger are read.
const LOOK_EVERY: Duration = Duration::from_millis(250);
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
    fn of(buyer: u64) -> Self {
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
    let (mut known, mut returned_units) = (BTreeSet::new(), 0);
    // The second time nobody asks twice: whoever still has an order would be answered with it anyway.
    let plans = [plan.clone(), Plan { retry_ratio: 0.0, ..plan.clone() }];
    for (at, plan) in plans.into_iter().enumerate() {
        let who = if at == 0 { "buyers arrive" } else { "buyers come back for what was not paid" };
        eprintln!("{:>5.1} s  {} {who}", began.elapsed().as_secs_f64(), plan.buyers());
        let job = Job::new(plan.clone(), sale.0, tokens.clone());
        let (progress, arrived) = (Progress::shared(), CancellationToken::new());
        let arriving = async {
            let _arrived = arrived.clone().drop_guard();
            loadtest::run(&mut clients, &job, &progress, &stop).await
        };
        let (run, cancelled) = tokio::join!(arriving, follow(&shop, &plan, &mut known, &arrived, began));
        let (run, cancelled) = (run?, cancelled?);
        let seen: BTreeSet<_> =
            waves.iter().flat_map(|wave| &wave.orders).map(|order| order.order_id).collect();
        let promised = run.orders().into_iter().filter(|o| o.promised && !seen.contains(&o.order_id));
        if at == 0 {
            returned_units = shop.audit().await?.remaining.unwrap_or_default().into();
        }
        waves.push(Wave { orders: promised.collect(), cancelled });
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
fn rejected(waves: &[Wave], rows: &BTreeMap<String, Row>) -> u64 {
    waves.iter().map(|wave| wave.count(rows, &["rejected"])).sum()
}

/// All buyers who came at one time.
struct Wave {
    orders: Vec<Order>,
    /// Orders that their buyers have cancelled.
    cancelled: u64,
}

impl Wave {
    /// Its orders whose row has one of these states; without states, all that have a row.
    fn count(&self, rows: &BTreeMap<String, Row>, states: &[&str]) -> u64 {
        let has = |order: &&Order| {
            rows.get(&order.order_id.to_string())
                .is_some_and(|row| states.is_empty() || states.contains(&row.status.as_str()))
        };
        self.orders.iter().filter(has).count() as u64
    }

    fn funnel(&self, rows: &BTreeMap<String, Row>) -> Funnel {
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

/// An order in the ledger.
struct Row {
    user: u64,
    status: String,
}

/// Has buyers act on each order that comes into the ledger and is not `known` yet, until all have `arrived`, every order has come to
/// its end, and every unit that came back is on sale again; how many orders their buyers cancelled.
async fn follow(
    shop: &Arc<Shop>,
    plan: &Plan,
    known: &mut BTreeSet<String>,
    arrived: &CancellationToken,
    began: Instant,
) -> Result<u64> {
    let (cancelled, free) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(HANDS)));
    let (mut hands, mut said, mut moved, mut before) =
        (JoinSet::new(), 0, Instant::now(), BTreeMap::<String, u64>::new());
    loop {
        let all_are_here = arrived.is_cancelled();
        let mut states = BTreeMap::<String, u64>::new();
        for (id, Row { user, status }) in shop.rows().await? {
            if status == "committed" && known.insert(id.clone()) {
                let (shop, cancelled, free) = (Arc::clone(shop), Arc::clone(&cancelled), Arc::clone(&free));
                let act = Act::of(user.saturating_sub(plan.first_user));
                hands.spawn(async move {
                    let _free = free.acquire().await?;
                    let done = shop.act(act, user, &id).await?;
                    cancelled.fetch_add((done && act == Act::Cancel).into(), Relaxed);
                    anyhow::Ok(())
                });
            }
            *states.entry(status).or_default() += 1;
        }
        while let Some(ended) = hands.try_join_next() {
            ended.context("a buyer panicked")??;
        }
        let open = ["committed", "refunding"].iter().any(|status| states.contains_key(*status));
        if all_are_here && !open && hands.is_empty() && shop.audit().await?.verdict != Verdict::InFlight {
            return Ok(cancelled.load(Relaxed));
        }
        if states != before {
            (moved, before) = (Instant::now(), states.clone());
        } else if moved.elapsed() > STALLED {
            bail!("nothing has changed for {}: {states:?}", humantime::format_duration(STALLED));
        }
        if began.elapsed().as_secs() > said {
            said = began.elapsed().as_secs();
            let shown: Vec<_> = states.iter().map(|(status, orders)| format!("{status} {orders}")).collect();
            eprintln!("{:>5.1} s  {}", began.elapsed().as_secs_f64(), shown.join("   "));
        }
        sleep(LOOK_EVERY).await;
    }
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

    /// A buyer acts on an order; false: that was not possible any more.
    async fn act(&self, act: Act, user: u64, order: &str) -> Result<bool> {
        match act {
            Act::Nothing => Ok(true),
            Act::Cancel => self.step(user, order, "cancel", None).await,
            Act::Pay => self.pay(user, order).await,
            Act::PayAndRefund => {
                Ok(self.pay(user, order).await? && self.step(user, order, "refund", None).await?)
            }
        }
    }

    /// A buyer's step with an order; false: that is not possible any more.
    async fn step(&self, user: u64, order: &str, step: &str, body: Option<Value>) -> Result<bool> {
        let token = secrets::sign(&self.jwt_secret, UserId(user), TOKEN_TTL)?;
        let path = format!("/api/v1/orders/{order}/{step}");
        let began = Instant::now();
        loop {
            let answer = self.send(Method::POST, &path, &token, Some(order), body.clone()).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(true);
            }
            if status == StatusCode::CONFLICT {
                return Ok(false);
            }
            if began.elapsed() > STALLED {
                bail!("{path} is answered with {status}: {}", answer.text().await.unwrap_or_default());
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Gives the buyer what the order costs, and pays with it.
    async fn pay(&self, user: u64, order: &str) -> Result<bool> {
        let path = format!("/api/v1/users/{user}/balance");
        let gift = Some(json!({"cents": PRICE_CENTS}));
        let given = self.send(Method::POST, &path, self.admin.expose_secret(), None, gift).await?;
        given.error_for_status().context("a buyer could not be given a balance")?;
        self.step(user, order, "payment", Some(json!({"balance_cents": PRICE_CENTS}))).await
    }

    async fn read(&self, path: &str) -> Result<Response> {
        let answer = self.send(Method::GET, path, self.admin.expose_secret(), None, None).await?;
        answer.error_for_status().with_context(|| format!("{path} cannot be read"))
    }

    async fn audit(&self) -> Result<AuditReport> {
        Ok(self.read(&format!("/api/v1/sales/{}/audit", self.sale)).await?.json().await?)
    }

    /// Every order in the ledger, by its id.
    async fn rows(&self) -> Result<BTreeMap<String, Row>> {
        let list = self.read(&format!("/api/v1/sales/{}/audit/orders", self.sale)).await?.text().await?;
        let row = |line: &str| {
            let mut fields = line.split(',');
            let (id, user) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
            Some((id, Row { user, status: fields.nth(1)?.to_owned() }))
        };
        Ok(list.lines().skip(1).filter_map(row).collect())
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
            "{} of {} units were on sale again, and {} more orders were accepted; {} units are left after {:.1} s",
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
