//! The testkit's own tests: servers come up, stop and start again, and are gone with the process that started them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod proxy;
mod servers;
mod stores;
