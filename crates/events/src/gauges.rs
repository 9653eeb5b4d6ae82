//! What waits in the outbox, for the built-in subscribers and for a human, as gauges. They are read from the servers, so every
//! process that runs this shows the same, and one that cannot read them keeps what it has read last.

use std::time::Duration;

use seckill_core::{Backend, Fault, SubscriberName, Timestamp};
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
    let refunds = in_turns("the refunds", || refunds(&backend));
    shutdown.run_until_cancelled(async { tokio::join!(outbox, waiting, refunds) }).await;
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
    metrics::gauge!("seckill_outbox_age_seconds").set(age_seconds(depth.oldest_pending, depth.now));
    Ok(())
}

/// How long something has waited; 0 without it.
fn age_seconds(since: Option<Timestamp>, now: Timestamp) -> f64 {
    let age = since.map_or(0, |since| (now - since).num_milliseconds());
    age.max(0) as f64 / 1_000.0
}

async fn refunds(backend: &Backend) -> Result<(), Fault> {
    let open = backend.lifecycle.open_refunds(0).await?;
    metrics::gauge!("seckill_refunds_running").set(open.running as f64);
    metrics::gauge!("seckill_refunds_held").set(open.held as f64);
    metrics::gauge!("seckill_refunds_held_age_seconds").set(age_seconds(open.oldest_held, open.now));
    Ok(())
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
    fn what_has_not_waited_yet_has_no_age() {
        let now = now();
        assert_eq!(age_seconds(None, now), 0.0);
        assert_eq!(age_seconds(Some(now - Duration::from_millis(1_500)), now), 1.5);
        assert_eq!(age_seconds(Some(now + Duration::from_secs(1)), now), 0.0, "clocks may be set back");
    }
}
