//! `seckill demo --lifecycle`: buyers who pay, cancel, want their money back, or let the time run out; and the units that come back,
//! sold once more. Everything goes over HTTP, as a shop's own buyers would send it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use console::style;
use futures_util::TryStreamExt;
use loadtest::{CancellationToken, Job, Order, Plan, Progress, Session};
use seckill_client::{Admin, Client, PaymentBody, RecordedOrder};
use seckill_core::money::Money;
use seckill_core::{AuditReport, OrderId, OrderStatus, SaleId, UserId, Verdict};
use secrecy::SecretString;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{STALLED, System, TOKEN_TTL, session};
use crate::cli::demo::DemoArgs;
use crate::{secrets, terminal};

/// Hundredths of the sale's currency.
pub(super) const PRICE_CENTS: u64 = 999;
/// Buyers who act at the same time.
const HANDS: usize = 32;
/// How long a buyer waits before asking again after a refusal that may pass.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How often the orders in the ledger are read.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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
fn rejected(waves: &[Wave], rows: &BTreeMap<OrderId, RecordedOrder>) -> u64 {
    waves.iter().map(|wave| wave.count(rows, &[OrderStatus::Rejected])).sum()
}

/// All buyers who came at one time.
struct Wave {
    orders: Vec<Order>,
    /// Orders that their buyers have cancelled.
    cancelled: u64,
}

impl Wave {
    /// Its orders whose row has one of these states; without states, all that have a row.
    fn count(&self, rows: &BTreeMap<OrderId, RecordedOrder>, states: &[OrderStatus]) -> u64 {
        let has = |order: &&Order| {
            rows.get(&OrderId(order.order_id))
                .is_some_and(|row| states.is_empty() || states.contains(&row.status))
        };
        self.orders.iter().filter(has).count() as u64
    }

    fn funnel(&self, rows: &BTreeMap<OrderId, RecordedOrder>) -> Funnel {
        let refunded = self.count(rows, &[OrderStatus::Refunded]);
        Funnel {
            accepted: self.orders.len() as u64,
            committed: self.count(rows, &[]) - self.count(rows, &[OrderStatus::Rejected]),
            paid: self.count(rows, &[OrderStatus::Paid]) + refunded,
            cancelled: self.cancelled,
            expired: self.count(rows, &[OrderStatus::Cancelled]).saturating_sub(self.cancelled),
            refunded,
        }
    }
}

/// Has buyers act on each order that comes into the ledger and is not `known` yet, until all have `arrived`, every order has come to
/// its end, and every unit that came back is on sale again; how many orders their buyers cancelled.
async fn follow(
    shop: &Arc<Shop>,
    plan: &Plan,
    known: &mut BTreeSet<OrderId>,
    arrived: &CancellationToken,
    began: Instant,
) -> Result<u64> {
    let (cancelled, free) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(HANDS)));
    let (mut hands, mut said, mut moved, mut before) =
        (JoinSet::new(), 0, Instant::now(), BTreeMap::<&str, u64>::new());
    loop {
        let all_are_here = arrived.is_cancelled();
        let mut states = BTreeMap::<&str, u64>::new();
        for (id, RecordedOrder { user_id: user, status, .. }) in shop.rows().await? {
            if status == OrderStatus::Committed && known.insert(id) {
                let (shop, cancelled, free) = (Arc::clone(shop), Arc::clone(&cancelled), Arc::clone(&free));
                let act = Act::of(user.0.saturating_sub(plan.first_user));
                hands.spawn(async move {
                    let _free = free.acquire().await?;
                    let done = shop.act(act, user, id).await?;
                    cancelled.fetch_add((done && act == Act::Cancel).into(), Relaxed);
                    anyhow::Ok(())
                });
            }
            *states.entry(status.as_str()).or_default() += 1;
        }
        while let Some(ended) = hands.try_join_next() {
            ended.context("a buyer panicked")??;
        }
        let open = ["committed", "refunding"].iter().any(|status| states.contains_key(status));
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
    client: Client,
    admin: Admin,
    sale: SaleId,
    jwt_secret: SecretString,
}

/// What a buyer does with an order in one request.
enum Step {
    Pay,
    Cancel,
    Refund,
}

impl Shop {
    fn new(system: &System, sale: SaleId) -> Result<Self> {
        let client = Client::new(system.server.clone())?;
        let admin = client.admin(system.admin_token.clone());
        Ok(Self { client, admin, sale, jwt_secret: system.jwt_secret.clone() })
    }

    /// A buyer acts on an order; false: that was not possible any more.
    async fn act(&self, act: Act, user: UserId, order: OrderId) -> Result<bool> {
        match act {
            Act::Nothing => Ok(true),
            Act::Cancel => self.step(user, order, Step::Cancel).await,
            Act::Pay => self.pay(user, order).await,
            Act::PayAndRefund => {
                Ok(self.pay(user, order).await? && self.step(user, order, Step::Refund).await?)
            }
        }
    }

    /// A buyer's step with an order; false: that is not possible any more.
    async fn step(&self, user: UserId, order: OrderId, step: Step) -> Result<bool> {
        let buyer = self.client.buyer(secrets::sign(&self.jwt_secret, user, TOKEN_TTL)?.into());
        let began = Instant::now();
        loop {
            let done = match step {
                Step::Pay => {
                    let payment = PaymentBody { balance_cents: PRICE_CENTS, ..PaymentBody::default() };
                    buyer.pay(order, &payment, &order.to_string()).await.map(drop)
                }
                Step::Cancel => buyer.cancel(order).await.map(drop),
                Step::Refund => buyer.refund(order, "").await.map(drop),
            };
            match done {
                Ok(()) => return Ok(true),
                Err(error) if error.status() == Some(409) => return Ok(false),
                Err(error) if error.problem().is_none() || began.elapsed() > STALLED => {
                    return Err(error).with_context(|| format!("a buyer cannot go on with order {order}"));
                }
                Err(_) => sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Gives the buyer what the order costs, and pays with it.
    async fn pay(&self, user: UserId, order: OrderId) -> Result<bool> {
        let given = self.admin.give_balance(user, PRICE_CENTS).await;
        given.context("a buyer could not be given a balance")?;
        self.step(user, order, Step::Pay).await
    }

    async fn audit(&self) -> Result<AuditReport> {
        Ok(self.client.audit(self.sale).await.context("the sale cannot be audited")?.report)
    }

    /// Every order in the ledger, by its id.
    async fn rows(&self) -> Result<BTreeMap<OrderId, RecordedOrder>> {
        let rows = self.admin.recorded_orders(self.sale).await.context("the orders cannot be listed")?;
        let rows = rows.map_ok(|row| (row.order_id, row)).try_collect().await;
        rows.context("the list of the orders cannot be read")
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
        say(&format!(
            "{} of {} units were on sale again, and {} more orders were accepted; {} units are left after {:.1} s",
            self.returned_units, self.stock, self.again.accepted, self.left, self.seconds
        ));
        let Money { charged_cents, refunded_cents, paid_cents, entries_sum, .. } = self.money;
        say(&format!(
            "charged {} − refunded {} = paid orders {}   entries sum {entries_sum}   {}",
            amount(charged_cents),
            amount(refunded_cents),
            amount(paid_cents),
            mark(self.money.findings().is_empty())
        ));
        say(&format!(
            "oversold {}   lost {}   duplicates {}   conserved {}",
            self.audit.oversold,
            self.lost,
            self.audit.duplicates,
            if self.audit.conserved { "yes" } else { "no" }
        ));
        for finding in &self.audit.findings {
            println!("  {finding}");
        }
        let words = if self.holds() { "every invariant held" } else { "an invariant is violated" };
        println!("{} {words}", mark(self.holds()));
        Ok(())
    }
}

/// A sentence on stdout, no wider than the terminal.
fn say(sentence: &str) {
    println!("{}", terminal::fill(sentence, terminal::stdout()));
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
