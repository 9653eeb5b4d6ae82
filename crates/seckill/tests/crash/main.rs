//! Processes and servers that are killed, frozen, emptied and cut off, in the middle of a sale: real processes on real servers.
//! Every test checks in SQL and against what its buyers were answered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod abort_points;
mod after;
mod bed;
mod budget;
mod buyers;
mod chaos;
mod check;
mod disk;
mod frozen;
mod lifecycle;
mod mysql;
mod network;
mod newer;
#[path = "../common/process.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest of it")]
mod process;
mod queue;
mod redis;
mod sales;
mod streams;
mod workers;
