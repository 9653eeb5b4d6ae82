//! Events on their way: from the outbox to the bus ([`relay`]), and from the bus to one effect at each subscriber
//! ([`subscriber`], [`inbox`]), or to somebody outside ([`deliver`], [`webhook`]). [`gauges`] shows what waits. The relay does not know
//! who reads, and the subscribers do not know who wrote.

pub mod deliver;
pub mod gauges;
pub mod inbox;
pub mod relay;
pub mod subscriber;
pub mod subscribers;
pub mod webhook;

use std::sync::Arc;

use seckill_core::Backend;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use subscriber::Subscriber;

/// Shows the counters of events from the start, at 0, so that their first increase is seen, too.
fn show_counters(subscribers: &[Arc<dyn Subscriber>]) {
    for subscriber in subscribers.iter().map(|subscriber| subscriber.name()) {
        for outcome in ["taken", "repeated", "parked"] {
            let labels = [("subscriber", subscriber), ("outcome", outcome)];
            metrics::counter!("seckill_events_taken_total", &labels).increment(0);
        }
    }
    for name in [
        "seckill_events_sent_total",
        "seckill_events_refused_total",
        "seckill_events_sent_again_total",
        "seckill_parked_events_total",
    ] {
        metrics::counter!(name).increment(0);
    }
}

/// Runs these subscribers until `shutdown`, and `relay`, which is [`relay::run`] or whoever keeps it alive. The relay begins once the
/// bus knows all subscribers: it keeps events only for those that it knows, and those that are part of seckill must miss none.
pub async fn run(
    backend: Backend,
    subscribers: Vec<Arc<dyn Subscriber>>,
    relay: impl Future<Output = ()> + Send + 'static,
    shutdown: CancellationToken,
) {
    show_counters(&subscribers);
    let mut running = JoinSet::new();
    let known = subscribers.clone();
    for subscriber in subscribers {
        running.spawn(subscriber::run(backend.clone(), subscriber, shutdown.clone()));
    }
    running.spawn(async move {
        let introduced = subscriber::introduce(&backend, &known);
        if shutdown.run_until_cancelled(introduced).await.is_some() {
            let lost = relay::look_for_lost(backend, known);
            tokio::join!(relay, shutdown.run_until_cancelled(lost));
        }
    });
    while let Some(ended) = running.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "the relay or a subscriber panicked");
        }
    }
}
