//! The sending half: one channel, one batch at a time, each confirmed by itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation};
use seckill_core::{Dependency, Fault, Message, OrderBatch, Publisher, TraceParent};

use super::connection::{Lane, Link};
use super::shared::Shared;
use super::step::{BLOCKED, step, unavailable, unknown};
use super::topology::names;

/// The longest wait for a confirm; then the message's fate is unknown.
const CONFIRM: Duration = Duration::from_secs(5);

/// AMQP's word for a message that outlives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Owns its channel: on a shared one, two tasks can be given each other's confirm.
pub(super) struct RabbitPublisher {
    lane: Lane,
    shared: Arc<Shared>,
    /// Names this publisher to the intake.
    number: u64,
    /// After a fault a confirm may still be under way on this channel; nothing more is sent on it.
    spent: bool,
}

impl RabbitPublisher {
    pub(super) async fn open(link: &Link, shared: Arc<Shared>) -> Result<Self, Fault> {
        let lane = confirming_lane(link).await?;
        let number = shared.intake.number();
        Ok(Self { lane, shared, number, spent: false })
    }

    fn why_not(&self) -> String {
        if self.spent || !self.lane.is_open() {
            "the connection to RabbitMQ is lost".to_owned()
        } else if self.lane.is_blocked() {
            BLOCKED.to_owned()
        } else {
            self.shared
                .intake
                .reason()
                .unwrap_or_else(|| "another batch tries whether RabbitMQ takes it".to_owned())
        }
    }
}

#[async_trait]
impl Publisher for RabbitPublisher {
    fn accepting(&self) -> bool {
        !self.spent
            && self.lane.is_open()
            && !self.lane.is_blocked()
            && self.shared.intake.admits(self.number)
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        if !self.accepting() {
            return Err(unavailable(self.why_not()));
        }
        // A gate gives out orders only once the ledger's id is known, so what has no id carries no promise.
        let ledger_id = self.shared.identity.known(Dependency::Queue)?;
        let message = Message::write(batch, ledger_id);
        // Whatever happens from here on, cancellation included, the message may be on its way. Only the one good end
        // takes this back.
        self.spent = true;
        let properties = properties(batch.batch_id.to_string().into());
        let properties = match batch.traceparent {
            Some(parent) => properties.with_headers(traced(parent)),
            None => properties,
        };
        match send(&self.lane, names::ORDERS, message.as_bytes(), properties).await {
            Ok(()) => {
                self.spent = false;
                self.shared.intake.took(self.number);
                Ok(())
            }
            Err(NotSent::Refused(reason)) => {
                self.shared.intake.refused(self.number, &reason);
                // A queue that refuses a message does not have it. All the same this is an unknown end: the orders stay
                // reserved and pending, and are sent again later, so that a refused batch is a delayed one.
                Err(unknown(reason))
            }
            Err(NotSent::Lost(reason)) => Err(unknown(reason)),
        }
    }
}

impl Drop for RabbitPublisher {
    fn drop(&mut self) {
        self.shared.intake.left(self.number);
    }
}

/// Why a message has no confirm.
pub(crate) enum NotSent {
    /// The broker is there, and refused the message or did not confirm it in time.
    Refused(String),
    Lost(String),
}

impl NotSent {
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Refused(reason) | Self::Lost(reason) => reason,
        }
    }
}

/// A channel on which every message is confirmed.
pub(crate) async fn confirming_lane(link: &Link) -> Result<Lane, Fault> {
    let lane = link.open().await?;
    step("confirm messages", lane.channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(lane)
}

/// Sends one message to the exchange `name`, whose queue has the same name, and waits until it is confirmed. What no queue is
/// bound for is confirmed, too, and waits in the queue for the unrouted.
pub(super) async fn send(
    lane: &Lane,
    name: &'static str,
    message: &[u8],
    properties: BasicProperties,
) -> Result<(), NotSent> {
    send_to(lane, (name.into(), name.into()), BasicPublishOptions::default(), message, properties).await
}

/// Sends one message to an exchange under a routing key, and waits until it is confirmed.
pub(crate) async fn send_to(
    lane: &Lane,
    (exchange, key): (ShortString, ShortString),
    options: BasicPublishOptions,
    message: &[u8],
    properties: BasicProperties,
) -> Result<(), NotSent> {
    let sending =
        async { lane.channel.basic_publish(exchange, key, options, message, properties).await?.await };
    match tokio::time::timeout(CONFIRM, sending).await {
        // What was returned, because it was mandatory and no queue was bound for it, is no success.
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(Confirmation::Nack(_))) => Err(NotSent::Refused(
            "RabbitMQ refused a message: the queue is at its length limit, or has failed".to_owned(),
        )),
        Ok(Ok(other)) => Err(NotSent::Lost(format!("RabbitMQ answered {other:?} instead of a confirm"))),
        Ok(Err(error)) => Err(NotSent::Lost(format!("RabbitMQ was lost before it confirmed: {error}"))),
        Err(_) => Err(NotSent::Refused(format!("RabbitMQ did not confirm within {CONFIRM:?}"))),
    }
}

/// The header for tools that follow traces through RabbitMQ; seckill itself reads the message.
fn traced(parent: TraceParent) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.to_string().into()));
    headers
}

/// Of a message that outlives a restart of the broker and never expires.
pub(crate) fn properties(id: ShortString) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(id)
        .with_timestamp(seckill_core::now().timestamp().unsigned_abs())
}
