//! The drain side: takes accepted orders off the queue and writes them into the ledger at the drain rate.
//!
//! [`drain`] holds one lane's step and its loop, [`pace`] the drain rate, `rebuild` what fills a lost gate again. None of them
//! knows which back end it works on.

mod counters;
pub mod drain;
mod held;
pub mod pace;
mod rebuild;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use seckill_core::Backend;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use held::HeldByWorker;
use rebuild::Rebuilder;

pub use drain::{Lane, Progress, Step};
pub use pace::{AutoBounds, MAX_BATCH, Pace};
pub use seckill_core::DrainRate;

/// How a worker drains.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Lanes that commit side by side, 1 or more; each has a consumer and a ledger connection of its own.
    pub lanes: usize,
    /// How long a lane waits for its batch to fill once it holds an order.
    pub linger: Duration,
    /// Unacknowledged batches a lane may hold, 1 or more.
    pub prefetch: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self { lanes: 2, linger: Duration::from_millis(20), prefetch: 256 }
    }
}

/// Drains until `shutdown`, through every fault of the queue and the ledger, and rebuilds gates that are lost. Returns once no
/// commit is under way; what was not acknowledged by then goes back to the queue.
///
/// Boxed, so that it is compiled with this crate and not again with each one that waits for it.
pub fn run(
    backend: Backend,
    config: Config,
    pace: Arc<Pace>,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(run_until(backend, config, pace, shutdown))
}

async fn run_until(backend: Backend, config: Config, pace: Arc<Pace>, shutdown: CancellationToken) {
    counters::show();
    let (worker, held) = (Uuid::now_v7(), HeldByWorker::default());
    let (rebuilder, turn) = Rebuilder::new(&backend, config, Arc::clone(&pace), shutdown.clone(), worker);
    let spawn = |lanes: &mut JoinSet<()>| {
        let (pace, turn) = (Arc::clone(&pace), Some(turn.clone()));
        let lane = Lane::beside(&backend, config, pace, shutdown.clone(), turn, held.lane());
        lanes.spawn(lane.run());
    };
    let mut lanes = JoinSet::new();
    for _ in 0..config.lanes.max(1) {
        spawn(&mut lanes);
    }
    let drain = async {
        while let Some(ended) = lanes.join_next().await {
            if let Err(panic) = ended {
                // The lane's consumer went with it, so what it held is back in the queue. A pause, so that a batch which
                // panics every time cannot take the processor with it.
                tracing::error!(error = %panic, "a worker lane panicked and is started again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                spawn(&mut lanes);
            }
        }
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(drain, rebuilder.run()) } => {}
        () = held.report(&*backend.gate, worker) => {}
        () = pace.keep_share(&*backend.capacity) => {}
    }
    pace.give_back(&*backend.capacity).await;
}
