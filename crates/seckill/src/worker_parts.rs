//! What a worker is started with.

use seckill_lifecycle::{expire, refund};
use seckill_worker::Pace;

/// A worker, and what runs beside it.
pub(crate) struct WorkerParts {
    pub(crate) config: seckill_worker::Config,
    pub(crate) pace: Pace,
    pub(crate) after: AfterConfig,
}

/// How orders change after their commit.
#[derive(Clone, Default)]
pub(crate) struct AfterConfig {
    pub(crate) expiry: expire::Config,
    pub(crate) rules: refund::Rules,
}
