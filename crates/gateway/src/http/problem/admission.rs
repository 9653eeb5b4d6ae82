//! Why a buyer gets no ticket, or gets no order without a valid one.

use seckill_core::{SaleId, Timestamp};
use seckill_token::ticket::TicketError;

use super::{Kind, NO_TICKETS, TICKET_INVALID, TICKET_REQUIRED, TICKETS_LATER, seconds_until};

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
}

impl NotAdmitted {
    pub(super) fn kind(&self) -> &'static Kind {
        match self {
            Self::TicketRequired(_) => &TICKET_REQUIRED,
            Self::TicketInvalid(_) | Self::TicketOld => &TICKET_INVALID,
            Self::TicketsLater { .. } => &TICKETS_LATER,
            Self::NoTickets(_) => &NO_TICKETS,
        }
    }

    pub(super) fn detail(&self) -> String {
        match self {
            Self::TicketRequired(sale) => format!("Sale {sale} takes no order without a ticket."),
            Self::TicketInvalid(why) => why.to_string(),
            Self::TicketOld => "The ticket was handed out before the sale's gate was last rebuilt.".into(),
            Self::TicketsLater { from } => format!("Tickets are handed out from {} on.", from.to_rfc3339()),
            Self::NoTickets(sale) => format!("Sale {sale} needs no ticket."),
        }
    }

    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TicketsLater { from } => Some(seconds_until(*from)),
            _ => None,
        }
    }

    pub(super) fn starts_at(&self) -> Option<Timestamp> {
        match self {
            Self::TicketsLater { from } => Some(*from),
            _ => None,
        }
    }
}

impl From<NotAdmitted> for super::Refusal {
    fn from(why: NotAdmitted) -> Self {
        Self::Admission(why)
    }
}
