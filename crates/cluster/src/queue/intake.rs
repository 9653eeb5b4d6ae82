//! Whether the queue takes messages, as far as its answers to this process say. An open channel says nothing about that: a
//! queue at its length limit, or one without a majority of its nodes, accepts connections as before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The wait before the first probe after a refusal; it doubles with every probe that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long one publisher keeps the probe for itself: longer than a lane takes from asking to the confirm.
const PROBE_LEASE: Duration = Duration::from_secs(10);

/// A refusal of which nothing was heard for so long after its probe fell due makes the queue unready no longer: where
/// unreadiness keeps all buyers away, nobody would probe.
const STALE: Duration = Duration::from_secs(10);

/// Shared by the publishers of a process. After a refusal they wait, and one at a time tries one batch.
#[derive(Default)]
pub(crate) struct Intake {
    publishers: AtomicU64,
    /// A std mutex, never held across an await.
    refusal: Mutex<Option<Refusal>>,
}

struct Refusal {
    reason: String,
    pause: Duration,
    probe_at: Instant,
    probe: Option<Probe>,
}

/// The one publisher that may publish, and until when.
struct Probe {
    publisher: u64,
    until: Instant,
}

impl Intake {
    /// A number for a publisher, unique in this process.
    pub(crate) fn number(&self) -> u64 {
        self.publishers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether this publisher may publish one batch now. After a refusal, true makes it the one that probes.
    pub(crate) fn admits(&self, publisher: u64) -> bool {
        let mut refusal = self.refusal();
        let Some(refusal) = refusal.as_mut() else { return true };
        let now = Instant::now();
        let admitted = match &refusal.probe {
            Some(probe) => probe.publisher == publisher || probe.until <= now,
            None => refusal.probe_at <= now,
        };
        if admitted {
            refusal.probe = Some(Probe { publisher, until: now + PROBE_LEASE });
        }
        admitted
    }

    /// The queue has confirmed a batch of this publisher. Only a probe ends a refusal: a batch that was sent before the
    /// refusal says nothing about now.
    pub(crate) fn took(&self, publisher: u64) {
        let mut refusal = self.refusal();
        if refusal.as_ref().is_some_and(|refusal| refusal.is_probed_by(publisher)) {
            *refusal = None;
            tracing::info!("the queue takes messages again");
        }
    }

    /// The queue has refused a batch of this publisher, or has not confirmed it.
    pub(crate) fn refused(&self, publisher: u64, reason: &str) {
        metrics::counter!("seckill_queue_refusals_total").increment(1);
        let mut refusal = self.refusal();
        let pause = match refusal.as_ref() {
            None => {
                tracing::warn!(reason, "the queue refuses messages; one batch at a time tries again");
                FIRST_PAUSE
            }
            Some(refusal) if refusal.is_probed_by(publisher) => LONGEST_PAUSE.min(refusal.pause * 2),
            // Sent before the refusal was known: a probe that is under way goes on.
            Some(_) => return,
        };
        let probe_at = Instant::now() + pause;
        *refusal = Some(Refusal { reason: reason.to_owned(), pause, probe_at, probe: None });
    }

    /// The publisher is gone; if it had the probe, another one may have it.
    pub(crate) fn left(&self, publisher: u64) {
        let mut refusal = self.refusal();
        if let Some(refusal) = refusal.as_mut().filter(|refusal| refusal.is_probed_by(publisher)) {
            refusal.probe = None;
        }
    }

    /// Why messages are refused now; `None`: they are not, or nobody has tried for a while.
    pub(crate) fn reason(&self) -> Option<String> {
        let refusal = self.refusal();
        let refusal = refusal.as_ref()?;
        let since = refusal.probe.as_ref().map_or(refusal.probe_at, |probe| probe.until);
        (Instant::now() < since + STALE).then(|| refusal.reason.clone())
    }

    fn refusal(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refusal.lock().expect("nothing that is done under this lock can panic")
    }
}

impl Refusal {
    fn is_probed_by(&self, publisher: u64) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.publisher == publisher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes the probe due, as if the pause was over.
    fn pass_the_pause(intake: &Intake) -> Duration {
        let mut refusal = intake.refusal();
        let refusal = refusal.as_mut().unwrap();
        refusal.probe_at = Instant::now();
        refusal.pause
    }

    #[test]
    fn after_a_refusal_one_publisher_probes_and_its_success_admits_all() {
        let intake = Intake::default();
        let [one, two] = [intake.number(), intake.number()];
        assert!(intake.admits(one) && intake.admits(two));
        intake.refused(one, "full");
        assert!(!intake.admits(one) && !intake.admits(two));
        assert_eq!(intake.reason().unwrap(), "full");
        intake.took(two);
        assert!(!intake.admits(two), "a batch that was sent earlier proves nothing");

        assert_eq!(pass_the_pause(&intake), FIRST_PAUSE);
        assert!(intake.admits(two) && intake.admits(two));
        assert!(!intake.admits(one), "the other one has the probe");
        intake.refused(one, "full");
        assert!(intake.admits(two), "what was sent earlier does not end the probe");
        intake.refused(two, "full");
        assert!(!intake.admits(one) && !intake.admits(two));

        assert_eq!(pass_the_pause(&intake), 2 * FIRST_PAUSE);
        assert!(intake.admits(one));
        intake.left(one);
        assert!(intake.admits(two), "a publisher that is dropped leaves the probe to another one");
        intake.took(two);
        assert!(intake.admits(one) && intake.admits(two));
        assert_eq!(intake.reason(), None);
    }

    #[test]
    fn the_pause_has_an_end() {
        let intake = Intake::default();
        intake.refused(0, "full");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(pass_the_pause(&intake));
            assert!(intake.admits(0));
            intake.refused(0, "full");
        }
        assert!(pauses.is_sorted() && pauses.last() == Some(&LONGEST_PAUSE), "{pauses:?}");
    }
}
