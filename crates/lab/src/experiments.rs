//! The experiments, a file each.

mod async_chain;
mod at_least_once;
mod check_then_act;
mod decoupling;
mod duplicates;
mod early_ack;
mod effects;
mod hot_row;
mod peak_shaving;
mod surely_sent;

use crate::experiment::Experiment;

/// All of them, in the order in which they teach.
pub const ALL: &[&dyn Experiment] = &[
    &peak_shaving::PeakShaving,
    &decoupling::Decoupling,
    &async_chain::AsyncChain,
    &check_then_act::CheckThenAct,
    &duplicates::OfProducer,
    &duplicates::OfBroker,
    &duplicates::OfConsumer,
    &surely_sent::SurelySent,
    &early_ack::EarlyAck,
    &at_least_once::AtLeastOnce,
    &hot_row::HotRow,
];

/// The experiment of this name.
pub fn find(name: &str) -> Option<&'static dyn Experiment> {
    ALL.iter().copied().find(|experiment| experiment.about().name == name)
}
