//! The load generator against small servers. Each is honest, or wrong in one known way.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

mod bad_input;
mod command;
mod failures;
mod gateway;
mod kept;
mod lifecycle;
mod outcomes;
mod payments;
mod scenarios;
mod schedule;
mod server;
mod unclear;
mod verify;
