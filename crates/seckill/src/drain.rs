//! `seckill drain …`: the drain rate of the workers, and their pause.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use seckill_client::{WorkersBody, WorkersView};

use crate::cli::sales::{DrainAdminArgs, DrainArgs, DrainCommand, DrainSetArgs};
use crate::client::{admin, print};

pub(crate) async fn drain(args: DrainArgs) -> Result<ExitCode> {
    let pause = |paused| WorkersBody { paused: Some(paused), drain_rate: None };
    let (all, change) = match args.command {
        DrainCommand::Show(all) => (all, None),
        DrainCommand::Set(DrainSetArgs { rate, all }) => {
            (all, Some(WorkersBody { drain_rate: Some(rate.wire()), paused: None }))
        }
        DrainCommand::Pause(all) => (all, Some(pause(true))),
        DrainCommand::Resume(all) => (all, Some(pause(false))),
    };
    let DrainAdminArgs { read, admin: args } = all;
    let admin = admin(read.server, &args)?;
    let answer = match change {
        Some(change) => admin.change_workers(&change).await?,
        None => admin.workers().await?,
    };
    if answer.workers.is_empty() {
        eprintln!("no worker has reported within the last moment; does one run?");
    }
    print(read.json, &answer, || table(&answer))?;
    Ok(ExitCode::SUCCESS)
}

fn table(answer: &WorkersView) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["who", "drain rate", "settings"]);
    let rate = match answer.drain_rate {
        _ if answer.paused => "paused".to_owned(),
        Some(rate) => rate.to_string(),
        None => "as each was started".to_owned(),
    };
    table.add_row(["every worker is told".to_owned(), rate, answer.revision.to_string()]);
    for worker in &answer.workers {
        table.add_row([worker.name.clone(), worker.drain_rate.to_string(), worker.revision.to_string()]);
    }
    table
}
