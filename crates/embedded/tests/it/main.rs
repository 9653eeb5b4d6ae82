//! What only the embedded back end does: it lives in a folder, and comes back from it.

mod conformance;
mod crash;
mod folder;
mod harness;
mod ledger;
mod ledger_rebuild;
mod parked;
mod queue;
mod reopen;
