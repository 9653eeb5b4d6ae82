//! One buyer's wish, what the gate decides about it, and what the gate remembers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{OrderId, SaleId, Timestamp, UserId};

/// One buyer's wish in a sale. Once the gate has reserved it, it is the order of that id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Claim {
    /// Made by the gateway, once; a retry of the same call to the gate carries the same id.
    pub order_id: OrderId,
    /// Who wants it; from the token, never from the body.
    pub user_id: UserId,
    /// Units wanted.
    pub quantity: u32,
    /// When the gateway took the request.
    #[schema(value_type = String, format = DateTime)]
    #[serde(deserialize_with = "crate::message::time")]
    pub accepted_at: Timestamp,
}

/// What the gate decides about one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Stock is set aside and the claim is in the pending log.
    Reserved,
    /// This user holds an order in this sale already; nothing was deducted.
    Replayed {
        /// The first order.
        order_id: OrderId,
        /// Its units.
        quantity: u32,
        /// Whether the queue has yet to confirm it. The caller may not call such an order accepted before it has
        /// published the order again and seen the confirm.
        pending: bool,
        /// When the first request was taken.
        accepted_at: Timestamp,
    },
    /// Fewer units are left than wanted.
    SoldOut {
        /// Units left.
        remaining: u32,
    },
    /// More units than one user may have.
    OverLimit {
        /// Units one user may have.
        limit: u32,
    },
    /// Before the sale's first moment, by the gate's clock.
    NotOpen,
    /// After the sale's last moment, by the gate's clock.
    Closed,
    /// An operator has paused the sale.
    Paused,
}

/// How long after a reservation was sent to the gate a gateway may still confirm the order to its buyer. Afterwards it reports
/// an unknown outcome, also where the queue has confirmed the order. So this long after a gate was lost, every order that was
/// or will be promised is in the queue.
pub const PROMISE_WINDOW: std::time::Duration = std::time::Duration::from_secs(10);

/// Names one entry of the gate's pending log: the reservations made by one call. Its first half is the gate's clock in
/// milliseconds, so its age can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId {
    /// The gate's clock when the entry was written, in milliseconds since 1970.
    pub millis: u64,
    /// Counts entries of the same millisecond.
    pub sequence: u64,
}

impl std::fmt::Display for ReservationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl std::str::FromStr for ReservationId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (millis, sequence) = text.split_once('-')?;
            Some(Self { millis: millis.parse().ok()?, sequence: sequence.parse().ok()? })
        };
        parse().ok_or_else(|| format!("{text:?} is not a reservation id, such as 1700000000000-0"))
    }
}

/// What one call to `reserve` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// One decision a claim, in the order of the claims.
    pub decisions: Vec<Decision>,
    /// The pending entry that holds the reserved claims; `None` when this call wrote none.
    pub reservation: Option<ReservationId>,
}

/// A pending entry read back: reservations that no one has settled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The entry.
    pub id: ReservationId,
    /// What is reserved by it.
    pub claims: Vec<Claim>,
}

/// What the gate remembers of one user in one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The sale.
    pub sale_id: SaleId,
    /// The user's order there.
    pub order_id: OrderId,
    /// Its units.
    pub quantity: u32,
    /// When the request was taken.
    pub accepted_at: Timestamp,
}

/// A user's order as the gate has it, with what is needed to send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The order.
    pub claim: Claim,
    /// The gate's clock when it was set aside, in milliseconds since 1970.
    pub set_aside_ms: u64,
}

/// A part of a sale's holders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HolderPage {
    /// In no order.
    pub holders: Vec<Holder>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u64>,
}

/// An order that the ledger has rejected, to be taken out of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The order.
    pub order_id: OrderId,
    /// Who holds it.
    pub user_id: UserId,
    /// Whether its units may be set aside again; not so where the ledger had no room for them.
    pub returns_units: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_id_reads_back_as_written() {
        let id = ReservationId { millis: 1_700_000_000_000, sequence: 3 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("17".parse::<ReservationId>().is_err());
        assert!("a-b".parse::<ReservationId>().is_err());
    }
}
