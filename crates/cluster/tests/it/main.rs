//! What only this back end can get wrong, tried on real servers. What every back end must do is in the conformance suite.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod capacity;
mod conformance;
mod events;
mod gate;
mod gate_lost;
mod ledger;
mod ledger_rebuild;
mod lifecycle;
mod queue;
mod queue_limits;
mod queue_newer;
mod setup;
mod streams;
mod streams_conformance;
mod tls;
