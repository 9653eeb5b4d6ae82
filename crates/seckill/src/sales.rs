//! The commands about sales: opening, listing, showing and changing them. All of them ask a gateway, and all of them may be run
//! again: a change names what is to be reached, and an opening has a key of its own.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use comfy_table::{Table, presets};
use seckill_client::{Admin, Changed, Client, Error, SalePatch, SaleView};
use seckill_core::{NewSale, Sale, SaleId, now};
use tokio::time::sleep;
use uuid::Uuid;

use crate::cli::sales::{SaleFields, SaleRaiseArgs, SaleSetArgs};
use crate::cli::{ReadArgs, RepairArgs, SaleArgs, SaleCommand, SaleCreateArgs};
use crate::client::{admin, client, print};
use crate::{secrets, terminal, words};

/// `seckill sale …`
pub(crate) async fn sale(args: SaleArgs) -> Result<ExitCode> {
    match args.command {
        SaleCommand::Create(args) => create(*args).await?,
        SaleCommand::List(ReadArgs { server, json }) => {
            let list = client(server)?.sales().await?;
            print(json, &list, || table(&list.sales))?;
        }
        SaleCommand::Show(args) => {
            let shown = client(args.read.server)?.sale(SaleId(args.id)).await?;
            print(args.read.json, &shown, || table([&shown.sale]))?;
        }
        SaleCommand::Set(SaleSetArgs { sale, fields, admin: args }) => {
            let SaleFields { name, product, ends_at } = fields;
            let patch = SalePatch { name, product, ends_at, stock: None };
            let changed = admin(sale.read.server, &args)?.change_sale(SaleId(sale.id), &patch).await?;
            print_changed(sale.read.json, &changed)?;
        }
        SaleCommand::RaiseStock(SaleRaiseArgs { sale, to, admin: args }) => {
            let patch = SalePatch { stock: Some(to), ..SalePatch::default() };
            let changed = admin(sale.read.server, &args)?.change_sale(SaleId(sale.id), &patch).await?;
            print_changed(sale.read.json, &changed)?;
        }
        SaleCommand::Pause(RepairArgs { sale, admin: args }) => {
            print_changed(sale.read.json, &admin(sale.read.server, &args)?.pause(SaleId(sale.id)).await?)?;
        }
        SaleCommand::Resume(RepairArgs { sale, admin: args }) => {
            print_changed(sale.read.json, &admin(sale.read.server, &args)?.resume(SaleId(sale.id)).await?)?;
        }
        SaleCommand::Close(RepairArgs { sale, admin: args }) => {
            print_changed(sale.read.json, &admin(sale.read.server, &args)?.close(SaleId(sale.id)).await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The sale as it is after a change.
fn print_changed(json: bool, Changed { sale, applied }: &Changed) -> Result<()> {
    if !applied {
        eprintln!(
            "the change is recorded; buyers feel it once the gate can be reached, which the gateways look after by themselves"
        );
    }
    print(json, sale, || table([&sale.sale]))
}

async fn create(args: SaleCreateArgs) -> Result<()> {
    let client = client(args.read.server)?;
    if let Some(patience) = args.wait {
        await_gateway(&client, patience).await?;
    }
    if args.if_none && !client.sales().await?.sales.is_empty() {
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
    let admin = client.admin(secrets::admin_token(&args.admin.token, &args.admin.data_dir)?);
    let key = args.idempotency_key.unwrap_or_else(|| Uuid::now_v7().to_string());
    let created = create_once(&admin, &sale, &key).await?;
    print(args.read.json, &created, || table([&created.sale]))
}

/// Returns once a gateway has told its sales, which it can do as soon as it knows them.
///
/// # Errors
/// After `patience` what was answered last, or that nobody is there.
async fn await_gateway(client: &Client, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while let Err(why) = client.sales().await {
        if Instant::now() >= deadline {
            return Err(why.into());
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Creates a sale under this key, and says on stderr when the request is sent again.
pub(crate) async fn create_once(admin: &Admin, sale: &NewSale, key: &str) -> Result<SaleView> {
    let again = |why: &Error| eprintln!("{why}; trying again with the same key");
    match admin.create_sale(sale, key, again).await {
        Ok(made) => Ok(made.value),
        Err(Error::Unsettled { last, .. }) => Err(anyhow!("{last}").context(format!(
            "the sale may exist: `seckill sale list` shows it. The same command with --idempotency-key {key:?} and the same \
             --starts-at and --ends-at opens no second one"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Columns that the table of sales needs; in a narrower terminal each sale becomes a block of lines.
const WIDE: usize = 72;

fn table<'a>(sales: impl IntoIterator<Item = &'a Sale>) -> Table {
    let narrow = terminal::stdout().is_some_and(|size| size.columns < WIDE);
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    if !narrow {
        table.set_header(FIELDS);
    }
    for sale in sales {
        if narrow {
            for (name, value) in FIELDS.into_iter().zip(fields(sale)) {
                table.add_row([name.to_owned(), value]);
            }
            table.add_row(["", ""]);
        } else {
            table.add_row(fields(sale));
        }
    }
    table
}

/// What is shown of a sale.
const FIELDS: [&str; 10] =
    ["id", "name", "stock", "sold", "orders", "rejected", "price", "starts", "ends", "state"];

fn fields(sale: &Sale) -> [String; 10] {
    let state = if sale.paused { "paused" } else { sale.state.as_str() };
    [
        sale.id.to_string(),
        sale.name.clone(),
        sale.stock.to_string(),
        sale.sold.to_string(),
        sale.orders.to_string(),
        sale.rejected_orders.to_string(),
        format!("{}.{:02} {}", sale.price_cents / 100, sale.price_cents % 100, sale.currency),
        sale.starts_at.format("%F %T").to_string(),
        sale.ends_at.format("%F %T").to_string(),
        state.to_owned(),
    ]
}
