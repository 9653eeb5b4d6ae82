//! The commands that run on the back end: gateway, worker, migration.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use seckill_core::{Dependency, Mode};
use seckill_gateway::http::health::Health;
use seckill_gateway::{Doors, server};
use seckill_lifecycle::Service;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cli::{self, GatewayArgs, MigrateArgs, WorkerArgs};
use crate::gateway_process::GatewayProcess;
use crate::lab::Lab;
use crate::options::{BackendKind, GatewayMode};
use crate::worker_parts::AfterConfig;
use crate::worker_task::{DrainSettings, WorkerProcess};
use crate::{access, after, backend, greeting, parent, reporting, telemetry};

/// Listens on `address`.
///
/// # Errors
/// The address cannot be used; the message names the flag for another one.
pub(crate) async fn listen(address: &str, flag: &str) -> Result<TcpListener> {
    let hint =
        || format!("cannot listen on {address}; is another program there? choose an address with {flag}");
    TcpListener::bind(address).await.with_context(hint)
}

/// `seckill gateway`
pub(crate) async fn gateway(args: GatewayArgs) -> Result<ExitCode> {
    let hurry = CancellationToken::new();
    let shutdown = telemetry::shutdown_on_signals(hurry.clone())?;
    let prometheus = telemetry::metrics()?;
    let listener = listen(&args.gateway.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let (backend, access) = access::open(&args.backend, &args.secrets, &args.access, args.demo.demo).await?;
    let admin = match &args.limits.admin_listen {
        Some(address) => Some(listen(address, "--admin-listen").await?),
        None => None,
    };
    let config = args.gateway.config(access.buyers, access.admins);
    let config = args.limits.apply(config, args.backend.backend)?;
    let mut config = seckill_gateway::Config { hurry, ticket_keys: args.gateway.ticket_keys()?, ..config };
    let mode = args.gateway.mode;
    if mode == GatewayMode::Queue && !args.log.json {
        let page = admin.as_ref().map_or(Ok(address), TcpListener::local_addr)?;
        // The listener for whatever is not for buyers has no HTTPS.
        eprint!("{}", greeting::of(&args, page, admin.is_none() && config.tls.is_some())?);
    }
    if let Some(admin) = &admin {
        tracing::info!(admin_address = %admin.local_addr()?, "whatever is not for buyers is served here only");
    }
    tracing::info!(%address, backend = backend.name, ?mode, "the gateway takes orders");
    if args.with_parent {
        parent::attach(address, shutdown.clone())?;
    }
    match access.shared_secret {
        Some(secret) => config.admission_secret = secret,
        None => tracing::warn!(
            "there is no shared secret: challenges, and tickets without --ticket-keys-file, are good at this gateway only"
        ),
    }
    if config.mode == Mode::Direct {
        let orders = Arc::new(Service::new(backend.clone(), args.money.bank()?));
        let doors = Doors { listener, public: Router::new(), admin, pages: Router::new() };
        seckill_gateway::run_with(doors, backend, orders, config, prometheus, shutdown).await;
        return Ok(ExitCode::SUCCESS);
    }
    if args.demo.demo {
        tracing::warn!(
            "demonstration controls are on: the page can send load and cause faults; never for real sales"
        );
    }
    let lab = match access.secrets {
        Some(secrets) => Lab::of_gateway(&args.backend, secrets, args.log.json).await,
        None => None,
    };
    // Only one process can use the embedded back end, so this one runs the worker, too.
    let embedded = args.backend.backend == BackendKind::Embedded;
    let (bank, bank_secret) = (args.money.bank()?, args.money.bank_secret()?);
    let after = AfterConfig { expiry: args.worker.expiry(), rules: args.money.rules() };
    let worker = embedded.then(|| args.worker.parts(after));
    let process = GatewayProcess {
        listener,
        admin,
        backend,
        config,
        bank,
        bank_secret,
        worker,
        lab,
        prometheus,
        first_page: None,
    };
    process.run(shutdown).await?;
    tracing::info!("the gateway has answered everyone and ends");
    Ok(ExitCode::SUCCESS)
}

/// A worker is ready only with its queue and its ledger. It does not use the gate.
const WORKER_NEEDS: &[Dependency] = &[Dependency::Queue, Dependency::Ledger];

/// `seckill worker`
pub(crate) async fn worker(args: WorkerArgs) -> Result<ExitCode> {
    if args.backend.backend == BackendKind::Embedded {
        let hint = "the embedded back end lives in the gateway's process, and so does its worker: run `seckill gateway`, \
                    or give --backend cluster";
        return Ok(cli::usage_error(hint));
    }
    let shutdown = telemetry::shutdown_on_signal()?;
    let prometheus = telemetry::metrics()?;
    let listener = listen(&args.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let backend = backend::cluster(&args.backend.cluster).await?;
    tracing::info!(%address, drain_rate = %args.worker.drain.drain_rate, "the worker drains");
    let pace = Arc::new(args.worker.pace());
    let worker = Arc::new(WorkerProcess::new(Arc::clone(&pace)));
    let (identity, mut lab) =
        (reporting::identity("worker", address), Lab::of(args.demo.demo, &args.backend));
    let handler = match &lab {
        Some(lab) => lab.settings_handler(identity.process, Some(Arc::clone(&worker))),
        None => DrainSettings::handler(Arc::clone(&pace)),
    };
    let told = watch::Sender::default();
    let reported =
        reporting::Reported { worker: Some(worker), handler: Some(handler), readiness: told.subscribe() };
    reporting::start(identity, false, &backend, prometheus.clone(), reported);
    let health = Arc::new(Health::new(backend.clone(), WORKER_NEEDS, shutdown.clone(), prometheus));
    let telling = Arc::clone(&health);
    tokio::spawn(async move { telling.tell(&told).await });
    let close = CancellationToken::new();
    let limits = server::Limits::default();
    let server = tokio::spawn(server::serve(listener, health.router(), limits, close.clone()));
    let used = lab.as_ref().map_or_else(|| backend.clone(), |lab| lab.wrap(&backend));
    let bank = match &mut lab {
        Some(lab) => lab.wrap_bank(args.money.bank()?),
        None => args.money.bank()?,
    };
    let after = AfterConfig { expiry: args.worker.expiry(), rules: args.money.rules() };
    let faults = lab.as_ref().map(Lab::faults);
    let after = after::run(used.clone(), after, bank, faults, shutdown.clone());
    tokio::join!(seckill_worker::run(used, args.worker.config(), pace, shutdown), after);
    close.cancel();
    server.await.context("the health server panicked")?;
    tracing::info!("the worker has finished its commits and ends");
    Ok(ExitCode::SUCCESS)
}

/// `seckill migrate`
pub(crate) async fn migrate(args: &MigrateArgs) -> Result<ExitCode> {
    backend::migrate(&args.mysql).await?;
    eprintln!("the database has this version's schema");
    Ok(ExitCode::SUCCESS)
}
