//! The sale of a demonstration.

use chrono::TimeDelta;
use seckill_core::{NewSale, now};

const LASTS: TimeDelta = TimeDelta::days(1);

/// A sale of one unit a user, open from now on for a day.
pub fn demo_sale(name: &str, stock: u32) -> NewSale {
    let starts_at = now();
    NewSale {
        name: name.to_owned(),
        product: None,
        stock,
        price_cents: 99_900,
        currency: "USD".to_owned(),
        per_user_limit: 1,
        starts_at,
        ends_at: starts_at + LASTS,
        payment_window_ms: None,
        require_ticket: false,
        tickets_from: None,
        ticket_ttl_ms: None,
        proof_of_work: false,
        waiting_room: None,
    }
}
