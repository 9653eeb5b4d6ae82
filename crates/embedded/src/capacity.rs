//! Capacity leases in memory. There is one process, and its worker ends with it: leases are never lost while somebody uses one.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use seckill_core::capacity::{CapacityGrant, CapacityRequest, CapacityTable};
use seckill_core::{CapacityLeases, Fault};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) struct LocalLeases {
    /// Held only to read or change.
    table: Mutex<CapacityTable>,
    started: Instant,
}

impl LocalLeases {
    pub(crate) fn new() -> Self {
        Self { table: Mutex::default(), started: Instant::now() }
    }
}

#[async_trait]
impl CapacityLeases for LocalLeases {
    async fn lease(&self, request: &CapacityRequest) -> Result<CapacityGrant, Fault> {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(self.table.lock().unwrap_or_else(PoisonError::into_inner).lease(now_ms, request))
    }

    async fn release(&self, worker: Uuid) -> Result<(), Fault> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).release(worker);
        Ok(())
    }
}
