//! What runs beside a worker for orders after their commit: expiry, the relay of events, and the subscribers that are part of
//! seckill.

use seckill_core::Backend;
use seckill_events::{relay, subscribers};
use seckill_lifecycle::expire;
use tokio_util::sync::CancellationToken;

/// Runs all of it until `shutdown`. None of it can be left in a bad state: each step is one transaction, or is done again.
pub(crate) async fn run(backend: Backend, expiry: expire::Config, shutdown: CancellationToken) {
    tokio::join!(
        expire::run(backend.clone(), expiry, shutdown.clone()),
        relay::run(backend.clone(), shutdown.clone()),
        subscribers::run(backend, shutdown),
    );
}
