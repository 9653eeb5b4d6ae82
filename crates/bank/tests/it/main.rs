//! The bank over real HTTP: what it does once, what it keeps, what it reports, and what its client makes of its bad days.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod charges;
mod client;
mod faults;
mod journal;
mod refunds;
mod setup;
mod webhooks;
