//! Orders that were not paid in time: their units go back on sale. Expiry has a rate of its own, so that it does not take part of
//! the drain rate, and the line of commits stays flat while orders expire.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use seckill_core::{Backend, CancelReason, Fault, OrderId, Overdue};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::change::{self, Locked};

/// Orders that one transaction cancels, at the most.
const BATCH: NonZeroU32 = NonZeroU32::new(500).expect("500 is not zero");
/// How long to wait where nothing is overdue.
const IDLE: Duration = Duration::from_millis(250);
/// How long to wait after a fault.
const AWAY: Duration = Duration::from_secs(1);

/// How orders expire.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Orders a second that one process lets expire.
    pub rate: NonZeroU32,
}

impl Config {
    /// 100,000 overdue orders in 17 s.
    pub const DEFAULT_RATE: NonZeroU32 = NonZeroU32::new(6_000).expect("6,000 is not zero");
}

impl Default for Config {
    fn default() -> Self {
        Self { rate: Self::DEFAULT_RATE }
    }
}

/// Cancels overdue orders until `shutdown`, through every fault. Several processes may do so at once: an order that one of them
/// has locked is left out by the others.
pub async fn run(backend: Backend, config: Config, shutdown: CancellationToken) {
    let expiry = Expiry::new(backend, config);
    let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(expiry.go_on()).await;
}

struct Expiry {
    backend: Backend,
    limit: DefaultDirectRateLimiter,
    batch: NonZeroU32,
}

impl Expiry {
    fn new(backend: Backend, config: Config) -> Self {
        let batch = BATCH.min(config.rate);
        let limit = RateLimiter::direct(Quota::per_second(config.rate).allow_burst(batch));
        Self { backend, limit, batch }
    }

    async fn go_on(&self) -> std::convert::Infallible {
        // Where the last page ended. Orders before it that were locked are found in the next round.
        let mut after = None;
        loop {
            match self.page(after).await {
                Ok(Some(last)) => after = Some(last),
                Ok(None) if after.take().is_some() => {}
                Ok(None) => sleep(IDLE).await,
                Err(fault) => {
                    tracing::warn!(error = %fault, "overdue orders cannot be cancelled");
                    after = None;
                    sleep(AWAY).await;
                }
            }
        }
    }

    /// Cancels the overdue orders that come next; the last of them, or `None` where there is none.
    async fn page(&self, after: Option<Overdue>) -> Result<Option<Overdue>, Fault> {
        let overdue = self.backend.lifecycle.overdue(after, self.batch.get()).await?;
        let Some(last) = overdue.last().copied() else { return Ok(None) };
        let count = u32::try_from(overdue.len()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        self.limit.until_n_ready(count.min(self.batch)).await.expect("a page is no larger than the burst");
        let ids: Vec<OrderId> = overdue.iter().map(|order| order.order_id).collect();
        let ledger = self.backend.ledger.id().await?;
        change::cancel(&self.backend, ledger, &ids, CancelReason::Expired, Locked::Skip).await?;
        Ok(Some(last))
    }
}
