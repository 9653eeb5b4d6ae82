//! Messages that are newer than the worker that took them. The worker moves them to a queue of their own, so that they are in
//! nobody's way; a worker that knows their version moves them back.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use seckill_core::{AbortPoint, Fault, Message, Unread, abort_point};
use tokio::time::Instant;

use super::RabbitQueue;
use super::aside::send;
use super::connection::Lane;
use super::publisher::confirming_lane;
use super::step::{step, unavailable};
use super::topology::names;

/// Messages that are in hand at a time.
const AT_ONCE: u16 = 256;
/// Messages that one look comes by, at the most.
const LONGEST_LOOK: u32 = 10_000;
/// The longest wait for a message that another process may have taken.
const ARRIVES: Duration = Duration::from_millis(500);
/// The pause after a look that came upon a message that is newer than this program.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often, and how far apart, the messages that are left are counted until the number is the expected one.
const COUNTS: u32 = 10;
const COUNT_AGAIN: Duration = Duration::from_millis(50);

impl RabbitQueue {
    /// Messages that wait for a newer worker; a process that may have some of them in hand counts as one more.
    pub(super) async fn newer(&self) -> Result<u64, Fault> {
        let queue = self.inspect(names::NEWER).await?;
        Ok(u64::from(queue.message_count()) + u64::from(queue.consumer_count()))
    }

    /// Moves back what this program can read, and returns how many messages are left.
    pub(super) async fn move_newer_back(&self) -> Result<u64, Fault> {
        // A process that looks already does it for all who ask meanwhile.
        let Ok(mut look_at) = self.look_for_newer_at.try_lock() else { return self.newer().await };
        if look_at.is_some_and(|at| Instant::now() < at) {
            return self.newer().await;
        }
        let found = self.inspect(names::NEWER).await?;
        let ready = found.message_count();
        if ready == 0 {
            return Ok(found.consumer_count().into());
        }
        // As a consumer, which RabbitMQ counts for as long as it has messages in hand. Its channel is its own, so that what it
        // does not acknowledge goes back when the channel is closed.
        let lane = self.consuming.open().await?;
        let unread = self.move_back(&lane, ready).await?;
        step("close a channel", lane.channel.close(200, "done".into())).await?;
        *look_at = (unread > 0).then(|| Instant::now() + LOOK_AGAIN);
        // RabbitMQ counts its messages and consumers a moment late.
        for _ in 0..COUNTS {
            if self.newer().await? == unread {
                break;
            }
            tokio::time::sleep(COUNT_AGAIN).await;
        }
        Ok(self.newer().await?.max(unread))
    }

    /// Returns how many messages are newer than this program.
    async fn move_back(&self, lane: &Lane, ready: u32) -> Result<u64, Fault> {
        let limit = lane.channel.basic_qos(AT_ONCE, BasicQosOptions::default());
        step("limit the prefetch", limit).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = lane.channel.basic_consume(names::NEWER.into(), "".into(), options, arguments);
        let mut messages = step("let the newer messages be consumed", consume).await?;
        let sender = confirming_lane(&self.shared.publishing).await?;
        let mut unread = 0;
        for _ in 0..ready.min(LONGEST_LOOK) {
            let message = match tokio::time::timeout(ARRIVES, messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(end) => {
                    return Err(unavailable(format!("RabbitMQ was lost: {:?}", end.map(|end| end.err()))));
                }
                Err(_another_process_has_it) => break,
            };
            if matches!(Message::read(&message.data), Err(Unread::Newer(_))) {
                unread += 1;
                if unread == u64::from(AT_ONCE) {
                    // No more are sent to hands that are full.
                    break;
                }
                continue;
            }
            // Confirmed before it is acknowledged here: killed in between, it is in both queues.
            send(&sender, names::ORDERS, message.properties.message_id().clone(), &message.data).await?;
            abort_point(AbortPoint::NewerReturned);
            let ack = lane.channel.basic_ack(message.delivery_tag, BasicAckOptions::default());
            step("remove a message that was moved back", ack).await?;
        }
        Ok(unread)
    }
}
