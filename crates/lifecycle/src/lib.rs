//! What becomes of orders after their commit. Each step is one transaction of the ledger's database: the new state and the event
//! that tells of it are written together or not at all. Who reads the events is not known here.

pub mod expire;

mod cancel;
mod change;
mod service;

pub use service::Service;
