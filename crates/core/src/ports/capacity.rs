//! Capacity leases: how the workers of a ledger share one drain rate.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::Fault;
use crate::capacity::{CapacityGrant, CapacityRequest};

/// How long a lease lasts, by the clock of the store, from when it is given or refreshed.
pub const CAPACITY_LEASE: Duration = Duration::from_secs(3);

/// Where workers lease their shares of the drain rate. No order depends on it for its safety: it decides how fast orders are
/// written, and nothing else. A store that has lost the leases, or was out of reach for so long that they may have run out, learns
/// for one lease: each worker keeps what it says that it uses, and nobody gets more.
#[async_trait]
pub trait CapacityLeases: Send + Sync {
    /// Gives or refreshes the lease of a worker, by the rules of [`CapacityTable`](crate::capacity::CapacityTable). The answer holds
    /// for [`CAPACITY_LEASE`] from when the request was *sent*. After a fault, or without an answer, the worker goes on with what it
    /// had, until that lease ends: the store counts the larger of the two until the next request.
    async fn lease(&self, request: &CapacityRequest) -> Result<CapacityGrant, Fault>;

    /// Gives the lease of a worker back, which has stopped writing. May be called again, and by a worker that has none.
    async fn release(&self, worker: Uuid) -> Result<(), Fault>;
}
