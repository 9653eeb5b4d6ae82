//! The commands that are requests to a running gateway: sales, audit, health.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::body::Bytes;
use comfy_table::{Table, presets};
use reqwest::{Method, StatusCode};
use seckill_core::{AuditReport, NewSale, Sale, Verdict, now};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::cli::{AuditArgs, ReadArgs, SaleArgs, SaleCommand, SaleCreateArgs};
use crate::options::ServerOptions;
use crate::{exit, secrets, words};

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
        self.read(&self.send(Method::GET, path, None, None).await?)
    }

    pub(crate) async fn create_sale<T: DeserializeOwned>(
        &self,
        sale: &NewSale,
        admin: &SecretString,
    ) -> Result<T> {
        let sale = serde_json::to_value(sale)?;
        self.read(&self.send(Method::POST, "/api/v1/sales", Some(admin), Some(sale)).await?)
    }

    /// Sends a request without a body as an admin. An answer without a body reads as `null`.
    pub(crate) async fn order<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        admin: &SecretString,
    ) -> Result<T> {
        self.read(&self.send(method, path, Some(admin), None).await?)
    }

    /// The same with a body.
    pub(crate) async fn order_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        admin: &SecretString,
        body: Option<Value>,
    ) -> Result<T> {
        self.read(&self.send(method, path, Some(admin), body).await?)
    }

    /// The body of the answer. Not generic, so that it is compiled once and not for each kind of answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretString>,
        body: Option<Value>,
    ) -> Result<Bytes> {
        let url =
            self.server.join(path).with_context(|| format!("{} is no address of a server", self.server))?;
        let mut request = self.http.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let hint = || format!("no answer from {}; does `seckill gateway` run there? (--server)", self.server);
        let answer = request.send().await.with_context(hint)?;
        let status = answer.status();
        let body = answer.bytes().await.with_context(hint)?;
        if !status.is_success() {
            bail!("{}", problem(path, status, &body));
        }
        Ok(body)
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        let json = if body.is_empty() { b"null".as_slice() } else { body };
        serde_json::from_slice(json)
            .with_context(|| format!("{} did not answer as a gateway does", self.server))
    }
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

/// `seckill sale …`
pub(crate) async fn sale(args: SaleArgs) -> Result<ExitCode> {
    match args.command {
        SaleCommand::Create(args) => create(*args).await?,
        SaleCommand::List(ReadArgs { server, json }) => {
            let list: Value = Api::new(server.server)?.get("/api/v1/sales").await?;
            let sales = list["sales"].as_array().cloned().unwrap_or_default();
            print(json, &list, || table(&sales))?;
        }
        SaleCommand::Show(args) => {
            let path = format!("/api/v1/sales/{}", args.id);
            let sale: Value = Api::new(args.read.server.server)?.get(&path).await?;
            print(args.read.json, &sale, || table(std::slice::from_ref(&sale)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: SaleCreateArgs) -> Result<()> {
    let api = Api::new(args.read.server.server)?;
    if args.if_none && has_sales(&api).await? {
        eprintln!("there is a sale already; none was opened");
        return Ok(());
    }
    let starts_at = args.starts_at.unwrap_or_else(now);
    let admission = args.admission.admission()?;
    let sale = NewSale {
        name: args.name,
        product: args.product,
        stock: args.stock,
        price_cents: args.price_cents,
        currency: args.currency,
        per_user_limit: args.per_user_limit,
        starts_at,
        ends_at: args.ends_at.unwrap_or(starts_at + args.lasts),
        payment_window_ms: args.payment_window.map(words::millis).transpose()?,
        require_ticket: admission.require_ticket,
        tickets_from: admission.tickets_from,
        ticket_ttl_ms: admission.ticket_ttl_ms,
        proof_of_work: admission.proof_of_work,
        waiting_room: admission.waiting_room,
    };
    let admin = secrets::admin_token(&args.secrets, &args.data_dir)?;
    let created: Value = api.create_sale(&sale, &admin).await?;
    print(args.read.json, &created, || table(std::slice::from_ref(&created)))
}

async fn has_sales(api: &Api) -> Result<bool> {
    let list: Value = api.get("/api/v1/sales").await?;
    Ok(list["sales"].as_array().is_some_and(|sales| !sales.is_empty()))
}

pub(crate) fn print(json: bool, value: &Value, table: impl FnOnce() -> Table) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { table().to_string() };
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn table(sales: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["id", "name", "stock", "sold", "orders", "rejected", "price", "starts", "ends"]);
    for sale in sales {
        // A newer server may send more fields; a sale without the known ones is left out.
        let Ok(sale) = serde_json::from_value::<Sale>(sale.clone()) else { continue };
        table.add_row([
            sale.id.to_string(),
            sale.name,
            sale.stock.to_string(),
            sale.sold.to_string(),
            sale.orders.to_string(),
            sale.rejected_orders.to_string(),
            format!("{}.{:02} {}", sale.price_cents / 100, sale.price_cents % 100, sale.currency),
            sale.starts_at.format("%F %T").to_string(),
            sale.ends_at.format("%F %T").to_string(),
        ]);
    }
    table
}

/// `seckill audit`
pub(crate) async fn audit(args: AuditArgs) -> Result<ExitCode> {
    let api = Api::new(args.sale.read.server.server)?;
    let report = audit_at_rest(&api, args.sale.id, args.wait.unwrap_or_default()).await?;
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
async fn audit_at_rest(api: &Api, sale: u64, wait: Duration) -> Result<AuditReport> {
    let deadline = Instant::now() + wait;
    loop {
        let report: AuditReport = api.get(&format!("/api/v1/sales/{sale}/audit")).await?;
        if report.verdict != Verdict::InFlight || Instant::now() >= deadline {
            return Ok(report);
        }
        // The gateway makes one audit a second at the most.
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
