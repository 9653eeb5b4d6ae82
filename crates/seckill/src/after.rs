//! What runs beside a worker for orders after their commit: expiry, the relay of events, the subscribers that are part of seckill,
//! and the steps of refunds.

use std::sync::Arc;

use seckill_core::{Backend, Bank};
use seckill_events::{gauges, relay, subscribers};
use seckill_lifecycle::{expire, pay};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::lab::Faults;
use crate::refund_steps;
use crate::worker_parts::AfterConfig;

/// Runs all of it until `shutdown`. None of it can be left in a bad state: each step is one transaction, or is done again. Without a
/// `bank` nothing is paid by card; `faults` are those of a demonstration.
pub(crate) async fn run(
    backend: Backend,
    config: AfterConfig,
    bank: Option<Arc<dyn Bank>>,
    faults: Option<Faults>,
    shutdown: CancellationToken,
) {
    let AfterConfig { expiry, rules } = config;
    seckill_lifecycle::show_counters();
    let mut running = JoinSet::new();
    running.spawn(expire::run(backend.clone(), expiry, shutdown.clone()));
    let mut readers = subscribers::all();
    readers.extend(refund_steps::all(rules, bank.clone()));
    let names = readers.iter().map(|reader| reader.name()).collect();
    running.spawn(gauges::run(backend.clone(), names, shutdown.clone()));
    let relay = relay(backend.clone(), faults, shutdown.clone());
    running.spawn(seckill_events::run(backend.clone(), readers, relay, shutdown.clone()));
    if let Some(bank) = bank {
        running.spawn(pay::look_after(backend, bank, shutdown));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "a part of what runs beside the worker panicked");
        }
    }
}

async fn relay(backend: Backend, faults: Option<Faults>, shutdown: CancellationToken) {
    let start = || relay::run(backend.clone(), shutdown.clone());
    match faults {
        Some(faults) => faults.keep_relay(start, &shutdown).await,
        None => start().await,
    }
}
