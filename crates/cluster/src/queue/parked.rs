//! Parked and unrouted messages: how they are listed, moved back and removed.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicAckOptions;
use lapin::types::AMQPValue;
use seckill_core::{AbortPoint, Fault, ParkedMessage, Timestamp, abort_point};

use super::aside::{PARKED_AT, REASON, cut};
use super::publisher::{self, confirming_lane};
use super::step::{BLOCKED, step, unavailable};
use super::topology::names;
use super::walk::{LONGEST_WALK, Walk};
use super::{RabbitQueue, Removal};

/// A longer body is cut off where messages are listed.
const LONGEST_BODY: usize = 64 * 1_024;
/// An id that a stranger gave to a message is cut off after this.
const LONGEST_ID: usize = 64;

/// The longest wait for another walk of this process to end.
const TURN: Duration = Duration::from_secs(30);
/// A message that is not found may be in the hands of another process, which shows it again in a moment.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

impl RabbitQueue {
    pub(super) async fn list_parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        let _turn = self.turn().await?;
        let mut found = Vec::new();
        for queue in [names::PARKED, names::UNROUTED] {
            let mut walk = Walk::begin(&self.consuming, queue).await?;
            for _ in 0..limit.min(LONGEST_WALK) {
                let Some(message) = walk.next().await? else { break };
                found.push(parked_message(&message, queue == names::UNROUTED));
            }
            walk.end().await?;
        }
        // Those without a time first, in the order of their queue.
        found.sort_by_key(|message| message.parked_at);
        found.truncate(limit);
        Ok(found)
    }

    /// Removes every copy of one message: it is there twice where a process died just when it had parked it.
    pub(super) async fn remove_parked(&self, id: &str, removal: Removal) -> Result<bool, Fault> {
        let _turn = self.turn().await?;
        let mut found = false;
        for queue in [names::PARKED, names::UNROUTED] {
            found |= self.remove_from(queue, id, removal).await?;
        }
        Ok(found)
    }

    async fn remove_from(&self, queue: &'static str, id: &str, removal: Removal) -> Result<bool, Fault> {
        for look in 1.. {
            let mut walk = Walk::begin(&self.consuming, queue).await?;
            let mut copies = Vec::new();
            while let Some(message) = walk.next().await? {
                if id_of(&message) == id {
                    copies.push(message);
                }
            }
            let seen = walk.seen();
            if let Some(first) = copies.first() {
                if removal == Removal::Redrive {
                    // Confirmed before it is acknowledged here: killed in between, it is in both queues.
                    self.send_again(first).await?;
                    abort_point(AbortPoint::RedrivePublished);
                }
                for copy in &copies {
                    let ack = walk.channel().basic_ack(copy.delivery_tag, BasicAckOptions::default());
                    step("remove a parked message", ack).await?;
                }
                walk.end().await?;
                return Ok(true);
            }
            walk.end().await?;
            if seen == LONGEST_WALK {
                let reason = format!("only the first {LONGEST_WALK} messages of {queue} can be searched");
                return Err(unavailable(reason));
            }
            if look == LOOKS || self.inspect(queue).await?.message_count() as usize <= seen {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(false)
    }

    async fn send_again(&self, message: &lapin::message::Delivery) -> Result<(), Fault> {
        let lane = confirming_lane(&self.shared.publishing).await?;
        if lane.is_blocked() {
            return Err(unavailable(BLOCKED));
        }
        let id = message.properties.message_id().clone().unwrap_or_default();
        let sent = publisher::send(&lane, names::ORDERS, &message.data, publisher::properties(id)).await;
        sent.map_err(|error| unavailable(format!("the message stays parked: {}", error.into_reason())))
    }

    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Fault> {
        tokio::time::timeout(TURN, self.walking.lock())
            .await
            .map_err(|_| unavailable("others are looking through the parked messages; try again"))
    }
}

fn parked_message(message: &lapin::message::Delivery, unrouted: bool) -> ParkedMessage {
    let (reason, parked_at) = match why(&message.properties) {
        Some(why) => why,
        None if unrouted => {
            (format!("no queue was bound for its routing key {:?}", message.routing_key.as_str()), None)
        }
        None => ("unreadable".to_owned(), None),
    };
    let sent_at =
        message.properties.timestamp().and_then(|at| Timestamp::from_timestamp(at.try_into().ok()?, 0));
    let text = String::from_utf8_lossy(&message.data);
    ParkedMessage {
        id: id_of(message),
        reason,
        parked_at: parked_at.or(sent_at),
        unrouted,
        batch: serde_json::from_slice(&message.data).ok(),
        body: cut(&text, LONGEST_BODY).to_owned(),
    }
}

/// The reason and the time that seckill, else RabbitMQ, has noted.
fn why(properties: &BasicProperties) -> Option<(String, Option<Timestamp>)> {
    let headers = properties.headers().as_ref()?.inner();
    if let Some(AMQPValue::LongString(reason)) = headers.get(REASON) {
        let at = match headers.get(PARKED_AT) {
            Some(AMQPValue::LongLongInt(at)) => Timestamp::from_timestamp_millis(*at),
            _ => None,
        };
        return Some((reason.to_string(), at));
    }
    let Some(AMQPValue::FieldArray(deaths)) = headers.get("x-death") else { return None };
    let Some(AMQPValue::FieldTable(death)) = deaths.as_slice().first() else { return None };
    let death = death.inner();
    let Some(AMQPValue::LongString(reason)) = death.get("reason") else { return None };
    let times = match death.get("count") {
        Some(AMQPValue::LongLongInt(count)) => format!(", {count} times"),
        _ => String::new(),
    };
    let at = match death.get("time") {
        Some(AMQPValue::Timestamp(at)) => {
            i64::try_from(*at).ok().and_then(|at| Timestamp::from_timestamp(at, 0))
        }
        _ => None,
    };
    Some((format!("RabbitMQ parked it ({reason}{times})"), at))
}

/// Names a message: its own id, and a hash of its body, since nobody vouches for the ids of unreadable messages. It does not
/// change while the message is moved.
fn id_of(message: &lapin::message::Delivery) -> String {
    let own = message.properties.message_id().as_ref().map_or("", |id| id.as_str());
    let own: String =
        own.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(LONGEST_ID).collect();
    let separator = if own.is_empty() { "" } else { "-" };
    format!("{own}{separator}{:016x}", fnv1a(&message.data))
}

/// The 64-bit hash FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), the same in every version of this program.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
