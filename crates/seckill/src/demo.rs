//! `seckill demo`: the whole system in one process, a sale, its buyers over real HTTP, and the verdict.

mod chart;
mod lifecycle;
mod live;
mod system;
mod verdict;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use loadtest::{Clients, Plan, Played, SaleReport, Session, Target, Tokens, Watched};
use seckill_client::Client;
use seckill_core::{SaleId, UserId};
use seckill_lab::demo_sale;

use crate::cli::demo::DemoArgs;
use crate::{exit, sales, secrets, telemetry};
use live::LiveLine;
use system::System;
use verdict::Outcome;

/// Connections that the buyers share.
const CONNECTIONS: usize = 256;
/// Longer than the longest demo.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);
/// The sale is read this often.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// When nothing has moved for so long, the rest counts as lost.
const STALLED: Duration = Duration::from_secs(60);

/// `seckill demo`
pub(crate) async fn run(args: DemoArgs, log_json: bool) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown_on_signal()?;
    let once = args.once || !std::io::stdout().is_terminal();
    let system = System::start(&args, log_json, shutdown.clone()).await?;
    eprintln!("Dashboard: {}", system.server);
    eprintln!("Shop: {}shop, to buy by hand", system.server);
    if args.open
        && let Err(error) = open::that_detached(system.server.as_str())
    {
        eprintln!("No browser could be started ({error}); open the address above by hand.");
    }
    // After an interrupt the system ends in order, and there is no verdict.
    let outcome = shutdown.run_until_cancelled(Box::pin(play_to_end(&system, &args))).await;
    let ended = match outcome {
        None => Ok(ExitCode::from(130)),
        Some(Err(error)) => Err(error),
        Some(Ok(holds)) => {
            if !once {
                eprintln!("\nServing on until Ctrl-C; send load and inject faults at {}", system.server);
                shutdown.cancelled().await;
            }
            Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(exit::INVARIANT_VIOLATED) })
        }
    };
    system.stop().await?;
    ended
}

/// Opens the sale, plays it, and prints the outcome; whether every invariant held.
async fn play_to_end(system: &System, args: &DemoArgs) -> Result<bool> {
    let sale = open_sale(system, args).await?;
    if args.lifecycle {
        say_sale(system, args, sale, &format!(", to be paid within {}", words(args.payment_window)));
        let outcome = lifecycle::play(system, args, sale).await?;
        outcome.print(args.json)?;
        return Ok(outcome.holds());
    }
    let outcome = play(system, args, sale).await?;
    outcome.print(args.json)?;
    Ok(outcome.holds())
}

fn words(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn say_sale(system: &System, args: &DemoArgs, sale: SaleId, more: &str) {
    eprintln!(
        "Sale {sale}: {} units{more}, {} buyers within {}, drained at {} orders/s ({} back end, {})",
        args.stock,
        args.buyers,
        words(args.arrival),
        args.drain_rate,
        system.backend_name,
        system.server
    );
}

/// Sends the buyers, waits for the drain, and looks every order up.
async fn play(system: &System, args: &DemoArgs, sale: SaleId) -> Result<Outcome> {
    let mut session = session(system, args, sale).await?;
    say_sale(system, args, sale, "");
    let mut line = LiveLine::new(session.watched.clone());
    let played: Played = tokio::select! {
        played = session.play_in_detail() => played?,
        never = line.show() => match never {},
    };
    Outcome::of(args, system.backend_name, played)
}

async fn open_sale(system: &System, args: &DemoArgs) -> Result<SaleId> {
    let mut sale = demo_sale("Demo", args.stock);
    if args.lifecycle {
        sale.price_cents = lifecycle::PRICE_CENTS;
        sale.payment_window_ms = u64::try_from(args.payment_window.as_millis()).ok();
    }
    let admin = Client::new(system.server.clone())?.admin(system.admin_token.clone());
    let created = sales::create_once(&admin, &sale, &uuid::Uuid::now_v7().to_string()).await?.sale;
    if created.epoch == 0 {
        bail!("the gate could not be filled for the sale; is Redis there? see the log above");
    }
    Ok(created.id)
}

/// Makes the tokens and opens the connections.
async fn session(system: &System, args: &DemoArgs, sale: SaleId) -> Result<Session> {
    let everyone = Plan::spread(u64::from(args.buyers), 1, args.arrival);
    let plan = Plan { retry_ratio: args.retry_ratio, seed: sale.0, ..everyone };
    let sign = |user| secrets::sign(&system.jwt_secret, UserId(user), TOKEN_TTL).unwrap_or_default();
    let tokens = Tokens::sign(&plan, sign)?;
    let target = Target::parse(system.server.as_str())?;
    let clients = Clients::connect(target, CONNECTIONS).await.context("the buyers cannot connect")?;
    let sale = SaleReport { id: sale.0, stock: Some(args.stock.into()), created: true };
    Ok(Session {
        watched: Watched::sampling_every(SAMPLE_EVERY),
        drain_stall: STALLED,
        say: Box::new(|text| tracing::warn!(text, "the demo met an obstacle and goes on")),
        ..Session::new(plan, clients, tokens, sale)
    })
}
