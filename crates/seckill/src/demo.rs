//! `seckill demo`: the whole system in one process, a sale, its buyers over real HTTP, and the verdict.

mod audience;
mod chart;
mod curves;
mod interrupted;
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
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cli::demo::DemoArgs;
use crate::{exit, sales, secrets, telemetry, terminal};
use audience::Audience;
use interrupted::Interrupted;
use live::LiveView;
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
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown_on_signal()?;
    let once = args.once || !std::io::stdout().is_terminal();
    let (page_opened, first_page) = oneshot::channel();
    let system = System::start(&args, page_opened).await?;
    // Where nobody watches, there is nobody to wait for.
    let audience = (!once).then(|| Audience::new(first_page));
    eprintln!("Dashboard: {}", system.server);
    say(&format!("Shop: {}shop, to buy by hand", system.server));
    if args.open
        && let Err(error) = open::that_detached(system.server.as_str())
    {
        say(&format!("No browser could be started ({error}); open the address above by hand."));
    }
    let ended = match Box::pin(play_to_end(&system, &args, audience, &shutdown)).await {
        Ok(Some(holds)) => {
            if !once && !shutdown.is_cancelled() {
                eprintln!();
                say(&format!("Serving on until Ctrl-C; send load and inject faults at {}", system.server));
                shutdown.cancelled().await;
            }
            Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(exit::INVARIANT_VIOLATED) })
        }
        Ok(None) => Ok(interrupted::exit_code()),
        Err(error) => Err(error),
    };
    system.stop().await?;
    ended
}

/// Opens the sale, plays it, and prints the outcome. Returns whether every invariant held; `None`: it was ended early.
///
/// The system serves on meanwhile, so that a sale that was ended early can be audited.
async fn play_to_end(
    system: &System,
    args: &DemoArgs,
    audience: Option<Audience>,
    shutdown: &CancellationToken,
) -> Result<Option<bool>> {
    let sale = open_sale(system, args).await?;
    if let Some(audience) = audience
        && shutdown.run_until_cancelled(audience.seated()).await.is_none()
    {
        return Ok(None);
    }
    if args.lifecycle {
        say_sale(system, args, sale, &format!(", to be paid within {}", words(args.payment_window)));
        return match shutdown.run_until_cancelled(lifecycle::play(system, args, sale)).await {
            None => end_early(system, args, sale, None).await,
            Some(outcome) => {
                let outcome = outcome?;
                outcome.print(args.json)?;
                Ok(Some(outcome.holds()))
            }
        };
    }
    let played = play(system, args, sale, shutdown).await?;
    if shutdown.is_cancelled() {
        return end_early(system, args, sale, Some(&played)).await;
    }
    let outcome = Outcome::of(args, system.backend_name, played)?;
    outcome.print(args.json)?;
    Ok(Some(outcome.holds()))
}

/// Prints what was seen until now. A broken invariant is told as at the end of a demo.
async fn end_early(
    system: &System,
    args: &DemoArgs,
    sale: SaleId,
    played: Option<&Played>,
) -> Result<Option<bool>> {
    let seen = Interrupted::of(system, sale, played, verdict::limit(args.drain_rate)).await?;
    seen.print(args.json)?;
    Ok(seen.is_broken().then_some(false))
}

/// A sentence for the one who watches, on stderr.
fn say(sentence: &str) {
    eprintln!("{}", terminal::fill(sentence, terminal::stderr()));
}

fn words(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn say_sale(system: &System, args: &DemoArgs, sale: SaleId, more: &str) {
    say(&format!(
        "Sale {sale}: {} units{more}, {} buyers within {}, drained at {} orders/s ({} back end, {})",
        args.stock,
        args.buyers,
        words(args.arrival),
        args.drain_rate,
        system.backend_name,
        system.server
    ));
}

/// Sends the buyers, waits for the drain, and looks every order up, or ends early.
async fn play(
    system: &System,
    args: &DemoArgs,
    sale: SaleId,
    shutdown: &CancellationToken,
) -> Result<Played> {
    let mut session = session(system, args, sale).await?;
    session.stop = shutdown.clone();
    say_sale(system, args, sale, "");
    let mut view = LiveView::new(session.watched.clone(), args);
    Ok(tokio::select! {
        played = session.play_in_detail() => played?,
        never = view.show() => match never {},
    })
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
