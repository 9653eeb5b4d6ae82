//! The worker on the embedded back end: what a step does, what it does when a part of the system fails, and how fast.

mod drain;
mod failing;
mod pacing;
mod rebuilding;
mod stopping;
mod test_bed;
