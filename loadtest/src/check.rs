//! Checking: the sale over time, its audit, and the end of every order.

pub mod bank;
pub mod bulk;
pub mod effects;
mod lines;
pub mod samples;
pub mod shop;
pub mod verify;
