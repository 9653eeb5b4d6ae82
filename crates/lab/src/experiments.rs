//! The experiments, a file each.

mod check_then_act;
mod gate_without_pending_log;
mod local_sold_out_cache;
mod redis_dedup;
mod retry_storm;
mod timeout_is_unknown;

use crate::experiment::Experiment;

/// All of them, in the order in which they teach.
pub const ALL: &[&dyn Experiment] = &[
    &check_then_act::CheckThenAct,
    &redis_dedup::RedisDedup,
    &timeout_is_unknown::TimeoutIsUnknown,
    &gate_without_pending_log::GateWithoutPendingLog,
    &local_sold_out_cache::LocalSoldOutCache,
    &retry_storm::RetryStorm,
];

/// The experiment of this name.
pub fn find(name: &str) -> Option<&'static dyn Experiment> {
    ALL.iter().copied().find(|experiment| experiment.about().name == name)
}
