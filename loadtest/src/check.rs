//! Checking: the sale over time, its audit, and the end of every order.

pub mod bank;
pub mod bulk;
mod lines;
pub mod samples;
pub mod shop;
pub mod verify;
