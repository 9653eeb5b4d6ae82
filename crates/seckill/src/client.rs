//! A client of a gateway, and the commands that only ask it: audit, health.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use axum::body::Bytes;
use comfy_table::{Table, presets};
use reqwest::{Method, StatusCode};
use seckill_core::{AuditReport, NewSale, Verdict};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::cli::AuditArgs;
use crate::exit;
use crate::options::ServerOptions;
use crate::secrets;

/// How often the creation of a sale is sent, and the shortest pause between two times.
const CREATE_TRIES: u32 = 5;
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a gateway may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one gateway.
pub(crate) struct Api {
    http: reqwest::Client,
    server: Url,
}

impl Api {
    pub(crate) fn new(server: Url) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, server })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.read(&self.send(Method::GET, path, None, None).await?.1)
    }

    /// Creates a sale once: where an answer is lost, the same request is sent again under the same key.
    pub(crate) async fn create_sale<T: DeserializeOwned>(
        &self,
        sale: &NewSale,
        admin: &SecretString,
        key: &str,
    ) -> Result<T> {
        const PATH: &str = "/api/v1/sales";
        let body = serde_json::to_value(sale)?;
        for attempt in 1_u32.. {
            let (why, last) = match self
                .attempt(Method::POST, PATH, Some(admin), Some(&body), Some(key))
                .await
            {
                Ok((status, body)) if status.is_success() => return self.read(&body),
                // Once it is open whether the sale exists, a server that is away does not settle it.
                Ok((status, body)) if is_unsettled(&body) || (attempt > 1 && status.is_server_error()) => {
                    (problem(PATH, status, &body), anyhow!("{}", problem(PATH, status, &body)))
                }
                Ok((status, body)) => bail!("{}", problem(PATH, status, &body)),
                // Nobody listens there, so nothing has happened.
                Err(error) if attempt == 1 && error.is_connect() => {
                    return Err(error).with_context(|| self.hint());
                }
                Err(error) => (error.to_string(), anyhow::Error::new(error).context(self.hint())),
            };
            if attempt == CREATE_TRIES {
                return Err(last.context(format!(
                    "the sale may exist: `seckill sale list` shows it. The same command with --idempotency-key {key:?} and the same \
                     --starts-at and --ends-at opens no second one"
                )));
            }
            eprintln!("{why}; trying again with the same key");
            tokio::time::sleep(RETRY_AFTER * attempt).await;
        }
        unreachable!("the last attempt has returned")
    }

    /// Sends a change as an admin: whether it is at work already, and what it made.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        admin: &SecretString,
        body: Option<Value>,
    ) -> Result<(bool, T)> {
        let (status, body) = self.send(method, path, Some(admin), body).await?;
        Ok((status != StatusCode::ACCEPTED, self.read(&body)?))
    }

    /// Sends a request without a body as an admin. An answer without a body reads as `null`.
    pub(crate) async fn order<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        admin: &SecretString,
    ) -> Result<T> {
        self.read(&self.send(method, path, Some(admin), None).await?.1)
    }

    /// The same with a body.
    pub(crate) async fn order_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        admin: &SecretString,
        body: Option<Value>,
    ) -> Result<T> {
        self.read(&self.send(method, path, Some(admin), body).await?.1)
    }

    /// The status and the body of an answer that is no refusal. Not generic, so that it is compiled once and not for each kind of
    /// answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes)> {
        let answer = self.attempt(method, path, token, body.as_ref(), None).await;
        let (status, body) = answer.with_context(|| self.hint())?;
        if !status.is_success() {
            bail!("{}", problem(path, status, &body));
        }
        Ok((status, body))
    }

    /// The status and the body of any answer.
    async fn attempt(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> reqwest::Result<(StatusCode, Bytes)> {
        // The server's address has no path of its own, and every path here begins with a slash.
        let url = format!("{}{path}", self.server.as_str().trim_end_matches('/'));
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.bytes().await?))
    }

    fn hint(&self) -> String {
        format!("no answer from {}; does `seckill gateway` run there? (--server)", self.server)
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        let json = if body.is_empty() { b"null".as_slice() } else { body };
        serde_json::from_slice(json)
            .with_context(|| format!("{} did not answer as a gateway does", self.server))
    }
}

/// Whether a refusal leaves open what has happened, so that the same request has to be sent again.
fn is_unsettled(body: &[u8]) -> bool {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = problem["type"].as_str().unwrap_or_default();
    matches!(kind.rsplit('/').next(), Some("sale-unknown" | "request-under-way"))
}

/// What a refusal says, and what to do about it.
fn problem(path: &str, status: StatusCode, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let (Some(title), Some(detail)) = (problem["title"].as_str(), problem["detail"].as_str()) else {
        return format!("the server answered {status}; is it a seckill gateway?");
    };
    let kind = problem["type"].as_str().unwrap_or_default();
    let kind = kind.rsplit('/').next().unwrap_or_default();
    let at = |prefix| path.starts_with(prefix);
    let advice = match (kind, at("/api/v1/parked")) {
        ("not-found", true) => "`seckill parked list` shows what is parked",
        ("not-found", _) if at("/api/v1/outbox") => {
            "`seckill outbox list` shows what is parked, and with --state what is pending and sent"
        }
        ("not-found", _) if at("/api/v1/subscribers") => {
            "a name is known from its first `seckill subscribe` until it is removed"
        }
        ("not-found", _) if at("/api/v1/orders") || at("/api/v1/refunds") => {
            "give the id that the buyer was answered with; an order is known once it is in the database"
        }
        ("order-state", _) if at("/api/v1/refunds") => "`seckill refund list` shows the refunds that wait",
        ("not-found", false) => "`seckill sale list` shows the newest sales",
        ("unauthenticated", _) => {
            "give the admin token of this gateway: --admin-token, --admin-token-file or SECKILL_ADMIN_TOKEN, or --data-dir with \
             the folder of an embedded gateway"
        }
        ("rebuilding", _) => {
            "`seckill sale show` says how far the rebuild is; try again when the sale is open"
        }
        ("unavailable", _) => "/readyz of the gateway says which server is down, and its log says why",
        _ => return format!("{title}: {detail}"),
    };
    if kind == "not-found" { format!("{detail} {advice}") } else { format!("{title}: {detail} {advice}") }
}

pub(crate) fn print(json: bool, value: &Value, table: impl FnOnce() -> Table) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { table().to_string() };
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// `seckill audit`
pub(crate) async fn audit(args: AuditArgs) -> Result<ExitCode> {
    let api = Api::new(args.sale.read.server.server)?;
    let admin = match args.fresh {
        true => Some(secrets::admin_token(&args.admin.secrets, &args.admin.data_dir)?),
        false => None,
    };
    let report = audit_at_rest(&api, args.sale.id, admin.as_ref(), args.wait.unwrap_or_default()).await?;
    let value = serde_json::to_value(&report)?;
    print(args.sale.read.json, &value, || audit_table(&report))?;
    Ok(match report.verdict {
        Verdict::Violated | Verdict::Lost => ExitCode::from(exit::INVARIANT_VIOLATED),
        _ => ExitCode::SUCCESS,
    })
}

fn audit_table(report: &AuditReport) -> Table {
    let known = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    let in_flight = report.in_flight.map_or_else(|| "unknown".to_owned(), |units| units.to_string());
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let conserved = match (report.conserved, report.remaining) {
        (true, _) => "yes",
        (false, Some(_)) => "no",
        (false, None) => "not known without a gate",
    };
    for (name, value) in [
        ("stock", report.stock.to_string()),
        ("= gate remaining", known(report.remaining.map(u64::from))),
        ("+ in flight", in_flight),
        ("+ returning from orders that ended", report.returning.to_string()),
        ("+ sold", report.sold.to_string()),
        ("orders reserved", known(report.reserved_orders)),
        ("orders pending", known(report.pending_orders)),
        ("batches queued, of all sales", report.queued_batches.to_string()),
        ("orders committed", report.committed_orders.to_string()),
        ("orders rejected", report.rejected_orders.to_string()),
        ("messages parked, of all sales", report.parked_messages.to_string()),
        ("messages unrouted, of all sales", report.unrouted_messages.to_string()),
        ("messages for a newer worker, of all sales", report.newer_messages.to_string()),
        ("lost", report.lost.to_string()),
        ("oversold", report.oversold.to_string()),
        ("duplicates", report.duplicates.to_string()),
        ("conserved", conserved.to_owned()),
        ("verdict", report.verdict.to_string()),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    if let Some(money) = report.money {
        let cents = |cents: u64| format!("{}.{:02}", cents / 100, cents % 100);
        for (name, value) in [
            ("charged", cents(money.charged_cents)),
            ("- refunded", cents(money.refunded_cents)),
            ("= amounts of paid orders", cents(money.paid_cents)),
            ("+ of orders being refunded, at the most", cents(money.refunding_cents)),
            ("sum of all entries", money.entries_sum.to_string()),
        ] {
            table.add_row([name.to_owned(), value]);
        }
    }
    for finding in &report.findings {
        table.add_row(["finding".to_owned(), finding.clone()]);
    }
    table
}

/// The audit of a sale once nothing is in flight, or the newest one after `wait`.
async fn audit_at_rest(
    api: &Api,
    sale: u64,
    admin: Option<&SecretString>,
    wait: Duration,
) -> Result<AuditReport> {
    let deadline = Instant::now() + wait;
    let path = format!("/api/v1/sales/{sale}/audit");
    loop {
        let report: AuditReport = match admin {
            Some(admin) => api.order(Method::GET, &format!("{path}?fresh=true"), admin).await?,
            None => api.get(&path).await?,
        };
        if report.verdict != Verdict::InFlight || Instant::now() >= deadline {
            return Ok(report);
        }
        // The gateway makes one summary a second at the most.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// `seckill healthcheck`
pub(crate) async fn healthcheck(args: &ServerOptions) -> Result<ExitCode> {
    let api = Api::new(args.server.clone())?;
    let answer = api.http.get(api.server.join("/readyz")?).timeout(Duration::from_secs(5)).send().await;
    let answer = answer.with_context(|| format!("no answer from {}", args.server))?;
    let ready = answer.status().is_success();
    println!("{}", answer.text().await?);
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(exit::FAULT) })
}
