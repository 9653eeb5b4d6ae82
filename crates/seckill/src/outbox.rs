//! The commands about events on their way: what waits in the outbox, and what waits for a subscriber. All of them ask a gateway,
//! and all of them may be called again.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use seckill_client::OutboxEventView;
use seckill_core::{OutboxState, Timestamp};
use serde_json::Value;

use crate::cli::events::{
    OutboxArgs, OutboxCommand, OutboxEventArgs, OutboxListArgs, SubscriberArgs, SubscriberCommand,
};
use crate::client::{admin, print};

/// `seckill outbox …`
pub(crate) async fn outbox(args: OutboxArgs) -> Result<ExitCode> {
    match args.command {
        OutboxCommand::List(args) => list(args).await?,
        OutboxCommand::Show(OutboxEventArgs { id, read, admin: args }) => {
            let event = admin(read.server, &args)?.outbox_event(id).await?;
            let whole: Value = serde_json::from_str(event.event.get())?;
            let whole = serde_json::to_string_pretty(&whole)?;
            print(read.json, &event, || {
                let mut table = events_table(std::slice::from_ref(&event));
                table.add_row(["event".to_owned(), whole]);
                table
            })?;
        }
        OutboxCommand::Redrive(OutboxEventArgs { id, read, admin: args }) => {
            admin(read.server, &args)?.redrive_event(id).await?;
            eprintln!("event {id} is published once more");
        }
        OutboxCommand::Discard(OutboxEventArgs { id, read, admin: args }) => {
            admin(read.server, &args)?.discard_event(id).await?;
            eprintln!("event {id} is removed");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: OutboxListArgs) -> Result<()> {
    let state = args.state.wire();
    let list = admin(args.read.server, &args.admin)?.outbox(state).await?;
    if !args.read.json {
        eprintln!("{} pending, {} parked", list.pending, list.parked);
        if list.events.is_empty() {
            eprintln!("no event is {}", state.as_str());
            return Ok(());
        }
    }
    print(args.read.json, &list, || events_table(&list.events))
}

fn events_table(events: &[OutboxEventView]) -> Table {
    let mut table = table();
    table.set_header(["id", "type", "subject", "state", "written", "attempts", "due", "error"]);
    let moment = |at: &Timestamp| at.format("%F %T").to_string();
    for event in events {
        // Only what is pending is due at all.
        let due =
            if event.state == OutboxState::Pending { moment(&event.next_attempt_at) } else { String::new() };
        table.add_row([
            event.id.to_string(),
            event.kind.clone(),
            event.subject.clone(),
            event.state.as_str().to_owned(),
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
            let name = args.name.to_string();
            let shown = admin(args.read.server, &args.admin)?.subscriber(&name).await?;
            print(args.read.json, &shown, || {
                let mut table = table();
                table.add_row(["subscriber".to_owned(), name.clone()]);
                table.add_row(["events waiting".to_owned(), shown.waiting_events.to_string()]);
                table.add_row(["events parked".to_owned(), shown.parked_events.to_string()]);
                table
            })?;
        }
        SubscriberCommand::Redrive(args) => {
            let done =
                admin(args.read.server, &args.admin)?.redrive_subscriber(&args.name.to_string()).await?;
            print(args.read.json, &done, || {
                let mut table = table();
                table.add_row(["events given again".to_owned(), done.events.to_string()]);
                table
            })?;
        }
        SubscriberCommand::Remove(args) => {
            admin(args.read.server, &args.admin)?.unsubscribe(&args.name.to_string()).await?;
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
