//! The scenario `bots`: honest buyers who send one order each and come back when they are told to, and bots of few users that send as
//! fast as they can. What is judged: the honest are served, the bots are refused, and no bot gets more than its one order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::check::shop::Shop;
use crate::error::Error;
use crate::plan::tokens::Tokens;
use crate::send::caller::{Caller, parsed};
use crate::send::client::{Client, Clients};

/// The least share of honest buyers that must be served.
const SERVED: f64 = 0.99;
/// The least share of the bots' requests that must be refused.
const REFUSED: f64 = 0.9;
/// Connections of one bot.
const CONNECTIONS: u32 = 4;
/// Honest buyers give up after so many tries.
const TRIES: u32 = 10;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub struct BotsPlan {
    /// Honest buyers, who arrive evenly; each has a unit.
    pub honest: u32,
    /// Bots, each of them one user.
    pub bots: u32,
    /// Requests a second of each bot.
    pub bot_rate: u32,
    /// How long buyers arrive and bots send.
    pub lasts: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BotsReport {
    pub sale: u64,
    pub honest: u32,
    /// Honest buyers who got an order.
    pub served: u32,
    /// The time from an honest buyer's first request to the order, in milliseconds, that 99 of 100 kept.
    pub served_p99_ms: u64,
    pub bots: u32,
    /// Requests of the bots, and their answers by HTTP status; 0 stands for those without an answer.
    pub bot_requests: u64,
    pub bot_answers: BTreeMap<u16, u64>,
    /// Orders of the bots; one for each bot at the most is right.
    pub bot_orders: u32,
    /// What was not as it should be, in sentences.
    pub findings: Vec<String>,
}

impl BotsReport {
    /// Whether everything that was promised was kept.
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    /// The share of the bots' requests that were refused as too many.
    pub fn refused(&self) -> f64 {
        let refused = self.bot_answers.get(&429).copied().unwrap_or_default();
        refused as f64 / self.bot_requests.max(1) as f64
    }
}

/// Makes a sale and plays it. The first tokens are those of the bots.
///
/// # Errors
/// [`Error::Shop`] when the server does not make the sale.
pub async fn play(
    clients: &Clients,
    admin: &HeaderValue,
    tokens: &Tokens,
    plan: BotsPlan,
) -> Result<BotsReport, Error> {
    let stock = u64::from(plan.honest) + u64::from(plan.bots);
    let sale = Shop::new(clients).create(admin, stock, 1, plan.lasts + Duration::from_secs(600)).await?.id;
    let (caller, path) =
        (Caller { target: clients.target().clone() }, format!("/api/v1/sales/{sale}/orders"));
    let begin = Instant::now();
    let mut bots = JoinSet::new();
    for bot in 0..plan.bots {
        for _ in 0..CONNECTIONS {
            let (caller, client, path) = (caller.clone(), clients.another(), path.clone());
            let (token, every) =
                (tokens.header(bot), Duration::from_secs(1) * CONNECTIONS / plan.bot_rate.max(1));
            bots.spawn(send_without_end(caller, client, path, token, every, begin + plan.lasts));
        }
    }
    let mut honest = JoinSet::new();
    for buyer in 0..plan.honest {
        let (caller, client, path) = (caller.clone(), clients.another(), path.clone());
        let (token, at) = (tokens.header(plan.bots + buyer), begin + plan.lasts * buyer / plan.honest.max(1));
        honest.spawn(async move {
            sleep_until(at).await;
            buy_once(caller, client, path, token).await
        });
    }
    let mut waited: Vec<_> = honest.join_all().await.into_iter().flatten().collect();
    waited.sort_unstable();
    let (mut bot_answers, mut orders) = (BTreeMap::new(), BTreeSet::new());
    for (answers, ids) in bots.join_all().await {
        answers
            .into_iter()
            .for_each(|(status, count): (u16, u64)| *bot_answers.entry(status).or_default() += count);
        orders.extend(ids);
    }
    let p99 = waited
        .get((waited.len() * 99 / 100).min(waited.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default();
    let report = BotsReport {
        sale,
        honest: plan.honest,
        served: u32::try_from(waited.len()).unwrap_or(u32::MAX),
        served_p99_ms: u64::try_from(p99.as_millis()).unwrap_or(u64::MAX),
        bots: plan.bots,
        bot_requests: bot_answers.values().sum(),
        bot_answers,
        bot_orders: u32::try_from(orders.len()).unwrap_or(u32::MAX),
        findings: Vec::new(),
    };
    Ok(judge(report))
}

/// Sends the same order again and again, without a look at what comes back; the answers by status, and the orders.
async fn send_without_end(
    caller: Caller,
    mut client: Client,
    path: String,
    token: HeaderValue,
    every: Duration,
    end: Instant,
) -> (BTreeMap<u16, u64>, BTreeSet<String>) {
    let (mut answers, mut orders) = (BTreeMap::new(), BTreeSet::new());
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        ticks.tick().await;
        let answer = caller.post(&mut client, &path, &token, "{}").await;
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        *answers.entry(status).or_default() += 1;
        if let (200 | 202, Ok(answer)) = (status, &answer) {
            orders.extend(parsed(answer)["order_id"].as_str().map(str::to_owned));
        }
    }
    (answers, orders)
}

/// How long it took until there was an order; `None`: there is none.
async fn buy_once(caller: Caller, mut client: Client, path: String, token: HeaderValue) -> Option<Duration> {
    let begin = Instant::now();
    for _ in 0..TRIES {
        match caller.post(&mut client, &path, &token, "{}").await {
            Ok(answer) if matches!(answer.status, 200 | 202) => return Some(begin.elapsed()),
            Ok(answer) if matches!(answer.status, 429 | 503) => {
                sleep(Duration::from_secs(answer.retry_after.unwrap_or(1))).await;
            }
            Ok(_) => return None,
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
    None
}

fn judge(mut report: BotsReport) -> BotsReport {
    let (served, refused) = (f64::from(report.served) / f64::from(report.honest.max(1)), report.refused());
    let mut findings = Vec::new();
    if served < SERVED {
        findings.push(format!(
            "{} of {} honest buyers were served; 99 % was promised",
            report.served, report.honest
        ));
    }
    if report.bots > 0 && refused < REFUSED {
        findings
            .push(format!("{:.1} % of the bots' requests were refused; 90 % was promised", refused * 100.0));
    }
    if report.bot_orders > report.bots {
        findings.push(format!("{} bots got {} orders", report.bots, report.bot_orders));
    }
    report.findings = findings;
    report
}

impl std::fmt::Display for BotsReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "sale {}: {} of {} honest buyers were served", self.sale, self.served, self.honest)?;
        writeln!(f, "99 of 100 of them waited {} ms at the most", self.served_p99_ms)?;
        writeln!(
            f,
            "{} bots sent {} requests, {:.1} % of them were refused, and got {} orders",
            self.bots,
            self.bot_requests,
            self.refused() * 100.0,
            self.bot_orders
        )?;
        for finding in &self.findings {
            writeln!(f, "VIOLATED: {finding}")?;
        }
        write!(f, "verdict: {}", if self.holds() { "pass" } else { "violated" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> BotsReport {
        BotsReport {
            sale: 1,
            honest: 100,
            served: 99,
            served_p99_ms: 10,
            bots: 1,
            bot_requests: 100,
            bot_answers: BTreeMap::from([(202, 1), (200, 9), (429, 90)]),
            bot_orders: 1,
            findings: Vec::new(),
        }
    }

    #[test]
    fn each_promise_is_judged() {
        assert!(judge(report()).holds());
        assert!(!judge(BotsReport { served: 98, ..report() }).holds());
        assert!(!judge(BotsReport { bot_orders: 2, ..report() }).holds());
        assert!(
            !judge(BotsReport { bot_answers: BTreeMap::from([(200, 11), (429, 89)]), ..report() }).holds()
        );
    }
}
