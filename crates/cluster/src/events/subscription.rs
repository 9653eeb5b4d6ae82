//! The receiving half of the bus: one channel, events one by one. What is no event is parked.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use seckill_core::{DeliveryTag, EventDelivery, EventMessage, Fault, Subscription};
use serde::Deserialize;
use uuid::Uuid;

use super::topology::Names;
use super::{Shared, of_events, parked, publisher};
use crate::queue::connection::Lane;
use crate::queue::step::{step, unavailable};

/// Dropping it closes the channel, and with that hands everything unacknowledged back to the queue.
pub(super) struct RabbitSubscription {
    messages: lapin::Consumer,
    lane: Lane,
    shared: Arc<Shared>,
    names: Names,
    /// A message that is no event, and why, until it is parked.
    unreadable: Option<(lapin::message::Delivery, String)>,
}

/// What is read of an event whose message does not say it.
#[derive(Deserialize)]
struct Envelope {
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
}

impl RabbitSubscription {
    pub(super) async fn open(
        lane: Lane,
        shared: Arc<Shared>,
        names: Names,
        prefetch: u16,
    ) -> Result<Self, Fault> {
        // 0 would mean "without a limit", and the client buffers all that comes.
        let limit = lane.channel.basic_qos(prefetch.max(1), BasicQosOptions::default());
        step("limit the prefetch", limit).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = lane.channel.basic_consume(names.queue.as_str().into(), "".into(), options, arguments);
        let messages = step("let a subscriber's queue be consumed", consume).await?;
        Ok(Self { messages, lane, shared, names, unreadable: None })
    }

    /// May be cancelled: what is not parked yet is parked by the next call.
    async fn park_unreadable(&mut self) -> Result<(), Fault> {
        let Some((message, reason)) = &self.unreadable else { return Ok(()) };
        let properties = message.properties.clone();
        parked::park(&self.shared.publishing, &self.names, &message.data, properties, reason).await?;
        self.lane.ack(message.delivery_tag).await?;
        self.unreadable = None;
        Ok(())
    }

    async fn take(&mut self) -> Result<EventDelivery, Fault> {
        loop {
            self.park_unreadable().await?;
            // Cancelled here, nothing has been taken.
            let message = match self.messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(unavailable(format!("RabbitMQ was lost: {error}"))),
                None => return Err(unavailable("RabbitMQ ended the subscription")),
            };
            match read(&message) {
                Ok(event) => {
                    return Ok(EventDelivery { message: event, tag: DeliveryTag(message.delivery_tag) });
                }
                Err(reason) => self.unreadable = Some((message, reason)),
            }
        }
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn next(&mut self) -> Result<EventDelivery, Fault> {
        self.take().await.map_err(of_events)
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        self.lane.ack(tag.0).await.map_err(of_events)
    }

    async fn park(&mut self, delivery: EventDelivery, reason: &str) -> Result<(), Fault> {
        let EventDelivery { message, tag } = delivery;
        let (text, properties) = (message.text.as_bytes(), publisher::properties(&message));
        let parked = parked::park(&self.shared.publishing, &self.names, text, properties, reason).await;
        parked.map_err(of_events)?;
        self.lane.ack(tag.0).await.map_err(of_events)
    }
}

fn read(message: &lapin::message::Delivery) -> Result<EventMessage, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("it is no CloudEvent: {error}");
    let text = std::str::from_utf8(&message.data).map_err(|error| unreadable(&error))?.to_owned();
    let id = message.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
    if let (Some(id), Some(kind)) = (id, message.properties.kind()) {
        return Ok(EventMessage { id, kind: kind.to_string(), text });
    }
    let Envelope { id, kind } = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    Ok(EventMessage { id, kind, text })
}
