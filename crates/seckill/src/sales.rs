//! The commands about sales: opening, listing, showing and changing them. All of them ask a gateway, and all of them may be run
//! again: a change names what is to be reached, and an opening has a key of its own.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use reqwest::Method;
use seckill_core::{NewSale, Sale, now};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::sales::{SaleFields, SaleRaiseArgs, SaleSetArgs};
use crate::cli::{AdminArgs, ReadArgs, RepairArgs, SaleArgs, SaleCommand, SaleCreateArgs, SaleReadArgs};
use crate::client::{Api, print};
use crate::repair::admin;
use crate::{secrets, words};

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
            let sale: Value = Api::new(args.read.server.server)?.get(&path(args.id, "")).await?;
            print(args.read.json, &sale, || table(std::slice::from_ref(&sale)))?;
        }
        SaleCommand::Set(SaleSetArgs { sale, fields, admin }) => {
            let SaleFields { name, product, ends_at } = fields;
            let wanted = [("name", json!(name)), ("product", json!(product)), ("ends_at", json!(ends_at))];
            let wanted: Value = wanted.into_iter().filter(|(_, value)| !value.is_null()).collect();
            change(sale, &admin, Method::PATCH, "", Some(wanted)).await?;
        }
        SaleCommand::RaiseStock(SaleRaiseArgs { sale, to, admin }) => {
            change(sale, &admin, Method::PATCH, "", Some(json!({"stock": to}))).await?;
        }
        SaleCommand::Pause(args) => post(args, "/pause").await?,
        SaleCommand::Resume(args) => post(args, "/resume").await?,
        SaleCommand::Close(args) => post(args, "/close").await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn path(sale: u64, what: &str) -> String {
    format!("/api/v1/sales/{sale}{what}")
}

async fn post(args: RepairArgs, what: &str) -> Result<()> {
    change(args.sale, &args.admin, Method::POST, what, None).await
}

/// Sends a change and prints the sale as it is then.
async fn change(
    args: SaleReadArgs,
    admin_args: &AdminArgs,
    method: Method,
    what: &str,
    body: Option<Value>,
) -> Result<()> {
    let (api, admin) = (Api::new(args.read.server.server)?, admin(admin_args)?);
    let (at_work, sale): (bool, Value) = api.change(method, &path(args.id, what), &admin, body).await?;
    if !at_work {
        eprintln!(
            "the change is recorded; buyers feel it once the gate can be reached, which the gateways look after by themselves"
        );
    }
    print(args.read.json, &sale, || table(std::slice::from_ref(&sale)))
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
    let key = args.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let created: Value = api.create_sale(&sale, &admin, &key).await?;
    print(args.read.json, &created, || table(std::slice::from_ref(&created)))
}

async fn has_sales(api: &Api) -> Result<bool> {
    let list: Value = api.get("/api/v1/sales").await?;
    Ok(list["sales"].as_array().is_some_and(|sales| !sales.is_empty()))
}

fn table(sales: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "id", "name", "stock", "sold", "orders", "rejected", "price", "starts", "ends", "state",
    ]);
    for sale in sales {
        // A newer server may send more fields; a sale without the known ones is left out.
        let Ok(sale) = serde_json::from_value::<Sale>(sale.clone()) else { continue };
        let state = if sale.paused { "paused" } else { sale.state.as_str() };
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
            state.to_owned(),
        ]);
    }
    table
}
