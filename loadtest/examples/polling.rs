//! Buyers who order and then poll as fast as they can, or hold an event stream: what that costs the gateway's gate and ledger.
//! Start the gateway with `--read-rate-limit 0`, and the worker with a drain rate that leaves something to wait for.
//!
//! `cargo run --release -p loadtest --example polling -- --jwt-secret S --admin-token T`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use clap::Parser;
use http_body_util::Full;
use hyper::{Method, Request};
use loadtest::check::shop::{Shop, bearer};
use loadtest::send::client::Client;
use loadtest::{Clients, Target};
use seckill_token::Signer;
use serde_json::Value;
use tokio::task::JoinSet;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// How long the last status of an order is waited for.
const DRAIN: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Options {
    /// The gateway's base address
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    target: String,
    #[arg(long, env = "SECKILL_JWT_SECRET", hide_env_values = true)]
    jwt_secret: String,
    #[arg(long, env = "SECKILL_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: String,
    /// Buyers; each has one order and polls it on a connection of its own
    #[arg(long, default_value_t = 64)]
    buyers: u64,
    /// Hold so many event streams of these orders instead of polling
    #[arg(long, default_value_t = 0)]
    streams: usize,
    /// How long to poll, or to hold the streams
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Statements a second that the ledger may be asked
    #[arg(long, default_value_t = 500)]
    limit: u64,
}

/// A buyer's order, and the token that it is asked for with.
#[derive(Clone)]
struct Bought {
    order: String,
    token: String,
}

struct Shopper<'a> {
    options: &'a Options,
    target: Target,
}

fn request(target: &Target, method: Method, path: &str, token: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", target.authority());
    request.header("authorization", format!("Bearer {token}")).body(Full::default()).expect("a plain request")
}

impl Shopper<'_> {
    async fn clients(&self, count: usize) -> Result<Vec<Client>, Trouble> {
        Ok(Clients::connect(self.target.clone(), count).await?.into_clients())
    }

    /// Makes a sale, and one order for each buyer.
    async fn buy(&self) -> Result<Vec<Bought>, Trouble> {
        let admin = bearer(&self.options.admin_token)?;
        let clients = Clients::connect(self.target.clone(), 1).await?;
        let hour = Duration::from_secs(3_600);
        let sale = Shop::new(&clients).create(&admin, self.options.buyers, 1, hour).await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let signer = Signer::hs256(&self.options.jwt_secret);
        let mut bought = Vec::new();
        let mut client = clients.into_clients().remove(0);
        for user in 1..=self.options.buyers {
            let token = signer.sign(user, now + 3_600);
            let path = format!("/api/v1/sales/{}/orders", sale.id);
            let answer = client.send(request(&self.target, Method::POST, &path, &token)).await;
            let answer = answer.map_err(|failure| failure.to_string())?;
            let body: Value = serde_json::from_slice(&answer.body)?;
            let order = body["order_id"].as_str().ok_or_else(|| format!("no order: {body}"))?.to_owned();
            bought.push(Bought { order, token });
        }
        Ok(bought)
    }

    /// The reads of orders so far, by source.
    async fn reads(&self) -> Result<BTreeMap<String, u64>, Trouble> {
        let mut text = Vec::new();
        let mut client = self.clients(1).await?.remove(0);
        let metrics = request(&self.target, Method::GET, "/metrics", "");
        client
            .stream(metrics, |piece| text.extend_from_slice(piece))
            .await
            .map_err(|failure| failure.to_string())?;
        let text = String::from_utf8(text)?;
        let series = text.lines().filter_map(|line| {
            let (source, count) =
                line.strip_prefix("seckill_order_reads_total{source=\"")?.split_once("\"} ")?;
            Some((source.to_owned(), count.parse().ok()?))
        });
        Ok(series.collect())
    }

    /// Every buyer polls without a pause; how many answers came with each HTTP status.
    async fn poll(&self, bought: &[Bought]) -> Result<BTreeMap<u16, u64>, Trouble> {
        let end = Instant::now() + Duration::from_secs(self.options.seconds);
        let mut pollers = JoinSet::new();
        for (mut client, Bought { order, token }) in
            self.clients(bought.len()).await?.into_iter().zip(bought.iter().cloned())
        {
            let target = self.target.clone();
            pollers.spawn(async move {
                let path = format!("/api/v1/orders/{order}");
                let mut answers = BTreeMap::new();
                while Instant::now() < end {
                    let answer = client.send(request(&target, Method::GET, &path, &token)).await;
                    *answers.entry(answer.map_or(0, |answer| answer.status)).or_default() += 1;
                }
                answers
            });
        }
        let mut all = BTreeMap::new();
        for answers in pollers.join_all().await {
            answers
                .into_iter()
                .for_each(|(status, count): (u16, u64)| *all.entry(status).or_default() += count);
        }
        Ok(all)
    }

    /// Holds event streams of the orders until the time is over; what they cost is in the metrics, and in the gateway's use of the
    /// processor.
    async fn hold_streams(&self, bought: &[Bought]) -> Result<(), Trouble> {
        let mut holders = JoinSet::new();
        // A stream with nothing to tell is silent for almost a minute.
        let patience = Duration::from_secs(120);
        let clients = Clients::connect_with(self.target.clone(), self.options.streams, patience).await?;
        for (mut client, Bought { order, token }) in
            clients.into_clients().into_iter().zip(bought.iter().cycle().cloned())
        {
            let events =
                request(&self.target, Method::GET, &format!("/api/v1/orders/{order}/events"), &token);
            holders.spawn(async move {
                client.stream(events, |_| ()).await.map_err(|failure| failure.to_string())
            });
        }
        tokio::time::sleep(Duration::from_secs(self.options.seconds)).await;
        Ok(())
    }

    /// How many orders are seen to have been recorded.
    async fn recorded(&self, bought: &[Bought]) -> Result<usize, Trouble> {
        let end = Instant::now() + DRAIN;
        let mut client = self.clients(1).await?.remove(0);
        let mut recorded = 0;
        for Bought { order, token } in bought {
            let path = format!("/api/v1/orders/{order}");
            while Instant::now() < end {
                let answer = client.send(request(&self.target, Method::GET, &path, token)).await;
                let answer = answer.map_err(|failure| failure.to_string())?;
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                if answer.status == 200 && body["status"] != "queued" {
                    recorded += 1;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        Ok(recorded)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Trouble> {
    let options = Options::parse();
    let shopper = Shopper { options: &options, target: Target::parse(&options.target)? };
    let bought = shopper.buy().await?;
    let (before, begin) = (shopper.reads().await?, Instant::now());
    let answers = if options.streams > 0 {
        shopper.hold_streams(&bought).await?;
        println!("{} event streams for {} s", options.streams, options.seconds);
        BTreeMap::new()
    } else {
        let answers = shopper.poll(&bought).await?;
        println!(
            "{} buyers polled for {} s; answers by HTTP status: {answers:?}",
            bought.len(),
            options.seconds
        );
        answers
    };
    let seconds = begin.elapsed().as_secs_f64();
    let mut within = true;
    for (source, count) in shopper.reads().await? {
        let reads = count - before.get(&source).copied().unwrap_or_default();
        println!("{source:>7}: {reads} reads, {:.1}/s", reads as f64 / seconds);
        within &= source != "ledger" || reads as f64 <= options.limit as f64 * (seconds + 1.0);
    }
    let answered = answers.keys().all(|status| *status == 200);
    let recorded = shopper.recorded(&bought).await?;
    println!("{recorded} of {} orders were seen to be recorded", bought.len());
    let pass = answered && within && recorded == bought.len();
    println!("{}", if pass { "pass" } else { "violated" });
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
