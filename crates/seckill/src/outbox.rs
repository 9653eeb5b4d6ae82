//! The commands about events on their way: what waits in the outbox, and what waits for a subscriber. All of them ask a gateway,
//! and all of them may be called again.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use reqwest::Method;
use seckill_core::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::events::{
    OutboxArgs, OutboxCommand, OutboxEventArgs, OutboxListArgs, SubscriberArgs, SubscriberCommand,
};
use crate::client::{Api, print};
use crate::repair::admin;

/// What is shown of an event.
#[derive(Deserialize)]
struct OutboxEvent {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    state: String,
    attempts: u32,
    next_attempt_at: Timestamp,
    created_at: Timestamp,
    error: Option<String>,
}

#[derive(Deserialize)]
struct OutboxList {
    pending: u64,
    parked: u64,
    events: Vec<OutboxEvent>,
}

/// `seckill outbox …`
pub(crate) async fn outbox(args: OutboxArgs) -> Result<ExitCode> {
    match args.command {
        OutboxCommand::List(args) => list(args).await?,
        OutboxCommand::Show(args) => {
            let event: Value = ask(&args, Method::GET, "").await?;
            let shown: OutboxEvent = serde_json::from_value(event.clone())?;
            let whole = serde_json::to_string_pretty(&event["event"])?;
            print(args.read.json, &event, || {
                let mut table = events_table(&[shown]);
                table.add_row(["event".to_owned(), whole]);
                table
            })?;
        }
        OutboxCommand::Redrive(args) => {
            ask::<()>(&args, Method::POST, "/redrive").await?;
            eprintln!("event {} is published once more", args.id);
        }
        OutboxCommand::Discard(args) => {
            ask::<()>(&args, Method::DELETE, "").await?;
            eprintln!("event {} is removed", args.id);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: OutboxListArgs) -> Result<()> {
    let (api, state) = (Api::new(args.read.server.server)?, args.state.as_str());
    let path = format!("/api/v1/outbox?state={state}");
    let list: Value = api.order(Method::GET, &path, &admin(&args.admin)?).await?;
    let OutboxList { pending, parked, events } = serde_json::from_value(list.clone())?;
    if !args.read.json {
        eprintln!("{pending} pending, {parked} parked");
        if events.is_empty() {
            eprintln!("no event is {state}");
            return Ok(());
        }
    }
    print(args.read.json, &list, || events_table(&events))
}

async fn ask<T: serde::de::DeserializeOwned>(
    args: &OutboxEventArgs,
    method: Method,
    action: &str,
) -> Result<T> {
    let api = Api::new(args.read.server.server.clone())?;
    api.order(method, &format!("/api/v1/outbox/{}{action}", args.id), &admin(&args.admin)?).await
}

fn events_table(events: &[OutboxEvent]) -> Table {
    let mut table = table();
    table.set_header(["id", "type", "subject", "state", "written", "attempts", "due", "error"]);
    let moment = |at: &Timestamp| at.format("%F %T").to_string();
    for event in events {
        // Only what is pending is due at all.
        let due = if event.state == "pending" { moment(&event.next_attempt_at) } else { String::new() };
        table.add_row([
            event.id.to_string(),
            event.kind.clone(),
            event.subject.clone(),
            event.state.clone(),
            moment(&event.created_at),
            event.attempts.to_string(),
            due,
            event.error.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// `seckill subscriber …`
pub(crate) async fn subscriber(args: SubscriberArgs) -> Result<ExitCode> {
    match args.command {
        SubscriberCommand::Show(args) => {
            let api = Api::new(args.read.server.server)?;
            let path = format!("/api/v1/subscribers/{}", args.name);
            let shown: Value = api.order(Method::GET, &path, &admin(&args.admin)?).await?;
            print(args.read.json, &shown, || {
                let mut table = table();
                table.add_row(["subscriber".to_owned(), args.name.to_string()]);
                table.add_row(["events waiting".to_owned(), shown["waiting_events"].to_string()]);
                table.add_row(["events parked".to_owned(), shown["parked_events"].to_string()]);
                table
            })?;
        }
        SubscriberCommand::Redrive(args) => {
            let api = Api::new(args.read.server.server)?;
            let path = format!("/api/v1/subscribers/{}/redrive", args.name);
            let done: Value = api.order(Method::POST, &path, &admin(&args.admin)?).await?;
            print(args.read.json, &done, || {
                let mut table = table();
                table.add_row(["events given again".to_owned(), done["events"].to_string()]);
                table
            })?;
        }
        SubscriberCommand::Remove(args) => {
            let api = Api::new(args.read.server.server)?;
            let path = format!("/api/v1/subscribers/{}", args.name);
            api.order::<()>(Method::DELETE, &path, &admin(&args.admin)?).await?;
            eprintln!("subscriber {} is removed, with what waited for it", args.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table
}
