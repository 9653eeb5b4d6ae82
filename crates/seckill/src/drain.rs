//! `seckill drain …`: the drain rate of the workers, and their pause.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::sales::{DrainAdminArgs, DrainArgs, DrainCommand, DrainSetArgs};
use crate::client::{Api, print};
use crate::repair::admin;

const PATH: &str = "/api/v1/workers";

pub(crate) async fn drain(args: DrainArgs) -> Result<ExitCode> {
    let (all, change) = match args.command {
        DrainCommand::Show(all) => (all, None),
        DrainCommand::Set(DrainSetArgs { rate, all }) => (all, Some(json!({"drain_rate": rate.to_json()}))),
        DrainCommand::Pause(all) => (all, Some(json!({"paused": true}))),
        DrainCommand::Resume(all) => (all, Some(json!({"paused": false}))),
    };
    let DrainAdminArgs { read, admin: admin_args } = all;
    let (api, admin) = (Api::new(read.server.server)?, admin(&admin_args)?);
    let method = if change.is_some() { Method::PUT } else { Method::GET };
    let answer: Value = api.order_with(method, PATH, &admin, change).await?;
    if answer["workers"].as_array().is_none_or(Vec::is_empty) {
        eprintln!("no worker has reported within the last moment; does one run?");
    }
    print(read.json, &answer, || table(&answer))?;
    Ok(ExitCode::SUCCESS)
}

fn table(answer: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["who", "drain rate", "settings"]);
    let rate = match answer["drain_rate"].as_str() {
        _ if answer["paused"] == true => "paused".to_owned(),
        Some(rate) => rate.to_owned(),
        None => "as each was started".to_owned(),
    };
    let revision = |value: &Value| value["revision"].to_string();
    table.add_row(["every worker is told".to_owned(), rate, revision(answer)]);
    for worker in answer["workers"].as_array().into_iter().flatten() {
        let text = |field: &str| worker[field].as_str().unwrap_or_default().to_owned();
        table.add_row([text("name"), text("drain_rate"), revision(worker)]);
    }
    table
}
