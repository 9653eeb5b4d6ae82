//! The scenario `polling`: buyers who order and then poll as fast as they can, or hold event streams. What is judged: every poll is
//! answered, every order is seen to be recorded, and the database is asked within its limit, by the gateway's own count.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::HeaderValue;
use seckill_client::OrderRequest;
use seckill_core::{OrderId, OrderStatus, SaleId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::check::shop::{self, Shop};
use crate::error::Error;
use crate::plan::tokens::Tokens;
use crate::send::caller::Caller;
use crate::send::client::Clients;
use crate::send::template::Template;

/// How long the last status of an order is waited for.
const DRAIN: Duration = Duration::from_secs(120);
/// How often an order is looked at then.
const LOOK: Duration = Duration::from_millis(250);
/// A stream with nothing to tell is silent for almost a minute.
const STREAM_TIMEOUT: Duration = Duration::from_secs(120);

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct PollingPlan {
    /// Buyers; each has one order and polls it on a connection of its own.
    pub buyers: u32,
    /// Event streams of these orders to hold instead; 0: poll.
    pub streams: usize,
    /// How long to poll, or to hold the streams.
    pub lasts: Duration,
    /// Statements a second that the database may be asked.
    pub limit: u32,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PollingReport {
    pub sale: u64,
    pub buyers: u32,
    pub streams: usize,
    pub seconds: f64,
    /// Answers to polls by HTTP status; 0 stands for those without an answer.
    pub answers: BTreeMap<u16, u64>,
    /// Reads of orders by where the gateway read: `memory`, `gate`, `ledger`. Empty where `/metrics` is not served to buyers.
    pub reads: BTreeMap<String, u64>,
    /// Orders that were seen to be recorded.
    pub recorded: u32,
    /// What was not as it should be, in sentences.
    pub findings: Vec<String>,
}

impl PollingReport {
    /// Whether everything that was promised was kept.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A buyer's order, and the token that it is asked for with.
#[derive(Clone)]
struct Bought {
    order: OrderId,
    token: HeaderValue,
}

impl Bought {
    fn path(&self) -> String {
        format!("/api/v1/orders/{}", self.order)
    }
}

/// Makes a sale and plays it.
///
/// # Errors
/// [`Error::Shop`] when the server does not make the sale or does not take the orders; [`Error::Connect`].
pub async fn play(
    clients: &Clients,
    admin: &HeaderValue,
    tokens: &Tokens,
    plan: PollingPlan,
) -> Result<PollingReport, Error> {
    let caller = Caller { target: clients.target().clone() };
    let lasts = plan.lasts + Duration::from_secs(3_600);
    let sale = Shop::new(clients).create(admin, plan.buyers.into(), 1, lasts).await?.id;
    let typed = clients.typed();
    let bought = buy(&typed, tokens, sale, plan.buyers).await?;
    let before = reads(&typed).await;
    let begin = Instant::now();
    let answers = if plan.streams > 0 {
        hold_streams(&caller, &bought, plan).await?;
        BTreeMap::new()
    } else {
        poll(&caller, clients, &bought, begin + plan.lasts).await
    };
    let seconds = begin.elapsed().as_secs_f64();
    let after = reads(&typed).await;
    let since = |(source, count): (String, u64)| {
        let before = before.get(&source).copied().unwrap_or_default();
        (source, count.saturating_sub(before))
    };
    let report = PollingReport {
        sale,
        buyers: plan.buyers,
        streams: plan.streams,
        seconds,
        answers,
        reads: after.into_iter().map(since).collect(),
        recorded: recorded(&typed, &bought).await,
        findings: Vec::new(),
    };
    Ok(judge(report, plan.limit))
}

fn refused(reason: String) -> Error {
    Error::Shop { doing: "play the crowd that polls", reason }
}

async fn buy(
    client: &seckill_client::Client,
    tokens: &Tokens,
    sale: u64,
    buyers: u32,
) -> Result<Vec<Bought>, Error> {
    let mut bought = Vec::new();
    for buyer in 0..buyers {
        let token = tokens.header(buyer);
        let placed =
            client.buyer(shop::token(&token)).order(SaleId(sale), &OrderRequest::default(), None).await;
        let order = placed.map_err(|error| refused(error.to_string()))?.value.order_id;
        bought.push(Bought { order, token });
    }
    Ok(bought)
}

/// The reads of orders so far, by source.
async fn reads(client: &seckill_client::Client) -> BTreeMap<String, u64> {
    let Ok(series) = client.metrics().await else { return BTreeMap::new() };
    let read = |line: &str| {
        let (source, count) = line.strip_prefix("seckill_order_reads_total{source=\"")?.split_once("\"} ")?;
        Some((source.to_owned(), count.parse().ok()?))
    };
    series.lines().filter_map(read).collect()
}

/// Every buyer polls without a pause until `end`.
async fn poll(caller: &Caller, clients: &Clients, bought: &[Bought], end: Instant) -> BTreeMap<u16, u64> {
    let mut pollers = JoinSet::new();
    for one in bought {
        let (caller, mut client) = (caller.clone(), clients.another());
        let (path, token) = (one.path(), one.token.clone());
        pollers.spawn(async move {
            let mut answers = BTreeMap::new();
            while Instant::now() < end {
                let answer = caller.get(&mut client, &path, &token).await;
                *answers.entry(answer.map_or(0, |answer| answer.status)).or_default() += 1;
            }
            answers
        });
    }
    let mut all = BTreeMap::new();
    for answers in pollers.join_all().await {
        answers.into_iter().for_each(|(status, count): (u16, u64)| *all.entry(status).or_default() += count);
    }
    all
}

/// Holds event streams of the orders until the time is over.
async fn hold_streams(caller: &Caller, bought: &[Bought], plan: PollingPlan) -> Result<(), Error> {
    let clients = Clients::connect_with(caller.target.clone(), plan.streams, STREAM_TIMEOUT).await?;
    let mut holders = JoinSet::new();
    for (mut client, one) in clients.into_clients().into_iter().zip(bought.iter().cycle()) {
        let uri = caller.uri(&format!("{}/events", one.path()));
        let events = Template::get(&caller.target).request(uri, one.token.clone());
        holders.spawn(async move { client.stream(events, |_| ()).await });
    }
    sleep(plan.lasts).await;
    Ok(())
}

/// How many orders are seen to have been recorded.
async fn recorded(client: &seckill_client::Client, bought: &[Bought]) -> u32 {
    let end = Instant::now() + DRAIN;
    let mut recorded = 0;
    for Bought { order, token } in bought {
        let buyer = client.buyer(shop::token(token));
        while Instant::now() < end {
            let answer = buyer.order_status(*order).await;
            if answer.is_ok_and(|order| order.status != OrderStatus::Queued) {
                recorded += 1;
                break;
            }
            sleep(LOOK).await;
        }
    }
    recorded
}

fn judge(mut report: PollingReport, limit: u32) -> PollingReport {
    let mut findings = Vec::new();
    let others: u64 =
        report.answers.iter().filter(|(status, _)| **status != 200).map(|(_, count)| count).sum();
    if others > 0 {
        findings.push(format!("{others} polls were not answered with 200: {:?}", report.answers));
    }
    let ledger = report.reads.get("ledger").copied().unwrap_or_default();
    // One second's worth may stand before the first and after the last.
    if ledger as f64 > f64::from(limit) * (report.seconds + 1.0) {
        findings.push(format!("the database was asked {ledger} times in {:.1} s", report.seconds));
    }
    if report.recorded < report.buyers {
        findings.push(format!("{} of {} orders were seen to be recorded", report.recorded, report.buyers));
    }
    report.findings = findings;
    report
}

impl std::fmt::Display for PollingReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.streams > 0 {
            writeln!(f, "sale {}: {} event streams for {:.1} s", self.sale, self.streams, self.seconds)?;
        } else {
            let polls: u64 = self.answers.values().sum();
            let rate = polls as f64 / self.seconds;
            writeln!(
                f,
                "sale {}: {} buyers, {rate:.0} polls/s for {:.1} s",
                self.sale, self.buyers, self.seconds
            )?;
        }
        for (source, reads) in &self.reads {
            writeln!(f, "{source:>7}: {reads} reads, {:.1}/s", *reads as f64 / self.seconds)?;
        }
        writeln!(f, "{} of {} orders were seen to be recorded", self.recorded, self.buyers)?;
        for finding in &self.findings {
            writeln!(f, "VIOLATED: {finding}")?;
        }
        write!(f, "verdict: {}", if self.holds() { "pass" } else { "violated" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_promise_is_judged() {
        let report = PollingReport {
            sale: 1,
            buyers: 2,
            streams: 0,
            seconds: 9.0,
            answers: BTreeMap::from([(200, 10)]),
            reads: BTreeMap::from([("ledger".to_owned(), 5_000)]),
            recorded: 2,
            findings: Vec::new(),
        };
        assert!(judge(report.clone(), 500).holds());
        assert!(!judge(report.clone(), 499).holds());
        assert!(!judge(PollingReport { recorded: 1, ..report.clone() }, 500).holds());
        assert!(
            !judge(PollingReport { answers: BTreeMap::from([(200, 9), (503, 1)]), ..report }, 500).holds()
        );
    }
}
