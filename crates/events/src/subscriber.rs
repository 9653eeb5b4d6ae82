//! Subscribers that are part of seckill: each has a name, the types of event that it wants, and what it does with one. It runs by
//! itself: one that is slow or fails slows down nobody else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use seckill_core::{
    AbortPoint, Backend, DeliveryTag, Event, EventDelivery, EventPattern, Fault, SubscriberName,
    Subscription, TraceParent, abort_point, in_trace,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// Events that a subscriber has in hand, at the most.
const PREFETCH: u16 = 32;

/// What a subscriber does with events.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Its name: events are kept under it while it is away.
    fn name(&self) -> &'static str;

    /// The types of event that it wants.
    fn patterns(&self) -> &'static [&'static str];

    /// Events that it takes in at the same time, 1 or more. More than one where an event may have to wait for somebody outside.
    fn at_once(&self) -> usize {
        1
    }

    /// Takes one event in, and records that in the inbox, also where there is nothing to do; false, if it had been taken in before.
    /// The same event may come again, also while it is being taken in elsewhere, and events of one order may come in another order
    /// than they happened. Dropping the future is as a crash at that moment.
    ///
    /// # Errors
    /// A part of the system is away; the event is tried again.
    async fn take_in(&self, backend: &Backend, event: &Event) -> Result<bool, Fault>;
}

/// Subscribes for all of them and receives nothing, through every fault: from then on the bus keeps their events.
pub(crate) async fn introduce(backend: &Backend, subscribers: &[Arc<dyn Subscriber>]) {
    // Side by side: making a queue takes a second on RabbitMQ.
    join_all(subscribers.iter().map(|subscriber| async move {
        let mut pauses = pauses();
        while let Err(fault) = subscribe(backend, &**subscriber).await {
            tracing::warn!(subscriber = subscriber.name(), error = %fault, "events wait for a subscriber to be known");
            sleep(pauses.next().unwrap_or_default()).await;
        }
    }))
    .await;
}

async fn subscribe(backend: &Backend, subscriber: &dyn Subscriber) -> Result<Box<dyn Subscription>, Fault> {
    let name: SubscriberName = subscriber.name().parse().expect("a built-in name is a name");
    backend.events.subscribe(&name, &patterns(subscriber), PREFETCH).await
}

pub(crate) fn patterns(subscriber: &dyn Subscriber) -> Vec<EventPattern> {
    let parse = |text: &&str| text.parse().expect("a built-in pattern is one");
    subscriber.patterns().iter().map(parse).collect()
}

/// Receives for `subscriber` until `shutdown`, through every fault.
pub(crate) async fn run(backend: Backend, subscriber: Arc<dyn Subscriber>, shutdown: CancellationToken) {
    let receiving = async {
        let mut pauses = pauses();
        loop {
            let fault = match receive(&backend, &*subscriber, &mut pauses).await {
                Ok(never) => match never {},
                Err(fault) => fault,
            };
            tracing::warn!(subscriber = subscriber.name(), error = %fault, "a subscriber is cut off");
            sleep(pauses.next().unwrap_or_default()).await;
        }
    };
    let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(receiving).await;
}

/// Pauses from 50 ms up to 5 s, jittered, without an end.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build()
}

async fn receive(
    backend: &Backend,
    subscriber: &dyn Subscriber,
    reconnects: &mut ExponentialBackoff,
) -> Result<std::convert::Infallible, Fault> {
    let mut subscription = subscribe(backend, subscriber).await?;
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            delivery = subscription.next(), if running.len() < subscriber.at_once() => {
                let delivery = delivery?;
                *reconnects = pauses();
                match delivery.message.event() {
                    Ok(event) => running.push(take_in(backend, subscriber, event, delivery.tag)),
                    Err(reason) => park(subscriber, &mut *subscription, delivery, &reason).await?,
                }
            }
            Some(tag) = running.next() => {
                abort_point(AbortPoint::EventTaken);
                subscription.ack(tag).await?;
            }
        }
    }
}

/// One that cannot be read waits for a human.
async fn park(
    subscriber: &dyn Subscriber,
    subscription: &mut dyn Subscription,
    delivery: EventDelivery,
    reason: &str,
) -> Result<(), Fault> {
    let name = subscriber.name();
    tracing::error!(subscriber = name, %reason, "an event is parked");
    metrics::counter!("seckill_events_taken_total", "subscriber" => name, "outcome" => "parked").increment(1);
    subscription.park(delivery, reason).await
}

/// The span of an attempt to take in an event that belongs to a trace, and where that goes on.
fn begin(subscriber: &dyn Subscriber, event: &Event) -> (Span, Option<TraceParent>) {
    let Some(cause) = event.traceparent.as_ref().and_then(|text| text.parse().ok()) else {
        return (Span::none(), None);
    };
    let name = subscriber.name();
    let span = tracing::info_span!(parent: None, "take in event", otel.kind = "consumer", subscriber = name, event = %event.id);
    let trace = seckill_trace::of_causes(&span, [cause]);
    (span, trace)
}

/// Takes in one event, waiting for whatever is away; then it can be acknowledged.
async fn take_in(
    backend: &Backend,
    subscriber: &dyn Subscriber,
    event: Event,
    tag: DeliveryTag,
) -> DeliveryTag {
    let name = subscriber.name();
    let mut pauses = pauses();
    let first = loop {
        // What follows from the event goes on with its trace.
        let (span, trace) = begin(subscriber, &event);
        match in_trace(trace, subscriber.take_in(backend, &event)).instrument(span).await {
            Ok(first) => break first,
            Err(fault) => {
                tracing::warn!(subscriber = name, event = %event.id, error = %fault, "an event waits");
                sleep(pauses.next().unwrap_or_default()).await;
            }
        }
    };
    let outcome = if first { "taken" } else { "repeated" };
    metrics::counter!("seckill_events_taken_total", "subscriber" => name, "outcome" => outcome).increment(1);
    tag
}
