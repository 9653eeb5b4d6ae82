//! The relay: takes events from the outbox, publishes them, and records that they are sent.
//!
//! An event is written in the transaction of the state that it tells of, so it is there whenever the state is. The relay takes it
//! under a lease, waits for the bus's confirm, and only then marks it as sent. Killed at any point, the lease ends, and the event is
//! published again: at least once, and never lost.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use seckill_core::{AbortPoint, Backend, EventBody, EventPublisher, Fault, OutboxEvent, abort_point};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::subscriber::{self, Subscriber};

/// Relays that work side by side in one process. Two, so that one slow confirm does not hold up everything.
const LANES: usize = 2;
/// Events that a lane takes at once.
const BATCH: u32 = 100;
/// How long an event is a lane's. Longer than publishing a whole batch takes; then another one takes it.
const LEASE: Duration = Duration::from_secs(20);
/// How often a lane looks while nothing is due.
const IDLE: Duration = Duration::from_millis(50);
/// An event that the bus takes others before and refuses so often is parked for a human.
pub const ATTEMPTS: u32 = 10;
/// The first pause before an event that was refused is due again; doubled with every attempt up to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Sent events are kept for this long, to look at and to send again.
const KEPT: Duration = Duration::from_secs(24 * 3_600);
/// How often what is older is removed, and how much at a time.
const TIDY_EVERY: Duration = Duration::from_secs(10);
const TIDY_BATCH: u32 = 5_000;

/// Publishes what is due until `shutdown`, through every fault. Several processes may do so at once.
pub async fn run(backend: Backend, shutdown: CancellationToken) {
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(shutdown.clone().run_until_cancelled_owned(go_on(backend.clone())));
    }
    lanes.spawn(shutdown.run_until_cancelled_owned(tidy(backend.clone())));
    // A panic in a lane is a bug; the other one goes on, and the leases of its events end.
    while let Some(ended) = lanes.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "a lane of the relay panicked");
        }
    }
}

async fn go_on(backend: Backend) -> std::convert::Infallible {
    let mut lane = Lane { backend, publisher: None };
    let mut pauses = pauses();
    loop {
        match lane.step().await {
            Ok(0) => sleep(IDLE).await,
            Ok(_) => pauses = self::pauses(),
            Err(fault) => {
                tracing::warn!(error = %fault, "events wait in the outbox");
                sleep(pauses.next().unwrap_or(IDLE)).await;
            }
        }
    }
}

/// Pauses from 100 ms up to 5 s, jittered, without an end.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}

/// One lane of the relay: its publisher stays its own.
pub struct Lane {
    backend: Backend,
    publisher: Option<Box<dyn EventPublisher>>,
}

impl Lane {
    /// A lane without a publisher; it asks for one when it needs it.
    pub fn new(backend: Backend) -> Self {
        Self { backend, publisher: None }
    }

    /// Publishes the events that are due, up to a batch of them; how many the bus took.
    ///
    /// # Errors
    /// The outbox or the bus is away. What was published and not recorded as sent is published again.
    pub async fn step(&mut self) -> Result<usize, Fault> {
        let due = self.backend.outbox.claim(BATCH, LEASE).await?;
        if due.is_empty() {
            return Ok(0);
        }
        abort_point(AbortPoint::RelayClaimed);
        let (mut sent, mut refused) = (Vec::with_capacity(due.len()), Vec::new());
        for event in &due {
            match self.publish(event).await {
                Ok(()) => sent.push(event.message.id),
                Err(fault) => refused.push((event, fault)),
            }
        }
        abort_point(AbortPoint::RelayPublished);
        if !sent.is_empty() {
            self.backend.outbox.mark_sent(&sent).await?;
            metrics::counter!("seckill_events_sent_total").increment(sent.len() as u64);
        }
        abort_point(AbortPoint::RelayMarked);
        let outage = sent.is_empty();
        let first = refused.first().map(|(_, fault)| fault.clone());
        for (event, fault) in refused {
            refused_by_bus(&self.backend, event, &fault, outage).await?;
        }
        match first {
            // Nothing got through: the bus is away, whatever the events are.
            Some(fault) if outage => Err(fault),
            _ => Ok(sent.len()),
        }
    }

    async fn publish(&mut self, event: &OutboxEvent) -> Result<(), Fault> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            none => none.insert(self.backend.events.publisher().await?),
        };
        let published = publisher.publish(&event.message).await;
        if published.is_err() {
            self.publisher = None;
        }
        published
    }
}

/// An event that the bus refused is due again later, and parked after so many attempts. While the bus takes nothing at all, the
/// event is not to blame, and is never parked.
async fn refused_by_bus(
    backend: &Backend,
    event: &OutboxEvent,
    fault: &Fault,
    outage: bool,
) -> Result<(), Fault> {
    let retry = (outage || event.attempts < ATTEMPTS).then(|| retry_after(event.attempts, outage));
    if retry.is_none() {
        tracing::error!(event = %event.message.id, error = %fault, "an event is parked: the bus refused it too often");
    }
    metrics::counter!("seckill_events_refused_total").increment(1);
    backend.outbox.mark_failed(event.message.id, &fault.to_string(), retry).await
}

fn retry_after(attempts: u32, outage: bool) -> Duration {
    if outage {
        return FIRST_RETRY;
    }
    FIRST_RETRY.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LAST_RETRY)
}

/// How long an event may take from the bus to a subscriber of seckill while nothing waits for that one.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// Events sent longer ago than this are looked at only when the process starts: what was lost while one ran was found then.
const LOOK_BACK: Duration = Duration::from_secs(3_600);
/// How often it is looked for events that the bus has lost, and how many are sent again at a time.
const LOOK_FOR_LOST: Duration = Duration::from_secs(30);
const LOST_BATCH: u32 = 1_000;

/// Sends again what the bus has lost, for as long as the process runs.
pub(crate) async fn look_for_lost(
    backend: Backend,
    subscribers: Vec<Arc<dyn Subscriber>>,
) -> std::convert::Infallible {
    let mut look_back = KEPT;
    loop {
        sleep(LOOK_FOR_LOST).await;
        let mut seen_all = true;
        for subscriber in &subscribers {
            match send_lost_again(&backend, &**subscriber, LOST_AFTER..=look_back).await {
                Ok(Some(0)) => {}
                Ok(None) => seen_all = false,
                Ok(Some(events)) => {
                    seen_all &= events < u64::from(LOST_BATCH);
                    tracing::warn!(
                        subscriber = subscriber.name(),
                        events,
                        "the bus has lost events; they are sent again"
                    );
                }
                Err(fault) => {
                    seen_all = false;
                    tracing::debug!(error = %fault, "nobody can look for lost events");
                }
            }
        }
        if seen_all {
            look_back = LOOK_BACK;
        }
    }
}

/// Makes events due again that were sent so long ago, that the subscriber has not taken in, and that do not wait for it either: a bus
/// that was emptied has lost them. Whoever has taken one in already takes it in once. Returns how many; `None`: events wait for the subscriber, so it cannot be told.
///
/// # Errors
/// The outbox or the bus is away.
pub async fn send_lost_again(
    backend: &Backend,
    subscriber: &dyn Subscriber,
    ages: RangeInclusive<Duration>,
) -> Result<Option<u64>, Fault> {
    let name = subscriber.name().parse().expect("a built-in name is a name");
    if backend.events.waiting(&name).await?.is_none_or(|waiting| waiting.events > 0) {
        return Ok(None);
    }
    let patterns = subscriber::patterns(subscriber);
    let wanted = |kind: &&str| patterns.iter().any(|pattern| pattern.matches(kind));
    let kinds: Vec<&str> = EventBody::KINDS.into_iter().filter(wanted).collect();
    let lost = backend.outbox.not_taken_in(subscriber.name(), &kinds, ages, LOST_BATCH).await?;
    for event in &lost {
        backend.outbox.redrive(*event).await?;
    }
    metrics::counter!("seckill_events_sent_again_total").increment(lost.len() as u64);
    Ok(Some(lost.len() as u64))
}

async fn tidy(backend: Backend) -> std::convert::Infallible {
    loop {
        match backend.outbox.forget_sent(KEPT, TIDY_BATCH).await {
            Ok(removed) if removed >= u64::from(TIDY_BATCH) => continue,
            Ok(_) => {}
            Err(fault) => tracing::debug!(error = %fault, "sent events cannot be removed"),
        }
        sleep(TIDY_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_refused_waits_longer_each_time() {
        let seconds = |attempts| retry_after(attempts, false).as_secs();
        assert_eq!([1, 2, 3, 4, 9, 10, 40].map(seconds), [1, 2, 4, 8, 256, 300, 300]);
        assert_eq!(retry_after(40, true), FIRST_RETRY);
    }
}
