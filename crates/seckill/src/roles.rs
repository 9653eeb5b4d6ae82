//! The long-running roles, gateway and worker, and the migration before them.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::error::ErrorKind;
use seckill_core::Dependency;
use seckill_gateway::http::health::Health;
use seckill_gateway::server;
use tokio::net::TcpListener;

use crate::cli::{Cli, GatewayArgs, MigrateArgs, WorkerArgs};
use crate::options::BackendKind;
use crate::{exit, telemetry, wiring};

/// Listens on `address`, and says what to do when it cannot.
pub(crate) async fn listen(address: &str, flag: &str) -> Result<TcpListener> {
    let hint =
        || format!("cannot listen on {address}; is another program there? choose an address with {flag}");
    TcpListener::bind(address).await.with_context(hint)
}

/// `seckill gateway`
pub(crate) async fn gateway(args: GatewayArgs) -> Result<ExitCode> {
    let shutdown = telemetry::shutdown_on_signal()?;
    let prometheus = telemetry::metrics()?;
    let listener = listen(&args.gateway.listen, "--listen").await?;
    let (backend, secrets) = wiring::backend(&args.backend, &args.secrets).await?;
    tracing::info!(address = %listener.local_addr()?, backend = backend.name, "the gateway takes orders");
    let config = args.gateway.config(secrets);
    // The embedded back end is this process's alone, so the worker is here too. It goes on for as long as the gateway
    // answers, and stops after it.
    let worker = (args.backend.backend == BackendKind::Embedded).then(|| {
        let pace = Arc::new(args.worker.pace());
        let stop = tokio_util::sync::CancellationToken::new();
        let worker = seckill_worker::run(backend.clone(), args.worker.config(), pace, stop.clone());
        (tokio::spawn(worker), stop)
    });
    seckill_gateway::run(listener, backend, config, prometheus, shutdown).await;
    if let Some((worker, stop)) = worker {
        stop.cancel();
        worker.await.context("the worker panicked")?;
    }
    tracing::info!("the gateway has answered everyone and ends");
    Ok(ExitCode::SUCCESS)
}

/// Without its queue or its ledger a worker has nothing to do. It never asks the gate.
const WORKER_NEEDS: &[Dependency] = &[Dependency::Queue, Dependency::Ledger];

/// `seckill worker`
pub(crate) async fn worker(args: WorkerArgs) -> Result<ExitCode> {
    if args.backend.backend == BackendKind::Embedded {
        let hint = "the embedded back end lives in the gateway's process, and so does its worker: run `seckill gateway`, \
                    or give --backend cluster";
        eprintln!("{}", Cli::command().error(ErrorKind::ArgumentConflict, hint));
        std::process::exit(exit::USAGE);
    }
    let shutdown = telemetry::shutdown_on_signal()?;
    let prometheus = telemetry::metrics()?;
    let listener = listen(&args.listen, "--listen").await?;
    let backend = wiring::cluster(&args.backend.cluster).await?;
    tracing::info!(address = %listener.local_addr()?, drain_rate = %args.worker.drain_rate, "the worker drains");
    let health = Health::new(backend.clone(), WORKER_NEEDS, shutdown.clone(), prometheus);
    let close = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, health.router(), 64, close.clone()));
    seckill_worker::run(backend, args.worker.config(), Arc::new(args.worker.pace()), shutdown).await;
    close.cancel();
    server.await.context("the health server panicked")?;
    tracing::info!("the worker has finished its commits and ends");
    Ok(ExitCode::SUCCESS)
}

/// `seckill migrate`
pub(crate) async fn migrate(args: &MigrateArgs) -> Result<ExitCode> {
    wiring::migrate(&args.cluster).await?;
    eprintln!("the database has this version's schema");
    Ok(ExitCode::SUCCESS)
}
