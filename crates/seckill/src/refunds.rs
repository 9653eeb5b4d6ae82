//! The commands about what comes after an order: its timeline, and refunds that wait for a human. All of them ask a gateway.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use seckill_core::Timestamp;

use crate::cli::orders::{
    OrderArgs, OrderCommand, OrderShowArgs, RefundArgs, RefundCommand, RefundDecisionArgs,
};
use crate::client::{admin, print};

/// `seckill order show ID`
pub(crate) async fn order(args: OrderArgs) -> Result<ExitCode> {
    let OrderCommand::Show(OrderShowArgs { id, read, admin: args }) = args.command;
    let timeline = admin(read.server, &args)?.timeline(id).await?;
    print(read.json, &timeline, || {
        let mut table = table(["at", "what", "since the step before"]);
        let mut before: Option<Timestamp> = None;
        for step in &timeline.steps {
            let since = before.map(|before| format!("{} ms", (step.at - before).num_milliseconds()));
            let at = step.at.format("%FT%T%.fZ").to_string();
            table.add_row([at, step.what.clone(), since.unwrap_or_default()]);
            before = Some(step.at);
        }
        table
    })?;
    if !read.json {
        eprintln!("order {id} is {}", timeline.status.as_str());
    }
    Ok(ExitCode::SUCCESS)
}

/// `seckill refund …`
pub(crate) async fn refund(args: RefundArgs) -> Result<ExitCode> {
    match args.command {
        RefundCommand::List(args) => {
            let list = admin(args.read.server, &args.admin)?.refunds(args.state.wire()).await?;
            if list.refunds.is_empty() && !args.read.json {
                eprintln!("no refund is {}", args.state.wire().as_str());
                return Ok(ExitCode::SUCCESS);
            }
            print(args.read.json, &list, || {
                let mut table = table(["order", "sale", "user", "cents", "reason", "decision"]);
                for shown in &list.refunds {
                    let refund = &shown.refund;
                    let cents: u64 = refund.transfers.iter().map(|transfer| transfer.cents).sum();
                    table.add_row([
                        shown.order_id.to_string(),
                        refund.sale_id.to_string(),
                        refund.user_id.to_string(),
                        cents.to_string(),
                        refund.reason.clone(),
                        refund.decision.clone().unwrap_or_default(),
                    ]);
                }
                table
            })?;
        }
        RefundCommand::Approve(RefundDecisionArgs { order, reason, server, admin: args }) => {
            admin(server, &args)?.approve_refund(order, &reason.unwrap_or_default()).await?;
            eprintln!("the refund of order {order} is approved");
        }
        RefundCommand::Deny(RefundDecisionArgs { order, reason, server, admin: args }) => {
            admin(server, &args)?.deny_refund(order, &reason.unwrap_or_default()).await?;
            eprintln!("the refund of order {order} is denied");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}
