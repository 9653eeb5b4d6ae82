//! The program as users run it: processes, signals, real servers, and SQL to check what they did.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod away;
mod cli;
mod crash;
mod dashboard;
mod demo;
mod direct;
mod doors;
mod events;
mod fleet;
mod given;
mod labs;
mod metrics;
mod orders;
#[path = "../common/process.rs"]
mod process;
mod readme;
mod reads;
mod redis_streams;
mod sales;
mod shutdown;
mod terminal;
mod tokens;
mod traces;
