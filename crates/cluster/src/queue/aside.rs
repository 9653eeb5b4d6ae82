//! Copies of messages on their way to another queue: to the parked ones, or to those that are newer than a worker.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use seckill_core::{AbortPoint, Fault, LedgerId, Message, OrderBatch, abort_point};

use super::connection::{Lane, Link};
use super::publisher::{self, confirming_lane};
use super::step::{BLOCKED, unavailable};
use super::topology::names;

pub(crate) const REASON: &str = "x-seckill-reason";
/// Milliseconds since 1970, UTC.
pub(crate) const PARKED_AT: &str = "x-seckill-parked-at";

/// A longer reason would not fit into a frame together with the other headers.
pub(crate) const LONGEST_REASON: usize = 1_024;

/// A message on its way to the parked ones.
pub(super) struct Parking {
    body: Vec<u8>,
    id: Option<ShortString>,
    reason: String,
}

impl Parking {
    pub(super) fn new(properties: &BasicProperties, body: Vec<u8>, reason: String) -> Self {
        Self { body, id: properties.message_id().clone(), reason }
    }

    pub(super) fn of_batch(batch: &OrderBatch, ledger_id: Option<LedgerId>, reason: String) -> Self {
        let body = Message::write(batch, ledger_id).into_bytes();
        Self { body, id: Some(batch.batch_id.to_string().into()), reason }
    }

    /// Sends a copy to the parked ones. It can be done again, and the message is parked twice then.
    pub(super) async fn send(&self, link: &Link) -> Result<(), Fault> {
        let lane = confirming_lane(link).await?;
        if lane.is_blocked() {
            return Err(unavailable(BLOCKED));
        }
        let mut headers = FieldTable::default();
        let reason = cut(&self.reason, LONGEST_REASON);
        headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
        let now = seckill_core::now().timestamp_millis();
        headers.insert(PARKED_AT.into(), AMQPValue::LongLongInt(now));
        let id = self.id.clone().unwrap_or_default();
        let properties = publisher::properties(id).with_headers(headers);
        let sent = publisher::send(&lane, names::PARKED, &self.body, properties).await;
        sent.map_err(|error| unavailable(format!("a message was not parked: {}", error.into_reason())))?;
        metrics::counter!("seckill_parked_messages_total").increment(1);
        let (bytes, id) = (self.body.len(), self.id.as_ref().map(ShortString::as_str));
        tracing::error!(message_id = id, bytes, reason, "parked a message");
        Ok(())
    }
}

/// Sends a copy of a message to the queue of those that are newer than a worker. It can be done again, and the message is there
/// twice then.
pub(super) async fn set_aside(link: &Link, id: Option<ShortString>, body: &[u8]) -> Result<(), Fault> {
    let lane = confirming_lane(link).await?;
    send(&lane, names::NEWER, id, body).await?;
    abort_point(AbortPoint::NewerSetAside);
    Ok(())
}

pub(super) async fn send(
    lane: &Lane,
    queue: &'static str,
    id: Option<ShortString>,
    body: &[u8],
) -> Result<(), Fault> {
    if lane.is_blocked() {
        return Err(unavailable(BLOCKED));
    }
    let sent = publisher::send(lane, queue, body, publisher::properties(id.unwrap_or_default())).await;
    sent.map_err(|error| unavailable(format!("a message was not moved to {queue}: {}", error.into_reason())))
}

pub(crate) fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_two_characters() {
        assert_eq!(cut("秒杀", 4), "秒");
        assert_eq!(cut("秒杀", 6), "秒杀");
    }
}
