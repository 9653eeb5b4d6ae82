//! The arguments of `seckill sale create` about who may order.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use seckill_core::{Admission, RoomTerms, Timestamp};

use crate::words;

#[derive(Debug, Args)]
#[command(next_help_heading = "Tickets and the waiting room")]
pub(crate) struct AdmissionArgs {
    /// Take no order without a purchase ticket, which buyers fetch beforehand. Scripts that only know the address of the order
    /// are refused before any work is done
    #[arg(long)]
    require_ticket: bool,
    /// When tickets are handed out from, such as 2030-11-11T00:00:00Z [default: the start of the sale]
    #[arg(long, requires = "require_ticket", conflicts_with = "waiting_room_rate")]
    tickets_from: Option<Timestamp>,
    /// How long a ticket is valid, 1s to 1h. Behind a waiting room: how long a buyer who was admitted has time [default: 2m]
    #[arg(long, value_parser = words::duration)]
    ticket_ttl: Option<Duration>,
    /// Let each ticket cost a proof of work: the client computes for a moment, more when many tickets are asked for. A price for
    /// scripts, not a lock
    #[arg(long)]
    proof_of_work: bool,
    /// Put a waiting room in front of the sale that admits at the most so many buyers a second, 1 to 100,000. Who arrives before
    /// the start is drawn by lot; implies --require-ticket
    #[arg(long, value_name = "RATE")]
    waiting_room_rate: Option<u32>,
    /// How long before the start the waiting room opens, up to 7days
    #[arg(long, value_parser = words::duration, default_value = "10m", requires = "waiting_room_rate")]
    waiting_room_opens: Duration,
}

impl AdmissionArgs {
    /// What the sale asks of a buyer.
    pub(crate) fn admission(&self) -> Result<Admission> {
        let opens_before_ms = words::millis(self.waiting_room_opens)?;
        Ok(Admission {
            require_ticket: self.require_ticket || self.waiting_room_rate.is_some(),
            tickets_from: self.tickets_from,
            ticket_ttl_ms: self.ticket_ttl.map(words::millis).transpose()?,
            proof_of_work: self.proof_of_work,
            waiting_room: self
                .waiting_room_rate
                .map(|rate_per_second| RoomTerms { opens_before_ms, rate_per_second }),
        })
    }
}
