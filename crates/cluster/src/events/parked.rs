//! Events that a subscriber could not take in, in a queue beside its own: how they get there, and how they come back.

use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use seckill_core::Fault;

use super::topology::{self, Names};
use crate::queue::aside::{LONGEST_REASON, PARKED_AT, REASON, cut};
use crate::queue::connection::{Lane, Link};
use crate::queue::publisher::{confirming_lane, send_to};
use crate::queue::step::{BLOCKED, step, unavailable};

/// Parked events that are in hand at a time.
const AT_ONCE: usize = 1_000;

/// Sends a copy of an event to the parked ones of a subscriber. It can be done again, and the event is parked twice then.
pub(super) async fn park(
    link: &Link,
    names: &Names,
    text: &[u8],
    properties: BasicProperties,
    reason: &str,
) -> Result<(), Fault> {
    let lane = confirming_lane(link).await?;
    let reason = cut(reason, LONGEST_REASON);
    let mut headers = FieldTable::default();
    headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    headers.insert(PARKED_AT.into(), AMQPValue::LongLongInt(seckill_core::now().timestamp_millis()));
    let id = properties.message_id().clone();
    send(&lane, &names.parked, text, properties.with_headers(headers)).await?;
    metrics::counter!("seckill_parked_events_total").increment(1);
    let id = id.as_ref().map(|id| id.as_str());
    tracing::error!(event_id = id, queue = names.parked, reason, "parked an event");
    Ok(())
}

/// Gives a subscriber its parked events again: those that are there now, and not what it parks meanwhile.
pub(super) async fn redrive(lane: &Lane, publishing: &Link, names: &Names) -> Result<u64, Fault> {
    let Some(parked) = topology::find(lane, &names.parked).await? else { return Ok(0) };
    let sender = confirming_lane(publishing).await?;
    // RabbitMQ counts a moment late, so fewer than this are not taken as all.
    let most = u64::from(parked.message_count()).max(AT_ONCE as u64);
    let mut redriven = 0;
    while redriven < most {
        let some = take(&lane.channel, names).await?;
        for message in &some {
            // Confirmed before it is acknowledged here: killed in between, it is in both queues.
            let properties = message.properties.clone().with_headers(FieldTable::default());
            send(&sender, &names.queue, &message.data, properties).await?;
            let ack = lane.channel.basic_ack(message.delivery_tag, BasicAckOptions::default());
            step("remove a parked event", ack).await?;
        }
        redriven += some.len() as u64;
        if some.len() < AT_ONCE {
            break;
        }
    }
    // When it returns, every acknowledgement has reached the broker.
    step("close a channel", lane.channel.close(200, "done".into())).await?;
    Ok(redriven)
}

/// Takes parked events, [`AT_ONCE`] at the most.
async fn take(channel: &Channel, names: &Names) -> Result<Vec<BasicGetMessage>, Fault> {
    let mut some = Vec::new();
    while some.len() < AT_ONCE {
        let get = channel.basic_get(names.parked.as_str().into(), BasicGetOptions { no_ack: false });
        let Some(message) = step("show a parked event", get).await? else { break };
        some.push(message);
    }
    Ok(some)
}

/// Sends to one queue and to no other. Mandatory, so that the end of a queue that was deleted is no success; one message is
/// under way at a time, so that what is returned is that one.
async fn send(lane: &Lane, queue: &str, text: &[u8], properties: BasicProperties) -> Result<(), Fault> {
    if lane.is_blocked() {
        return Err(unavailable(BLOCKED));
    }
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = send_to(lane, ("".into(), queue.into()), options, text, properties).await;
    sent.map_err(|error| unavailable(format!("an event was not moved to {queue}: {}", error.into_reason())))
}
