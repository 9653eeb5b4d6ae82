//! Tickets, proof of work, and the waiting room.

use seckill_core::waiting::Seed;
use seckill_core::{SaleId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of a request for a ticket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// The solution of a challenge, as ALTCHA's clients send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altcha: Option<String>,
}

/// A ticket, as its buyer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketView {
    /// The sale.
    pub sale_id: SaleId,
    /// What an order has in its header `Seckill-Ticket`.
    pub ticket: String,
    /// The first moment at which it is not valid any more.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// The work that a ticket costs, by the protocol of ALTCHA, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChallengeView {
    /// `SHA-256`.
    pub algorithm: String,
    /// SHA-256 of the salt with the number behind it, as hexadecimal digits.
    pub challenge: String,
    /// The number to be found is between 0 and this.
    pub maxnumber: u32,
    /// A random word and, as a query, what the solution is good for.
    pub salt: String,
    /// The gateway's signature of `challenge`, as hexadecimal digits.
    pub signature: String,
}

/// What the inlet of a waiting room does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InletState {
    /// The room is not open yet.
    Upcoming,
    /// The sale has not started: arrivals take part in the draw.
    Gathering,
    /// Lets buyers in.
    Admitting,
    /// Orders cannot be taken at the moment.
    Paused,
    /// No unit is left. One that comes back is sold to the next.
    SoldOut,
    /// The sale is over.
    Ended,
}

/// A waiting room, the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomView {
    /// The sale.
    pub sale_id: SaleId,
    /// What its inlet does.
    pub state: InletState,
    /// Why it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the room opens.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub opens_at: Option<Timestamp>,
    /// The first moment of the sale, and the moment of the draw.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// The first moment after the sale.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// The SHA-256 of the seed, as hexadecimal digits; from the opening of the room on.
    pub seed_hash: Option<String>,
    /// The seed itself; from the draw on.
    #[schema(value_type = Option<String>)]
    pub seed: Option<Seed>,
    /// Arrivals that took part in the draw.
    pub drawn: Option<u64>,
    /// Numbers given out.
    pub arrivals: u64,
    /// Everyone up to this position was admitted.
    pub admitted: u64,
    /// Buyers who have not been admitted yet.
    pub waiting: u64,
    /// Buyers that the inlet admits in a second, at the most.
    pub rate_per_second: u32,
    /// How long somebody who arrives now will wait; `null`: not known.
    pub estimated_wait_seconds: Option<u64>,
    /// When to ask again.
    pub refresh_interval_seconds: u64,
    /// The store's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<Timestamp>,
}

/// Where a buyer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    /// Not admitted yet.
    Waiting,
    /// May fetch a ticket.
    Admitted,
    /// Was admitted, and the time is over.
    Expired,
}

/// Where one buyer stands in a waiting room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlaceView {
    /// The sale.
    pub sale_id: SaleId,
    /// Where the buyer stands.
    pub state: PlaceState,
    /// What the inlet does.
    pub room: InletState,
    /// The number of the arrival, from 1 on.
    pub number: u64,
    /// Counted from 1; `null` before the draw.
    pub position: Option<u64>,
    /// Buyers in front of this one.
    pub ahead: Option<u64>,
    /// How long it will take; `null`: not known.
    pub estimated_wait_seconds: Option<u64>,
    /// Until when a ticket can be fetched and used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub admitted_until: Option<Timestamp>,
    /// The same by the names that clients of Cloudflare's waiting room know.
    #[serde(rename = "cfWaitingRoom")]
    pub cloudflare: CloudflareView,
}

/// A part of Cloudflare's `cfWaitingRoom`. Times are whole minutes there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "Cloudflare's documentation has them")]
pub struct CloudflareView {
    pub in_waiting_room: bool,
    pub wait_time_known: bool,
    pub wait_time: u64,
    pub wait_time_formatted: String,
    pub queue_is_full: bool,
    pub queue_all: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_updated: Option<Timestamp>,
    pub refresh_interval_seconds: u64,
    pub queueing_method: QueueingMethod,
    #[serde(rename = "isFIFOQueue")]
    pub is_fifo_queue: bool,
    pub is_random_queue: bool,
    pub is_event_active: bool,
    pub is_event_prequeueing: bool,
    pub time_until_event_start: u64,
}

/// In which order buyers are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueingMethod {
    /// By the draw.
    Random,
    /// First come, first served.
    Fifo,
}
