//! Asking a gateway: the client, the words for what it cannot answer, and the commands that only ask: audit, health.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use seckill_client::{AuditView, Call, Client, Error, Problem, ProblemKind, Readiness};
use seckill_core::{AuditReport, SaleId, Verdict};
use secrecy::SecretString;
use serde::Serialize;

use crate::cli::{AdminArgs, AuditArgs};
use crate::exit;
use crate::options::ServerOptions;
use crate::secrets;
use crate::terminal::{self, Size};

/// How long a health check waits.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of the gateway that a command names.
pub(crate) fn client(args: ServerOptions) -> Result<Client> {
    Ok(Client::new(args.server)?)
}

/// The same with the admin token that the command has.
pub(crate) fn admin(server: ServerOptions, args: &AdminArgs) -> Result<seckill_client::Admin> {
    Ok(client(server)?.admin(secrets::admin_token(&args.token, &args.data_dir)?))
}

/// Why a command has failed, for the one who gave it.
pub(crate) fn told(error: &anyhow::Error) -> String {
    error.downcast_ref().map_or_else(|| format!("{error:#}"), explained)
}

/// Why there is no answer, and what to do, by the commands of this program.
fn explained(error: &Error) -> String {
    match error {
        Error::Refused { call, problem } => refused(*call, problem),
        Error::NoConnection { server, reason } => no_answer(server, reason),
        Error::AnswerLost { call, server, reason } if call.method == "GET" => no_answer(server, reason),
        Error::AnswerLost { server, reason, .. } => {
            format!(
                "{}; it may be done all the same: look, or give the command again",
                no_answer(server, reason)
            )
        }
        Error::Unreadable { status: 200..300, server, reason, .. } => {
            format!("{server} did not answer as a gateway does: {reason}")
        }
        Error::Unreadable { status, .. } => {
            format!("the server answered with status {status}; is it a seckill gateway?")
        }
        _ => error.to_string(),
    }
}

fn no_answer(server: &str, reason: &str) -> String {
    format!("no answer from {server}; does `seckill gateway` run there? (--server): {reason}")
}

/// What a refusal says, and what to do about it.
fn refused(call: Call, problem: &Problem) -> String {
    let at = |prefix| call.path.starts_with(prefix);
    let advice = match &problem.kind {
        ProblemKind::NotFound if at("/api/v1/parked") => "`seckill parked list` shows what is parked",
        ProblemKind::NotFound if at("/api/v1/outbox") => {
            "`seckill outbox list` shows what is parked, and with --state what is pending and sent"
        }
        ProblemKind::NotFound if at("/api/v1/subscribers") => {
            "a name is known from its first `seckill subscribe` until it is removed"
        }
        ProblemKind::NotFound if at("/api/v1/orders") || at("/api/v1/refunds") => {
            "give the id that the buyer was answered with; an order is known once it is in the database"
        }
        ProblemKind::OrderState if at("/api/v1/refunds") => {
            "`seckill refund list` shows the refunds that wait"
        }
        ProblemKind::NotFound => "`seckill sale list` shows the newest sales",
        ProblemKind::Unauthenticated => {
            "give the admin token of this gateway: --admin-token, --admin-token-file or SECKILL_ADMIN_TOKEN, or --data-dir with \
             the folder of an embedded gateway"
        }
        ProblemKind::Rebuilding => {
            "`seckill sale show` says how far the rebuild is; try again when the sale is open"
        }
        ProblemKind::Unavailable => "/readyz of the gateway says which server is down, and its log says why",
        _ => return problem.to_string(),
    };
    if problem.kind == ProblemKind::NotFound {
        format!("{} {advice}", problem.detail)
    } else {
        format!("{problem} {advice}")
    }
}

/// To stdout: the answer as JSON, or a table of it.
pub(crate) fn print(json: bool, answer: &impl Serialize, table: impl FnOnce() -> Table) -> Result<()> {
    let text = if json { serde_json::to_string_pretty(answer)? } else { fitted(table()).to_string() };
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The table, no wider than the terminal. What does not fit in a cell goes on in the next line of it.
pub(crate) fn fitted(mut table: Table) -> Table {
    if let Some(Size { columns, .. }) = terminal::stdout() {
        let columns = u16::try_from(columns).unwrap_or(u16::MAX);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    table
}

/// `seckill audit`
pub(crate) async fn audit(args: AuditArgs) -> Result<ExitCode> {
    let client = client(args.sale.read.server)?;
    let admin = match args.fresh {
        true => Some(secrets::admin_token(&args.admin.token, &args.admin.data_dir)?),
        false => None,
    };
    let sale = SaleId(args.sale.id);
    let audit = audit_at_rest(&client, sale, admin.as_ref(), args.wait.unwrap_or_default()).await?;
    print(args.sale.read.json, &audit, || audit_table(&audit.report))?;
    Ok(match audit.report.verdict {
        Verdict::Violated | Verdict::Lost => ExitCode::from(exit::INVARIANT_VIOLATED),
        _ => ExitCode::SUCCESS,
    })
}

pub(crate) fn audit_table(report: &AuditReport) -> Table {
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

/// The audit of a sale once nothing is in flight and its gate is not being rebuilt, or the newest one after `wait`.
async fn audit_at_rest(
    client: &Client,
    sale: SaleId,
    admin: Option<&SecretString>,
    wait: Duration,
) -> Result<AuditView> {
    let deadline = Instant::now() + wait;
    loop {
        let audit = match admin {
            Some(token) => client.admin(token.clone()).fresh_audit(sale).await?,
            None => client.audit(sale).await?,
        };
        let ends = !matches!(audit.report.verdict, Verdict::InFlight | Verdict::Rebuilding);
        if ends || Instant::now() >= deadline {
            return Ok(audit);
        }
        // The gateway makes one summary a second at the most.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// `seckill healthcheck`
pub(crate) async fn healthcheck(args: ServerOptions) -> Result<ExitCode> {
    let report = client(args)?.with_timeout(HEALTH_TIMEOUT).readiness().await?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(match report.status {
        Readiness::Ready | Readiness::Degraded => ExitCode::SUCCESS,
        Readiness::Unready | Readiness::Draining => ExitCode::from(exit::FAULT),
    })
}
