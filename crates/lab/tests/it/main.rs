//! Load runs and faults against real gateways, workers and what comes after an order in this process, on the embedded back end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod demonstration;
mod experiments;
mod faults;
mod load;
