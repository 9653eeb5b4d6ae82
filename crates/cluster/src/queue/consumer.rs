//! The receiving half: one channel, batches one by one, and messages that cannot be read parked.

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use seckill_core::{Consumer, Delivery, DeliveryTag, Fault, MAX_BATCH_ORDERS, OrderBatch};

use super::connection::{Lane, Link};
use super::{STEP, step, topology::names, unavailable, unknown};

/// Seconds from 1970 to the first moment that a column for times cannot hold.
const YEAR_10000: i64 = 253_402_300_800;

/// Dropping it closes the channel, and with that hands everything unacknowledged back to the queue.
pub(super) struct RabbitConsumer {
    messages: lapin::Consumer,
    lane: Lane,
}

impl RabbitConsumer {
    pub(super) async fn open(link: &Link, prefetch: u16) -> Result<Self, Fault> {
        let lane = link.open().await?;
        // 0 would mean "without a limit", and the client buffers all that comes.
        let limit = lane.channel.basic_qos(prefetch.max(1), BasicQosOptions::default());
        step("limit the prefetch", limit).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = lane.channel.basic_consume(names::ORDERS.into(), "".into(), options, arguments);
        match step("let the queue be consumed", consume).await {
            Ok(messages) => Ok(Self { messages, lane }),
            Err(fault) => {
                // Perhaps the queue was deleted; a new connection declares it again.
                link.discard(&lane).await;
                Err(fault)
            }
        }
    }

    async fn park(&self, message: &lapin::message::Delivery, why: &str) -> Result<(), Fault> {
        metrics::counter!("seckill_parked_messages_total").increment(1);
        let id = message.properties.message_id().as_ref().map(|id| id.as_str());
        tracing::error!(
            message_id = id,
            bytes = message.data.len(),
            why,
            "parked a message that cannot be read"
        );
        // The frame is queued at the first poll, before anything can cancel this.
        let options = BasicRejectOptions { requeue: false };
        step("park a message", self.lane.channel.basic_reject(message.delivery_tag, options)).await
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        loop {
            // Cancelled here, nothing has been taken.
            let message = match self.messages.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(unavailable(format!("RabbitMQ was lost: {error}"))),
                None => return Err(unavailable("RabbitMQ ended the subscription to the queue")),
            };
            match read(&message.data) {
                Ok(batch) => return Ok(Delivery { batch, tag: DeliveryTag(message.delivery_tag) }),
                Err(why) => self.park(&message, &why).await?,
            }
        }
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        if !self.lane.is_open() {
            return Err(unavailable("the connection to RabbitMQ is lost; the delivery will come again"));
        }
        let ack = self.lane.channel.basic_ack(tag.0, BasicAckOptions { multiple: false });
        match tokio::time::timeout(STEP, ack).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unknown(format!("RabbitMQ was lost before it took an ack: {error}"))),
            Err(_) => Err(unknown(format!("RabbitMQ did not take an ack within {STEP:?}"))),
        }
    }
}

/// Reads one message; otherwise says why it is none of ours.
fn read(message: &[u8]) -> Result<OrderBatch, String> {
    let batch: OrderBatch = serde_json::from_slice(message).map_err(|error| error.to_string())?;
    let orders = batch.orders.len();
    if !(1..=MAX_BATCH_ORDERS).contains(&orders) {
        return Err(format!("it has {orders} orders; allowed are 1 to {MAX_BATCH_ORDERS}"));
    }
    // A time that the ledger cannot hold would have the whole batch refused for ever.
    match batch.orders.iter().find(|order| !(0..YEAR_10000).contains(&order.accepted_at.timestamp())) {
        Some(order) => Err(format!("order {} was accepted at {}", order.order_id, order.accepted_at)),
        None => Ok(batch),
    }
}

#[cfg(test)]
mod tests {
    use seckill_core::{Claim, OrderId, SaleId, UserId, now};

    use super::*;

    fn message(orders: usize) -> Vec<u8> {
        let order =
            || Claim { order_id: OrderId::generate(), user_id: UserId(1), quantity: 1, accepted_at: now() };
        let batch = OrderBatch::new(SaleId(1), 1, (0..orders).map(|_| order()).collect());
        serde_json::to_vec(&batch).unwrap()
    }

    #[test]
    fn only_what_seckill_writes_is_read() {
        assert_eq!(read(&message(MAX_BATCH_ORDERS)).unwrap().orders.len(), MAX_BATCH_ORDERS);
        assert!(read(&message(0)).unwrap_err().contains("allowed are 1 to 256"));
        assert!(read(&message(MAX_BATCH_ORDERS + 1)).is_err());
        assert!(read(b"no json").is_err());
        let future =
            String::from_utf8(message(1)).unwrap().replace("\"accepted_at\":\"20", "\"accepted_at\":\"+120");
        assert!(read(future.as_bytes()).unwrap_err().contains("was accepted at"));
    }
}
