//! The experiments, a file each.

mod async_chain;
mod check_then_act;
mod decoupling;
mod hot_row;
mod peak_shaving;

use crate::experiment::Experiment;

/// All of them, in the order in which they teach.
pub const ALL: &[&dyn Experiment] = &[
    &peak_shaving::PeakShaving,
    &decoupling::Decoupling,
    &async_chain::AsyncChain,
    &check_then_act::CheckThenAct,
    &hot_row::HotRow,
];

/// The experiment of this name.
pub fn find(name: &str) -> Option<&'static dyn Experiment> {
    ALL.iter().copied().find(|experiment| experiment.about().name == name)
}
