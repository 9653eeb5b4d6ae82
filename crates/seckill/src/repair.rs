//! The commands that repair a running system: rebuild, reconcile, and the parked messages. All of them ask a gateway, and all of
//! them may be called again.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};
use reqwest::Method;
use seckill_core::{AbortPoint, ParkedMessage, Sale, SaleState};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{AdminArgs, ParkedArgs, ParkedCommand, ParkedMessageArgs, RepairArgs};
use crate::client::{Api, print};
use crate::secrets;

/// Pause between two looks at a rebuild.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) fn admin(args: &AdminArgs) -> Result<SecretString> {
    secrets::admin_token(&args.secrets, &args.data_dir)
}

/// `seckill rebuild SALE`: asks for it, shows its progress on stderr, and prints the sale when it is open again.
pub(crate) async fn rebuild(args: RepairArgs) -> Result<ExitCode> {
    let (id, api) = (args.sale.id, Api::new(args.sale.read.server.server)?);
    let path = format!("/api/v1/sales/{id}");
    let asked: Sale = api.order(Method::POST, &format!("{path}/rebuild"), &admin(&args.admin)?).await?;
    let mut shown = String::new();
    let (value, sale) = loop {
        let value: Value = api.get(&path).await?;
        let sale: Sale = serde_json::from_value(value.clone())?;
        if sale.epoch < asked.epoch {
            bail!(
                "sale {id} is on epoch {} after it was on {}; is the database another one?",
                sale.epoch,
                asked.epoch
            );
        }
        let Some(rebuild) = sale.rebuild.filter(|_| sale.state == SaleState::Rebuilding) else {
            break (value, sale);
        };
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
    print(args.sale.read.json, &value, || {
        table(&[
            ("sale", sale.id.to_string()),
            ("epoch", sale.epoch.to_string()),
            ("stock", sale.stock.to_string()),
            ("sold", sale.sold.to_string()),
            ("gate remaining", value["remaining"].to_string()),
            ("gate holds orders", value["reserved_orders"].to_string()),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `seckill reconcile SALE`
pub(crate) async fn reconcile(args: RepairArgs) -> Result<ExitCode> {
    let api = Api::new(args.sale.read.server.server)?;
    let path = format!("/api/v1/sales/{}/reconcile", args.sale.id);
    let done: Value = api.order(Method::POST, &path, &admin(&args.admin)?).await?;
    print(args.sale.read.json, &done, || {
        table(&[
            ("orders compared", done["compared"].to_string()),
            ("orders sent again", done["sent_again"].to_string()),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct ParkedList {
    messages: Vec<ParkedMessage>,
}

/// `seckill parked …`
pub(crate) async fn parked(args: ParkedArgs) -> Result<ExitCode> {
    match args.command {
        ParkedCommand::List(args) => {
            let api = Api::new(args.read.server.server)?;
            let list: Value = api.order(Method::GET, "/api/v1/parked", &admin(&args.admin)?).await?;
            let messages = serde_json::from_value::<ParkedList>(list.clone())?.messages;
            if messages.is_empty() && !args.read.json {
                eprintln!("no message is parked or unrouted");
                return Ok(ExitCode::SUCCESS);
            }
            print(args.read.json, &list, || messages_table(&messages))?;
        }
        ParkedCommand::Show(args) => show(args).await?,
        ParkedCommand::Redrive(args) => {
            change(&args, Method::POST, "/redrive").await?;
            eprintln!("message {} is back in the queue", args.id);
        }
        ParkedCommand::Discard(args) => {
            change(&args, Method::DELETE, "").await?;
            eprintln!("message {} is removed", args.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: ParkedMessageArgs) -> Result<()> {
    let api = Api::new(args.read.server.server)?;
    let list: ParkedList = api.order(Method::GET, "/api/v1/parked", &admin(&args.admin)?).await?;
    let Some(message) = list.messages.into_iter().find(|message| message.id == args.id) else {
        bail!("no message {} is parked; `seckill parked list` shows which are", args.id);
    };
    print(args.read.json, &serde_json::to_value(&message)?, || {
        let mut table = messages_table(std::slice::from_ref(&message));
        table.add_row(["body".to_owned(), message.body.clone()]);
        table
    })
}

async fn change(args: &ParkedMessageArgs, method: Method, action: &str) -> Result<()> {
    let api = Api::new(args.read.server.server.clone())?;
    api.order(method, &format!("/api/v1/parked/{}{action}", args.id), &admin(&args.admin)?).await
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
