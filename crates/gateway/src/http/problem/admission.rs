//! Why a buyer gets no ticket, or gets no order without a valid one.

use seckill_core::{SaleId, Timestamp};
use seckill_token::ticket::TicketError;

use super::{
    Kind, NO_TICKETS, NO_WAITING_ROOM, NOT_ADMITTED, PROOF_INVALID, PROOF_REQUIRED, ROOM_FULL,
    ROOM_OPENS_LATER, TICKET_INVALID, TICKET_REQUIRED, TICKETS_LATER, seconds_until,
};
use crate::admission::proof::NoProof;

/// Why somebody is not admitted.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    TicketRequired(SaleId),
    TicketInvalid(TicketError),
    /// The gate has been filled anew more than once since the ticket was handed out.
    TicketOld,
    TicketsLater {
        from: Timestamp,
    },
    NoTickets(SaleId),
    NoProofs(SaleId),
    NoRoom(SaleId),
    RoomOpensLater {
        from: Timestamp,
    },
    RoomFull,
    NotArrived(SaleId),
    /// Waits; the whole seconds after which to ask again.
    StillWaiting {
        seconds: u64,
    },
    TurnPassed,
    ProofRequired,
    ProofInvalid(NoProof),
}

impl NotAdmitted {
    pub(super) fn kind(&self) -> &'static Kind {
        match self {
            Self::TicketRequired(_) => &TICKET_REQUIRED,
            Self::TicketInvalid(_) | Self::TicketOld => &TICKET_INVALID,
            Self::TicketsLater { .. } => &TICKETS_LATER,
            Self::NoTickets(_) | Self::NoProofs(_) => &NO_TICKETS,
            Self::NoRoom(_) => &NO_WAITING_ROOM,
            Self::RoomOpensLater { .. } => &ROOM_OPENS_LATER,
            Self::RoomFull => &ROOM_FULL,
            Self::NotArrived(_) | Self::StillWaiting { .. } | Self::TurnPassed => &NOT_ADMITTED,
            Self::ProofRequired => &PROOF_REQUIRED,
            Self::ProofInvalid(_) => &PROOF_INVALID,
        }
    }

    pub(super) fn detail(&self) -> String {
        match self {
            Self::TicketRequired(sale) => format!("Sale {sale} takes no order without a ticket."),
            Self::TicketInvalid(why) => why.to_string(),
            Self::TicketOld => "The ticket was handed out before the sale's gate was last rebuilt.".into(),
            Self::TicketsLater { from } => format!("Tickets are handed out from {} on.", from.to_rfc3339()),
            Self::NoTickets(sale) => format!("Sale {sale} needs no ticket."),
            Self::NoProofs(sale) => format!("Sale {sale} asks for no proof of work."),
            Self::NoRoom(sale) => format!("Sale {sale} has no waiting room."),
            Self::RoomOpensLater { from } => format!("The room opens at {}.", from.to_rfc3339()),
            Self::RoomFull => format!("All {} places are taken.", seckill_core::MAX_ARRIVALS),
            Self::NotArrived(sale) => format!("You have not entered the waiting room of sale {sale}."),
            Self::StillWaiting { .. } => "Your turn has not come yet; you keep your place.".into(),
            Self::TurnPassed => "Your turn has passed. Enter again, behind everyone.".into(),
            Self::ProofRequired => "The request has no `altcha`.".into(),
            Self::ProofInvalid(NoProof::Wrong(why)) => why.to_string(),
            Self::ProofInvalid(NoProof::Used) => "The proof of work was used before.".into(),
        }
    }

    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TicketsLater { from } | Self::RoomOpensLater { from } => Some(seconds_until(*from)),
            Self::StillWaiting { seconds } => Some((*seconds).max(1)),
            Self::RoomFull => Some(60),
            _ => None,
        }
    }

    pub(super) fn starts_at(&self) -> Option<Timestamp> {
        match self {
            Self::TicketsLater { from } | Self::RoomOpensLater { from } => Some(*from),
            _ => None,
        }
    }
}

impl From<NotAdmitted> for super::Refusal {
    fn from(why: NotAdmitted) -> Self {
        Self::Admission(why)
    }
}
