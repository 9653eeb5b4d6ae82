//! What only the embedded back end does: it lives in a folder, and comes back from it.

mod after_the_order;
mod conformance;
mod crash;
mod events;
mod folder;
mod harness;
mod ledger;
mod ledger_rebuild;
mod parked;
mod queue;
mod reopen;
