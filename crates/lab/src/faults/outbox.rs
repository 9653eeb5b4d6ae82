//! An outbox whose relay dies after it has published events and before that is recorded: its lease ends, and they are published again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Fault, FaultKind, Outbox, OutboxDepth, OutboxEvent, OutboxState};
use uuid::Uuid;

use super::InjectedFaults;

pub(super) struct FaultyOutbox {
    inner: Arc<dyn Outbox>,
    faults: Arc<InjectedFaults>,
}

impl FaultyOutbox {
    pub(super) fn new(inner: &Arc<dyn Outbox>, faults: &Arc<InjectedFaults>) -> Self {
        Self { inner: Arc::clone(inner), faults: Arc::clone(faults) }
    }
}

#[async_trait]
impl Outbox for FaultyOutbox {
    async fn claim(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxEvent>, Fault> {
        self.inner.claim(limit, lease).await
    }

    async fn mark_sent(&self, events: &[Uuid]) -> Result<(), Fault> {
        if self.faults.is_on(FaultKind::RelayKilled) {
            self.faults.relay_dies.notify_waiters();
            // The relay is dropped while it waits here. One that nobody keeps goes on after the fault.
            self.faults.over(FaultKind::RelayKilled).await;
        }
        self.inner.mark_sent(events).await
    }

    async fn mark_failed(
        &self,
        event: Uuid,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), Fault> {
        self.inner.mark_failed(event, reason, retry_after).await
    }

    async fn list(&self, state: OutboxState, limit: u32) -> Result<Vec<OutboxEvent>, Fault> {
        self.inner.list(state, limit).await
    }

    async fn find(&self, event: Uuid) -> Result<Option<OutboxEvent>, Fault> {
        self.inner.find(event).await
    }

    async fn redrive(&self, event: Uuid) -> Result<bool, Fault> {
        self.inner.redrive(event).await
    }

    async fn discard(&self, event: Uuid) -> Result<bool, Fault> {
        self.inner.discard(event).await
    }

    async fn depth(&self) -> Result<OutboxDepth, Fault> {
        self.inner.depth().await
    }

    async fn not_taken_in(
        &self,
        consumer: &str,
        kinds: &[&str],
        ages: RangeInclusive<Duration>,
        limit: u32,
    ) -> Result<Vec<Uuid>, Fault> {
        self.inner.not_taken_in(consumer, kinds, ages, limit).await
    }

    async fn forget_sent(&self, age: Duration, limit: u32) -> Result<u64, Fault> {
        self.inner.forget_sent(age, limit).await
    }
}
