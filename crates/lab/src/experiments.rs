//! The experiments, a file each.

mod async_chain;
mod at_least_once;
mod check_then_act;
mod decoupling;
mod duplicates;
mod early_ack;
mod effects;
mod gate_without_pending_log;
mod hot_row;
mod local_sold_out_cache;
mod peak_shaving;
mod redis_dedup;
mod retry_storm;
mod surely_sent;
mod timeout_is_unknown;
mod which_broker;

use crate::experiment::Experiment;

/// All of them, in the order in which they teach.
pub const ALL: &[&dyn Experiment] = &[
    &peak_shaving::PeakShaving,
    &decoupling::Decoupling,
    &async_chain::AsyncChain,
    &which_broker::WhichBroker,
    &check_then_act::CheckThenAct,
    &redis_dedup::RedisDedup,
    &duplicates::OfProducer,
    &duplicates::OfBroker,
    &duplicates::OfConsumer,
    &surely_sent::SurelySent,
    &timeout_is_unknown::TimeoutIsUnknown,
    &early_ack::EarlyAck,
    &at_least_once::AtLeastOnce,
    &hot_row::HotRow,
    &gate_without_pending_log::GateWithoutPendingLog,
    &local_sold_out_cache::LocalSoldOutCache,
    &retry_storm::RetryStorm,
];

/// The experiment of this name.
pub fn find(name: &str) -> Option<&'static dyn Experiment> {
    ALL.iter().copied().find(|experiment| experiment.about().name == name)
}
