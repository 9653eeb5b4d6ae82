//! The sending half of the bus: one channel, one event at a time, each confirmed by itself.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use seckill_core::{Dependency, EventMessage, EventPublisher, Fault, LedgerId};

use super::topology::routing_key;
use super::{Shared, of_events};
use crate::queue::connection::Lane;
use crate::queue::publisher::{self, confirming_lane, send_to};
use crate::queue::step::{BLOCKED, unavailable};
use crate::queue::topology::EVENTS;

/// Owns its channel: on a shared one, two tasks can be given each other's confirm.
pub(super) struct RabbitEventPublisher {
    lane: Lane,
    shared: Arc<Shared>,
    ledger: LedgerId,
    /// After a fault a confirm may still be under way on this channel; nothing more is sent on it.
    spent: bool,
}

impl RabbitEventPublisher {
    pub(super) async fn open(shared: Arc<Shared>, ledger: LedgerId) -> Result<Self, Fault> {
        let lane = confirming_lane(&shared.publishing).await?;
        Ok(Self { lane, shared, ledger, spent: false })
    }

    fn check(&self) -> Result<(), Fault> {
        self.shared.identity.known(Dependency::Events)?;
        if self.spent || !self.lane.is_open() {
            return Err(unavailable("the connection to RabbitMQ is lost"));
        }
        if self.lane.is_blocked() { Err(unavailable(BLOCKED)) } else { Ok(()) }
    }
}

#[async_trait]
impl EventPublisher for RabbitEventPublisher {
    async fn publish(&mut self, event: &EventMessage) -> Result<(), Fault> {
        self.check().map_err(of_events)?;
        // Whatever happens from here on, cancellation included, the event may be on its way.
        self.spent = true;
        // Not mandatory: an event that nobody wants is dropped.
        let (to, options) =
            ((EVENTS.into(), routing_key(self.ledger, &event.kind)), BasicPublishOptions::default());
        match send_to(&self.lane, to, options, event.text.as_bytes(), properties(event)).await {
            Ok(()) => {
                self.spent = false;
                Ok(())
            }
            Err(reason) => {
                // Perhaps the exchange was deleted; a new connection declares it again.
                self.shared.publishing.discard(&self.lane).await;
                Err(Fault::unknown(Dependency::Events, reason.into_reason()))
            }
        }
    }
}

pub(super) fn properties(event: &EventMessage) -> BasicProperties {
    publisher::properties(event.id.to_string().into())
        .with_content_type("application/cloudevents+json".into())
        .with_type(event.kind.as_str().into())
}
