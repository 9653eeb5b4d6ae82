//! What the queue has in common with its publishers and consumers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seckill_core::MESSAGE_VERSION;

use super::connection::Link;
use super::intake::Intake;
use super::topology::names;
use crate::identity::Identity;

const LOG_EVERY: Duration = Duration::from_secs(60);

/// What the queue has in common with its publishers and consumers.
pub(super) struct Shared {
    pub(super) identity: Arc<Identity>,
    /// Consumers use it too, to park messages.
    pub(super) publishing: Link,
    pub(super) intake: Intake,
    newer_logged_at: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(identity: Arc<Identity>, publishing: Link) -> Self {
        Self { identity, publishing, intake: Intake::default(), newer_logged_at: Mutex::default() }
    }

    /// Counts a message of a newer version, and warns of them once a minute.
    pub(super) fn log_newer(&self, version: u64) {
        metrics::counter!("seckill_newer_messages_total").increment(1);
        let now = Instant::now();
        let mut logged_at = self.newer_logged_at.lock().expect("nothing panics while it holds the lock");
        if logged_at.is_none_or(|at| now - at >= LOG_EVERY) {
            *logged_at = Some(now);
            tracing::warn!(
                version,
                known = MESSAGE_VERSION,
                queue = names::NEWER,
                "the queue has messages of a newer version of seckill; they are moved to a queue of their own, for the workers \
                 of that version. Start some, or update this worker"
            );
        }
    }
}
