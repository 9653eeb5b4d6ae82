//! What is counted and logged when a queue has messages that are newer than this program.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use seckill_core::MESSAGE_VERSION;

const LOG_EVERY: Duration = Duration::from_secs(60);

/// When it was last logged.
#[derive(Default)]
pub(crate) struct NewerLog(Mutex<Option<Instant>>);

impl NewerLog {
    /// Counts a message of a newer version, which is moved to `queue`, and warns of them once a minute.
    pub(crate) fn note(&self, version: u64, queue: &str) {
        metrics::counter!("seckill_newer_messages_total").increment(1);
        let now = Instant::now();
        let mut logged_at = self.0.lock().expect("nothing panics while it holds the lock");
        if logged_at.is_none_or(|at| now - at >= LOG_EVERY) {
            *logged_at = Some(now);
            tracing::warn!(
                version,
                known = MESSAGE_VERSION,
                queue,
                "the queue has messages of a newer version of seckill; they are moved to a queue of their own, for the workers \
                 of that version. Start some, or update this worker"
            );
        }
    }
}
