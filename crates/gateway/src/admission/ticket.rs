//! Purchase tickets: handing them out, and deciding whether one is good. Neither needs a store.

use std::sync::Arc;

use seckill_core::{Sale, Timestamp, UserId};
use seckill_token::ticket::{Keys, Ticket, TicketError};
use secrecy::ExposeSecret;

use crate::Config;
use crate::http::problem::NotAdmitted;

/// By how many fillings of the gate a ticket may differ from the one that this gateway knows. A rebuild takes nobody's place
/// away: the stock is decided by the gate, and a ticket only says who may ask. So the ticket from before a rebuild is good, and
/// so is one of a gateway that has heard of the rebuild earlier than this one. A ticket from further away belongs to another
/// life of the sale, such as one that was restored from a backup.
const EPOCHS_APART: u32 = 1;

/// Hands tickets out and checks them.
pub(crate) struct Tickets {
    keys: Arc<Keys>,
}

impl Tickets {
    pub(crate) fn new(config: &Config) -> Self {
        let derive = || Arc::new(Keys::derived([config.admission_secret.expose_secret()]));
        Self { keys: config.ticket_keys.clone().unwrap_or_else(derive) }
    }

    /// A ticket of `user` in `sale` until `expires_at`.
    pub(crate) fn sign(&self, sale: &Sale, user: UserId, expires_at: Timestamp) -> String {
        let expires_ms = millis(expires_at);
        self.keys.sign(&Ticket { user: user.0, sale: sale.id.0, epoch: sale.epoch, expires_ms })
    }

    /// Reads a ticket that `user` has sent for the sale `sale`.
    pub(crate) fn read(
        &self,
        text: &str,
        sale: seckill_core::SaleId,
        user: UserId,
    ) -> Result<Ticket, TicketError> {
        let ticket = self.keys.verify(text)?;
        ticket.check(user.0, sale.0, millis(seckill_core::now()))?;
        Ok(ticket)
    }
}

/// Whether an order may come in with this ticket, which has been read already.
pub(crate) fn admits(sale: &Sale, ticket: Option<&Ticket>) -> Result<(), NotAdmitted> {
    if !sale.admission.require_ticket {
        return Ok(());
    }
    let ticket = ticket.ok_or(NotAdmitted::TicketRequired(sale.id))?;
    if ticket.epoch.abs_diff(sale.epoch) > EPOCHS_APART {
        return Err(NotAdmitted::TicketOld);
    }
    Ok(())
}

fn millis(moment: Timestamp) -> u64 {
    moment.timestamp_millis().max(0).unsigned_abs()
}
