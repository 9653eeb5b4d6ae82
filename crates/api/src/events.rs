//! Events on their way: the outbox, and what waits for subscribers.

use seckill_core::{OutboxState, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

/// One event of the outbox, as an operator sees it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OutboxEventView {
    /// Names it.
    pub id: Uuid,
    /// What it tells of, such as `order.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: OutboxState,
    /// How often the bus was tried.
    pub attempts: u32,
    /// When a pending one is tried again.
    #[schema(value_type = String, format = DateTime)]
    pub next_attempt_at: Timestamp,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Why the bus has not taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The CloudEvent.
    #[schema(value_type = Object)]
    pub event: Box<RawValue>,
}

/// Events of the outbox in one state, and how many there are in others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OutboxList {
    /// Events that are neither sent nor parked.
    pub pending: u64,
    /// Events that wait for a human.
    pub parked: u64,
    /// When the oldest pending one was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_pending: Option<Timestamp>,
    /// Oldest first, 1,000 at the most.
    pub events: Vec<OutboxEventView>,
}

/// What waits for one subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberView {
    /// Its name.
    pub name: String,
    /// Events that it has not taken yet.
    pub waiting_events: u64,
    /// Events that it could not take, which wait for a human.
    pub parked_events: u64,
}

/// What a subscriber was given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Redriven {
    /// How many events.
    pub events: u64,
}
