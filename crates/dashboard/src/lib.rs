//! The live page: what it shows comes from every process's snapshots, what it does goes through the control plane.
//!
//! In every process: [`Reporter`] tells the others how it is, and does what the settings say; [`faults`] make the trouble
//! that a demonstration asks for. In gateways: [`Feed`] adds the snapshots up and streams them, [`routes`] serves the page,
//! the feed and the controls. None of it is on the path of an order.

pub mod assets;
mod control;
pub mod faults;
mod feed;
mod live;
pub mod load;
mod log;
mod problem;
mod process;
mod report;
mod rows;
mod scrape;
mod watch;

pub use control::{Controls, routes};
pub use faults::Troubles;
pub use feed::Feed;
pub use report::{Identity, Reporter, WorkerHandle};
