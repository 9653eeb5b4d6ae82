//! Who may send an order in a sale that asks for a ticket.

pub(crate) mod proof;
pub(crate) mod rooms;
pub(crate) mod status;
pub(crate) mod ticket;
