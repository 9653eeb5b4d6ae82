//! The sending half: one channel, one batch at a time, each confirmed by itself.

use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use seckill_core::{Fault, OrderBatch, Publisher};

use super::connection::{Lane, Link};
use super::{BLOCKED, step, topology::names, unavailable, unknown};

/// The longest wait for a confirm; then the batch's fate is unknown.
const CONFIRM: Duration = Duration::from_secs(5);

/// AMQP's word for a message that outlives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Owns its channel: on a shared one, two tasks can be given each other's confirm.
pub(super) struct RabbitPublisher {
    lane: Lane,
    /// After a fault a confirm may still be under way on this channel; nothing more is sent on it.
    spent: bool,
}

impl RabbitPublisher {
    pub(super) async fn open(link: &Link) -> Result<Self, Fault> {
        let lane = link.open().await?;
        step("confirm messages", lane.channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { lane, spent: false })
    }

    async fn send(&self, batch: &OrderBatch, message: &[u8]) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions::default();
        let (exchange, key) = (names::ORDERS.into(), names::ORDERS.into());
        self.lane.channel.basic_publish(exchange, key, options, message, properties(batch)).await?.await
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    fn accepting(&self) -> bool {
        !self.spent && self.lane.is_open() && !self.lane.is_blocked()
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        if !self.accepting() {
            let blocked = self.lane.is_blocked();
            return Err(unavailable(if blocked { BLOCKED } else { "the connection to RabbitMQ is lost" }));
        }
        let message = serde_json::to_vec(batch)
            .map_err(|error| unavailable(format!("the batch cannot be written as JSON: {error}")))?;
        // Whatever happens from here on, cancellation included, the message may be on its way. Only the one good end
        // takes this back.
        self.spent = true;
        match tokio::time::timeout(CONFIRM, self.send(batch, &message)).await {
            // Nothing is published as mandatory, so nothing is returned. What no queue is bound for is confirmed, and
            // waits in the queue for the unrouted.
            Ok(Ok(Confirmation::Ack(None))) => {
                self.spent = false;
                Ok(())
            }
            Ok(Ok(other)) => Err(unknown(format!("RabbitMQ answered {other:?} instead of a confirm"))),
            Ok(Err(error)) => Err(unknown(format!("RabbitMQ was lost before it confirmed: {error}"))),
            Err(_) => Err(unknown(format!("RabbitMQ did not confirm within {CONFIRM:?}"))),
        }
    }
}

fn properties(batch: &OrderBatch) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(batch.batch_id.to_string().into())
}
