//! An event bus on which events come twice, and whose subscriber [`AWAY`] goes away.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{
    DeliveryTag, Dependency, EventBus, EventDelivery, EventMessage, EventPattern, EventPublisher, Fault,
    FaultKind, SubscriberName, Subscription, Waiting,
};

use super::InjectedFaults;

/// The subscriber that goes away. It wants most of what happens to an order, so what waits for it grows in every demonstration.
pub(crate) const AWAY: &str = "notifications";

pub(super) struct FaultyBus {
    inner: Arc<dyn EventBus>,
    faults: Arc<InjectedFaults>,
}

impl FaultyBus {
    pub(super) fn new(inner: &Arc<dyn EventBus>, faults: &Arc<InjectedFaults>) -> Self {
        Self { inner: Arc::clone(inner), faults: Arc::clone(faults) }
    }
}

#[async_trait]
impl EventBus for FaultyBus {
    async fn publisher(&self) -> Result<Box<dyn EventPublisher>, Fault> {
        let inner = self.inner.publisher().await?;
        Ok(Box::new(Doubling { inner, faults: Arc::clone(&self.faults) }))
    }

    async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, Fault> {
        let inner = self.inner.subscribe(name, patterns, prefetch).await?;
        if name.as_str() != AWAY {
            return Ok(inner);
        }
        Ok(Box::new(Leaving {
            bus: Arc::clone(&self.inner),
            faults: Arc::clone(&self.faults),
            name: name.clone(),
            patterns: patterns.to_vec(),
            prefetch,
            inner: Some(inner),
        }))
    }

    async fn unsubscribe(&self, name: &SubscriberName) -> Result<bool, Fault> {
        self.inner.unsubscribe(name).await
    }

    async fn waiting(&self, name: &SubscriberName) -> Result<Option<Waiting>, Fault> {
        self.inner.waiting(name).await
    }

    async fn redrive_parked(&self, name: &SubscriberName) -> Result<u64, Fault> {
        self.inner.redrive_parked(name).await
    }
}

/// Publishes some events twice.
struct Doubling {
    inner: Box<dyn EventPublisher>,
    faults: Arc<InjectedFaults>,
}

#[async_trait]
impl EventPublisher for Doubling {
    async fn publish(&mut self, event: &EventMessage) -> Result<(), Fault> {
        self.inner.publish(event).await?;
        if self.faults.hits(FaultKind::DoubledEvents) { self.inner.publish(event).await } else { Ok(()) }
    }
}

/// A subscription that is given up while the fault lasts, with all that it has in hand, and taken up again afterwards.
struct Leaving {
    bus: Arc<dyn EventBus>,
    faults: Arc<InjectedFaults>,
    name: SubscriberName,
    patterns: Vec<EventPattern>,
    prefetch: u16,
    /// `None` while it is away.
    inner: Option<Box<dyn Subscription>>,
}

impl Leaving {
    async fn present(&mut self) -> Result<&mut Box<dyn Subscription>, Fault> {
        match &mut self.inner {
            Some(inner) => Ok(inner),
            none => Ok(none.insert(self.bus.subscribe(&self.name, &self.patterns, self.prefetch).await?)),
        }
    }

    fn in_hand(&mut self) -> Result<&mut Box<dyn Subscription>, Fault> {
        let gone = || Fault::unavailable(Dependency::Events, "the subscriber is away");
        self.inner.as_mut().ok_or_else(gone)
    }
}

#[async_trait]
impl Subscription for Leaving {
    async fn next(&mut self) -> Result<EventDelivery, Fault> {
        loop {
            if self.faults.is_on(FaultKind::SubscriberAway) {
                self.inner = None;
                tracing::warn!(subscriber = %self.name, "a subscriber is away, as the dashboard has ordered");
                self.faults.over(FaultKind::SubscriberAway).await;
            }
            let faults = Arc::clone(&self.faults);
            let inner = self.present().await?;
            tokio::select! {
                next = inner.next() => return next,
                () = faults.begun(FaultKind::SubscriberAway) => {}
            }
        }
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        self.in_hand()?.ack(tag).await
    }

    async fn park(&mut self, delivery: EventDelivery, reason: &str) -> Result<(), Fault> {
        self.in_hand()?.park(delivery, reason).await
    }
}
