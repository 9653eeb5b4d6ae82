//! Who may send an order in a sale: purchase tickets, proof of work, and the waiting room.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{FieldError, NewSale, Timestamp};

/// What a sale asks of a buyer before an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Admission {
    /// Whether an order needs a purchase ticket.
    #[serde(default, skip_serializing_if = "is_false")]
    pub require_ticket: bool,
    /// The first moment at which tickets are handed out; `None`: the start of the sale. A waiting room hands them out from the
    /// start on, and takes no other moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub tickets_from: Option<Timestamp>,
    /// How long a ticket is valid, in milliseconds; `None`: [`Admission::DEFAULT_TICKET_TTL_MS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_ttl_ms: Option<u64>,
    /// Whether a ticket costs a proof of work.
    #[serde(default, skip_serializing_if = "is_false")]
    pub proof_of_work: bool,
    /// The waiting room in front of the tickets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_room: Option<RoomTerms>,
}

/// How a waiting room works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoomTerms {
    /// How long before the start of the sale the room opens, in milliseconds: 0 to 604,800,000, which is 7 days. Who arrives
    /// before the start takes part in the draw.
    pub opens_before_ms: u64,
    /// Buyers that the inlet admits in a second, at the most: 1 to 100,000.
    pub rate_per_second: u32,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Admission {
    /// How long a ticket is valid where the sale does not say: two minutes.
    pub const DEFAULT_TICKET_TTL_MS: u64 = 120_000;
    /// The shortest time for which a ticket may be valid, in milliseconds.
    pub const MIN_TICKET_TTL_MS: u64 = 1_000;
    /// The longest time for which a ticket may be valid, in milliseconds: an hour.
    pub const MAX_TICKET_TTL_MS: u64 = 3_600_000;
    /// The longest time before the start at which a waiting room may open, in milliseconds: 7 days.
    pub const MAX_OPENS_BEFORE_MS: u64 = 7 * 24 * 3_600_000;
    /// The most buyers that an inlet may admit in a second.
    pub const MAX_RATE_PER_SECOND: u32 = 100_000;

    /// Whether everyone may order.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// How long a ticket is valid, in milliseconds.
    pub fn ticket_ttl_ms(&self) -> u64 {
        self.ticket_ttl_ms.unwrap_or(Self::DEFAULT_TICKET_TTL_MS)
    }

    /// Checks what a new sale says about tickets.
    pub(crate) fn check(&self, sale: &NewSale, wrong: &mut Vec<FieldError>) {
        if !self.require_ticket {
            let given = [
                (self.tickets_from.is_some(), "tickets_from"),
                (self.ticket_ttl_ms.is_some(), "ticket_ttl_ms"),
                (self.proof_of_work, "proof_of_work"),
                (self.waiting_room.is_some(), "waiting_room"),
            ];
            for (_, field) in given.into_iter().filter(|(given, _)| *given) {
                wrong.push(FieldError::new(
                    field,
                    "is for sales that need a ticket; set require_ticket to true",
                ));
            }
        }
        if self.tickets_from.is_some_and(|from| from >= sale.ends_at) {
            wrong.push(FieldError::new(
                "tickets_from",
                format!("must lie before ends_at, {}: later no ticket is of use", sale.ends_at),
            ));
        }
        let ttl = Self::MIN_TICKET_TTL_MS..=Self::MAX_TICKET_TTL_MS;
        if let Some(given) = self.ticket_ttl_ms.filter(|given| !ttl.contains(given)) {
            let message = format!("is {given}; allowed are {} to {}", ttl.start(), ttl.end());
            wrong.push(FieldError::new("ticket_ttl_ms", message));
        }
        let Some(room) = self.waiting_room else { return };
        if self.tickets_from.is_some() {
            let message =
                "cannot be set with a waiting_room, which hands out tickets from the start of the sale on";
            wrong.push(FieldError::new("tickets_from", message));
        }
        if room.opens_before_ms > Self::MAX_OPENS_BEFORE_MS
            || !(1..=Self::MAX_RATE_PER_SECOND).contains(&room.rate_per_second)
        {
            let message = format!(
                "opens {} ms before the start and admits {} a second; allowed are 0 to {} ms, and 1 to {} a second",
                room.opens_before_ms,
                room.rate_per_second,
                Self::MAX_OPENS_BEFORE_MS,
                Self::MAX_RATE_PER_SECOND
            );
            wrong.push(FieldError::new("waiting_room", message));
        }
    }
}
