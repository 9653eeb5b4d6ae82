//! The commands about what comes after an order: its timeline, and refunds that wait for a human. All of them ask a gateway.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use reqwest::Method;
use seckill_core::Timestamp;
use serde_json::Value;

use crate::cli::{OrderArgs, OrderCommand, OrderShowArgs, RefundArgs, RefundCommand, RefundDecisionArgs};
use crate::client::{Api, print};
use crate::repair::admin;

/// `seckill order show ID`
pub(crate) async fn order(args: OrderArgs) -> Result<ExitCode> {
    let OrderCommand::Show(OrderShowArgs { id, read, admin: secrets }) = args.command;
    let api = Api::new(read.server.server)?;
    let path = format!("/api/v1/orders/{id}/timeline");
    let timeline: Value = api.order(Method::GET, &path, &admin(&secrets)?).await?;
    print(read.json, &timeline, || {
        let mut table = table(["at", "what", "since the step before"]);
        let mut before: Option<Timestamp> = None;
        for step in timeline["steps"].as_array().into_iter().flatten() {
            let at: Option<Timestamp> = text(&step["at"]).parse().ok();
            let since = at.zip(before).map(|(at, before)| format!("{} ms", (at - before).num_milliseconds()));
            table.add_row([text(&step["at"]), text(&step["what"]), since.unwrap_or_default()]);
            before = at.or(before);
        }
        table
    })?;
    if !read.json {
        eprintln!("order {id} is {}", text(&timeline["status"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// `seckill refund …`
pub(crate) async fn refund(args: RefundArgs) -> Result<ExitCode> {
    match args.command {
        RefundCommand::List(args) => {
            let api = Api::new(args.read.server.server)?;
            let path = format!("/api/v1/refunds?state={}", args.state.as_str());
            let list: Value = api.order(Method::GET, &path, &admin(&args.admin)?).await?;
            let refunds = list["refunds"].as_array().cloned().unwrap_or_default();
            if refunds.is_empty() && !args.read.json {
                eprintln!("no refund is {}", args.state.as_str());
                return Ok(ExitCode::SUCCESS);
            }
            print(args.read.json, &list, || {
                let mut table = table(["order", "sale", "user", "cents", "reason", "decision"]);
                for refund in &refunds {
                    let transfers = refund["transfers"].as_array().into_iter().flatten();
                    let cents: u64 = transfers.filter_map(|transfer| transfer["cents"].as_u64()).sum();
                    table.add_row([
                        text(&refund["order_id"]),
                        text(&refund["sale_id"]),
                        text(&refund["user_id"]),
                        cents.to_string(),
                        text(&refund["reason"]),
                        text(&refund["decision"]),
                    ]);
                }
                table
            })?;
        }
        RefundCommand::Approve(args) => decide(args, "approve", "approved").await?,
        RefundCommand::Deny(args) => decide(args, "deny", "denied").await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn decide(args: RefundDecisionArgs, action: &str, done: &str) -> Result<()> {
    let api = Api::new(args.server.server)?;
    let path = format!("/api/v1/refunds/{}/{action}", args.order);
    let body = args.reason.map(|reason| serde_json::json!({ "reason": reason }));
    api.order_with::<Value>(Method::POST, &path, &admin(&args.admin)?, body).await?;
    eprintln!("the refund of order {} is {done}", args.order);
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}
