//! The long-running roles, gateway and worker, and the migration before them.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use clap::CommandFactory;
use clap::error::ErrorKind;
use seckill_core::{Dependency, Mode};
use seckill_gateway::http::health::Health;
use seckill_gateway::server;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, GatewayArgs, MigrateArgs, WorkerArgs};
use crate::dashboard::Stand;
use crate::house::House;
use crate::options::BackendKind;
use crate::worker_task::WorkerProcess;
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
    let address = listener.local_addr()?;
    let (backend, secrets) = wiring::backend(&args.backend, &args.secrets).await?;
    tracing::info!(%address, backend = backend.name, mode = ?args.gateway.mode, "the gateway takes orders");
    let config = args.gateway.config(secrets);
    if config.mode == Mode::Direct {
        seckill_gateway::run(listener, backend, config, Router::new(), prometheus, shutdown).await;
        return Ok(ExitCode::SUCCESS);
    }
    let demo = args.dashboard.demo;
    let direct = if demo { wiring::direct(&args.backend, &config).await? } else { None };
    // The embedded back end is this process's alone, so the worker is here too.
    let embedded = args.backend.backend == BackendKind::Embedded;
    let worker = embedded.then(|| (args.worker.config(), args.worker.pace()));
    let house = House { listener, backend, config, worker, direct, demo, prometheus };
    house.run(shutdown).await?;
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
    let address = listener.local_addr()?;
    let backend = wiring::cluster(&args.backend.cluster).await?;
    let stand = Stand::new("worker", address, args.dashboard.demo);
    tracing::info!(%address, drain_rate = %args.worker.drain_rate, "the worker drains");
    let pace = Arc::new(args.worker.pace());
    let handle = Arc::new(WorkerProcess::new(Arc::clone(&pace)));
    stand.report(false, &backend, prometheus.clone(), Some(handle));
    let health = Health::new(backend.clone(), WORKER_NEEDS, shutdown.clone(), prometheus);
    let close = CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, health.router(), 64, close.clone()));
    seckill_worker::run(stand.backend(&backend), args.worker.config(), pace, shutdown).await;
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
