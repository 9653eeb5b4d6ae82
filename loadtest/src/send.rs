//! Sending: the connections, the requests on their schedule, what each answer means, and how long it took.

pub(crate) mod caller;
pub mod client;
mod cpu;
pub mod latency;
pub mod life;
pub mod lifecycle;
pub mod limits;
pub mod outcome;
pub mod progress;
pub mod run;
pub mod target;
pub mod template;
