//! What waits in the outbox and for the built-in subscribers, as gauges. They are read from the servers, so every process that runs
//! this shows the same, and one that cannot read them keeps what it has read last.

use std::time::Duration;

use seckill_core::{Backend, Fault, OutboxDepth, SubscriberName};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The pause after reading them: one second, and longer where reading takes long, so that it costs the servers one part in 20.
const EVERY: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sets the gauges until `shutdown`, through every fault. `subscribers` are names.
pub async fn run(backend: Backend, subscribers: Vec<&'static str>, shutdown: CancellationToken) {
    let outbox = in_turns("the outbox", || outbox(&backend));
    let waiting = in_turns("what waits for subscribers", || waiting(&backend, &subscribers));
    shutdown.run_until_cancelled(async { tokio::join!(outbox, waiting) }).await;
}

async fn in_turns<Reading: Future<Output = Result<(), Fault>>>(what: &str, read: impl Fn() -> Reading) {
    loop {
        let began = Instant::now();
        if let Err(fault) = read().await {
            tracing::debug!(error = %fault, "{what} cannot be read");
        }
        sleep((began.elapsed() * SHARE).clamp(EVERY, LONGEST_PAUSE)).await;
    }
}

async fn outbox(backend: &Backend) -> Result<(), Fault> {
    let depth = backend.outbox.depth().await?;
    metrics::gauge!("seckill_outbox_pending_events").set(depth.pending as f64);
    metrics::gauge!("seckill_outbox_parked_events").set(depth.parked as f64);
    metrics::gauge!("seckill_outbox_age_seconds").set(age_seconds(&depth));
    Ok(())
}

/// How long the oldest pending event has waited; 0 without one.
fn age_seconds(depth: &OutboxDepth) -> f64 {
    let age = depth.oldest_pending.map_or(0, |oldest| (depth.now - oldest).num_milliseconds());
    age.max(0) as f64 / 1_000.0
}

async fn waiting(backend: &Backend, subscribers: &[&'static str]) -> Result<(), Fault> {
    for &subscriber in subscribers {
        let name: SubscriberName = subscriber.parse().expect("a built-in name is a name");
        // Until it has subscribed for the first time nothing waits for it.
        let waiting = backend.events.waiting(&name).await?.unwrap_or_default();
        metrics::gauge!("seckill_subscriber_waiting_events", "subscriber" => subscriber)
            .set(waiting.events as f64);
        metrics::gauge!("seckill_subscriber_parked_events", "subscriber" => subscriber)
            .set(waiting.parked as f64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seckill_core::now;

    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_pending_event() {
        let now = now();
        let depth = |oldest_pending| OutboxDepth { oldest_pending, now, ..OutboxDepth::default() };
        assert_eq!(age_seconds(&depth(None)), 0.0);
        assert_eq!(age_seconds(&depth(Some(now - Duration::from_millis(1_500)))), 1.5);
        assert_eq!(age_seconds(&depth(Some(now + Duration::from_secs(1)))), 0.0, "clocks may be set back");
    }
}
