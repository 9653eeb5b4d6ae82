//! Draining the queue for a rebuild: when it is done, everything that was promised is in the ledger.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Dependency, Fault, Marker, OrderBatch, RebuildStep, Sale};
use tokio::time::{Instant, sleep};

use super::{LEASE, LOOK, Rebuilder, lost_lease, stopped};
use crate::drain::{Lane, Step};

/// How often it is logged that a rebuild is left to other workers.
const LOG_LEFT_EVERY: Duration = Duration::from_secs(60);

const NEWER_WAIT: &str = "messages wait for a newer version of seckill, and a gate must not be rebuilt without their orders. \
                          Start a worker of that version";

impl Rebuilder {
    /// Whether this worker may take up a rebuild, as far as it is known; where one is `wanted` and it may not, it logs why. A rebuild
    /// needs the orders of all messages, so it must be left to a worker that reaches the queue and can read them. Moves back what
    /// an older worker has set aside.
    pub(super) async fn is_able(&mut self, wanted: bool) -> bool {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let reason = match self.backend.queue.return_newer().await {
            Ok(0) => return true,
            Ok(_) => NEWER_WAIT.to_owned(),
            Err(fault) => format!("messages that were set aside cannot be looked for: {fault}"),
        };
        if wanted && self.left_at.is_none_or(|at| at.elapsed() >= LOG_LEFT_EVERY) {
            self.left_at = Some(Instant::now());
            tracing::warn!("a rebuild is left to other workers: {reason}");
        }
        false
    }

    /// Drains the queue at the drain rate, as its only consumer, until everything is in the ledger that was published before now.
    pub(super) async fn drain(&self, sale: &Sale, say: impl Fn(u64, Option<u64>)) -> Result<(), Fault> {
        self.turn.send_modify(|turn| turn.aside = true);
        // What the others hold goes back to the queue before a marker that is published afterwards comes out.
        while self.backend.queue.consumers().await? > 0 {
            say(0, None);
            sleep(LOOK / 4).await;
        }
        let mut lane = Lane::new(&self.backend, self.config, Arc::clone(&self.pace), self.shutdown.clone());
        let at = (RebuildStep::Draining, 0, None);
        if !self.backend.ledger.own_rebuild(sale.id, sale.epoch, self.worker, LEASE, at).await? {
            return Err(lost_lease(sale.id));
        }
        lane.subscribe().await?;
        // Two markers in a row without another consumer: one that held an older message when the first went by, and left before it
        // was seen, has given that message back in front of the second. A fault, a lost channel too, begins the rebuild again.
        let (mut done, mut alone) = (0, 0);
        while alone < 2 {
            // In front of the marker, what this worker can read and an older one could not.
            if self.backend.queue.return_newer().await? > 0 {
                return Err(too_new());
            }
            let marker = self.publish_marker(sale).await?;
            loop {
                // Cut short only while it waits: a commit runs to its end.
                let Step::Committed(progress) = lane.step().await? else { return Err(stopped()) };
                done += (progress.committed + progress.redelivered + progress.rejected) as u64;
                say(done, None);
                if lane.take_passed().iter().any(|passed| passed.id == marker.id) {
                    break;
                }
            }
            // A marker passes what was set aside on the way, by this lane or by another worker.
            let complete = self.backend.queue.parked_depth().await?.newer == 0;
            alone = if complete && self.backend.queue.consumers().await? == 1 { alone + 1 } else { 0 };
        }
        Ok(())
    }

    async fn publish_marker(&self, sale: &Sale) -> Result<Marker, Fault> {
        let marker = Marker::new(0);
        let mut publisher = self.backend.queue.publisher().await?;
        publisher.publish(&OrderBatch::marker(sale.id, sale.epoch, marker)).await?;
        Ok(marker)
    }
}

fn too_new() -> Fault {
    Fault::unavailable(Dependency::Queue, NEWER_WAIT)
}
