//! Delivering to somebody outside: as lines, through outages of the bus.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use seckill_core::{
    Backend, Dependency, EventBus, EventMessage, EventPattern, EventPublisher, Fault, SaleId, SubscriberName,
    Subscription, Waiting,
};
use seckill_events::deliver::{DeliverError, Delivery, End, Lines, deliver};
use seckill_testkit::eventually;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

use crate::setup::{SOON, back_end, order, paid};

const NAME: &str = "ledger-copy";

fn name() -> SubscriberName {
    NAME.parse().unwrap()
}

fn all() -> [EventPattern; 1] {
    ["*".parse().unwrap()]
}

/// Makes the subscription, and publishes events that it keeps.
async fn published(backend: &Backend, events: u64) -> Vec<EventMessage> {
    drop(backend.events.subscribe(&name(), &all(), 1).await.unwrap());
    let messages: Vec<_> = (0..events).map(|user| paid(SaleId(1), vec![order(user)]).message()).collect();
    let mut publisher = backend.events.publisher().await.unwrap();
    for message in &messages {
        publisher.publish(message).await.unwrap();
    }
    messages
}

/// What is delivered of `count` events, as text.
async fn lines(bus: &dyn EventBus, count: u64) -> String {
    let mut sink = Lines(Vec::new());
    let delivery = Delivery { name: &name(), patterns: &all(), count: Some(count) };
    let ended = tokio::time::timeout(SOON, deliver(bus, delivery, &mut sink, CancellationToken::new()));
    assert_eq!(ended.await.unwrap().unwrap(), End::Counted);
    String::from_utf8(sink.0).unwrap()
}

fn text(messages: &[EventMessage]) -> String {
    messages.iter().map(|message| format!("{}\n", message.text)).collect()
}

async fn assert_waiting(backend: &Backend, events: u64) {
    eventually(SOON, async || {
        let waiting = backend.events.waiting(&name()).await.unwrap().unwrap();
        if waiting == (Waiting { events, parked: 0 }) { Ok(()) } else { Err(waiting) }
    })
    .await;
}

#[tokio::test]
async fn each_event_is_a_line_and_what_was_not_asked_for_stays() {
    let (_folder, backend) = back_end().await;
    let messages = published(&backend, 3).await;
    assert_eq!(lines(&*backend.events, 2).await, text(&messages[..2]));
    assert_waiting(&backend, 1).await;
    assert_eq!(lines(&*backend.events, 1).await, text(&messages[2..]));
    assert_waiting(&backend, 0).await;
}

/// A bus that is away for the first calls.
struct Away {
    inner: Arc<dyn EventBus>,
    fault: Fault,
    times: AtomicU32,
}

#[async_trait]
impl EventBus for Away {
    async fn publisher(&self) -> Result<Box<dyn EventPublisher>, Fault> {
        self.inner.publisher().await
    }

    async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, Fault> {
        let left = self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(self.fault.clone());
        }
        self.inner.subscribe(name, patterns, prefetch).await
    }

    async fn unsubscribe(&self, name: &SubscriberName) -> Result<bool, Fault> {
        self.inner.unsubscribe(name).await
    }

    async fn waiting(&self, name: &SubscriberName) -> Result<Option<Waiting>, Fault> {
        self.inner.waiting(name).await
    }

    async fn redrive_parked(&self, name: &SubscriberName) -> Result<u64, Fault> {
        self.inner.redrive_parked(name).await
    }
}

#[tokio::test]
async fn a_bus_that_is_away_is_waited_for() {
    let (_folder, backend) = back_end().await;
    let messages = published(&backend, 1).await;
    let fault = Fault::unavailable(Dependency::Events, "it is restarted");
    let bus = Away { inner: Arc::clone(&backend.events), fault, times: 3.into() };
    assert_eq!(lines(&bus, 1).await, text(&messages));
}

#[tokio::test]
async fn a_bus_that_refuses_is_not_waited_for() {
    let (_folder, backend) = back_end().await;
    let fault = Fault::misconfigured(Dependency::Events, "the password is wrong");
    let bus = Away { inner: Arc::clone(&backend.events), fault, times: 1.into() };
    let delivery = Delivery { name: &name(), patterns: &all(), count: None };
    let ended = deliver(&bus, delivery, &mut Lines(Vec::new()), CancellationToken::new()).await;
    assert!(matches!(ended, Err(DeliverError::Bus(Fault::Misconfigured { .. }))), "{ended:?}");
}

#[tokio::test]
async fn a_shutdown_ends_the_waiting() {
    let (_folder, backend) = back_end().await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let delivery = Delivery { name: &name(), patterns: &all(), count: None };
    let ended = deliver(&*backend.events, delivery, &mut Lines(Vec::new()), shutdown).await;
    assert_eq!(ended.unwrap(), End::Shutdown);
}

/// Fails every write.
struct Broken(io::ErrorKind);

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.0.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_was_not_written_stays() {
    let (_folder, backend) = back_end().await;
    published(&backend, 1).await;
    for kind in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
        let delivery = Delivery { name: &name(), patterns: &all(), count: None };
        let ended =
            deliver(&*backend.events, delivery, &mut Lines(Broken(kind)), CancellationToken::new()).await;
        match kind {
            // Nobody reads any more, and that is no error.
            io::ErrorKind::BrokenPipe => assert_eq!(ended.unwrap(), End::Closed),
            _ => assert!(matches!(ended, Err(DeliverError::Output(_))), "{ended:?}"),
        }
        assert_waiting(&backend, 1).await;
    }
}
