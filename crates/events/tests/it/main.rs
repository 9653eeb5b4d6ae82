//! Events from the outbox to their effects, on the embedded back end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod deliver;
mod documented;
mod relay;
mod setup;
mod subscribers;
mod webhook;
