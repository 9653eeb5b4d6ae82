//! The commands that repair a running system: rebuild, reconcile, and the parked messages. All of them ask a gateway, and all of
//! them may be called again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use seckill_core::{AbortPoint, ParkedMessage, SaleId, SaleState};

use crate::cli::{ParkedArgs, ParkedCommand, ParkedMessageArgs, RepairArgs};
use crate::client::{admin, client, print};

/// Pause between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(500);

/// `seckill rebuild SALE`: asks for it, shows its progress on stderr, and prints the sale when it is open again.
pub(crate) async fn rebuild(args: RepairArgs) -> Result<ExitCode> {
    let id = SaleId(args.sale.id);
    let client = client(args.sale.read.server.clone())?;
    let asked = admin(args.sale.read.server, &args.admin)?.rebuild(id).await?;
    let mut shown = String::new();
    let view = loop {
        let view = client.sale(id).await?;
        let sale = &view.sale;
        if sale.epoch < asked.epoch {
            bail!(
                "sale {id} is on epoch {} after it was on {}; is the database another one?",
                sale.epoch,
                asked.epoch
            );
        }
        let Some(rebuild) = sale.rebuild.filter(|_| sale.state == SaleState::Rebuilding) else { break view };
        let line = match rebuild.total {
            Some(total) => format!("{}: {} of {total} orders", rebuild.step.as_str(), rebuild.done),
            None => format!("{}: {} orders", rebuild.step.as_str(), rebuild.done),
        };
        if line != shown {
            eprintln!("{line}");
            shown = line;
        }
        tokio::time::sleep(LOOK).await;
    };
    let (sale, unknown) = (&view.sale, || "unknown".to_owned());
    print(args.sale.read.json, &view, || {
        table(&[
            ("sale", sale.id.to_string()),
            ("epoch", sale.epoch.to_string()),
            ("stock", sale.stock.to_string()),
            ("sold", sale.sold.to_string()),
            ("gate remaining", view.remaining.map_or_else(unknown, |units| units.to_string())),
            ("gate holds orders", view.reserved_orders.map_or_else(unknown, |orders| orders.to_string())),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `seckill reconcile SALE`
pub(crate) async fn reconcile(args: RepairArgs) -> Result<ExitCode> {
    let done = admin(args.sale.read.server, &args.admin)?.reconcile(SaleId(args.sale.id)).await?;
    print(args.sale.read.json, &done, || {
        table(&[
            ("orders compared", done.compared.to_string()),
            ("orders sent again", done.sent_again.to_string()),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `seckill parked …`
pub(crate) async fn parked(args: ParkedArgs) -> Result<ExitCode> {
    match args.command {
        ParkedCommand::List(args) => {
            let list = admin(args.read.server, &args.admin)?.parked().await?;
            if list.messages.is_empty() && !args.read.json {
                eprintln!("no message is parked or unrouted");
                return Ok(ExitCode::SUCCESS);
            }
            print(args.read.json, &list, || messages_table(&list.messages))?;
        }
        ParkedCommand::Show(args) => show(args).await?,
        ParkedCommand::Redrive(ParkedMessageArgs { id, read, admin: args }) => {
            admin(read.server, &args)?.redrive_parked(&id).await?;
            eprintln!("message {id} is back in the queue");
        }
        ParkedCommand::Discard(ParkedMessageArgs { id, read, admin: args }) => {
            admin(read.server, &args)?.discard_parked(&id).await?;
            eprintln!("message {id} is removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: ParkedMessageArgs) -> Result<()> {
    let list = admin(args.read.server, &args.admin)?.parked().await?;
    let Some(message) = list.messages.into_iter().find(|message| message.id == args.id) else {
        bail!("no message {} is parked; `seckill parked list` shows which are", args.id);
    };
    print(args.read.json, &message, || {
        let mut table = messages_table(std::slice::from_ref(&message));
        table.add_row(["body".to_owned(), message.body.clone()]);
        table
    })
}

fn messages_table(messages: &[ParkedMessage]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["id", "sale", "orders", "parked at", "reason"]);
    for message in messages {
        let batch = message.batch.as_ref();
        table.add_row([
            message.id.clone(),
            batch.map_or_else(String::new, |batch| batch.sale_id.to_string()),
            batch.map_or_else(String::new, |batch| batch.orders.len().to_string()),
            message.parked_at.map_or_else(String::new, |at| at.format("%F %T").to_string()),
            message.reason.clone(),
        ]);
    }
    table
}

/// `seckill abort-points`
pub(crate) fn abort_points() -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["name", "what must hold when a process is killed there"]);
    for point in AbortPoint::ALL {
        table.add_row([point.name(), point.holds()]);
    }
    println!("{table}");
    ExitCode::SUCCESS
}

fn table(rows: &[(&str, String)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    for (name, value) in rows {
        table.add_row([*name, value]);
    }
    table
}
