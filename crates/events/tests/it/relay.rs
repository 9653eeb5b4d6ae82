//! The relay: every event reaches the bus, whatever happens on the way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Backend, Dependency, EventBus, EventMessage, EventPattern, EventPublisher, Fault, OutboxState, SaleId,
    SubscriberName, Subscription, Waiting,
};
use seckill_events::relay::{self, Lane};
use seckill_testkit::eventually;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::setup::{SOON, back_end, order, paid, subscribe, take, write};

/// The real bus, which refuses some events.
struct Refusing {
    inner: Arc<dyn EventBus>,
    refused: Arc<Mutex<HashSet<Uuid>>>,
}

impl Refusing {
    fn wrap(backend: &Backend) -> (Backend, Arc<Mutex<HashSet<Uuid>>>) {
        let refused = Arc::<Mutex<HashSet<Uuid>>>::default();
        let bus = Self { inner: Arc::clone(&backend.events), refused: Arc::clone(&refused) };
        (Backend { events: Arc::new(bus), ..backend.clone() }, refused)
    }
}

#[async_trait]
impl EventBus for Refusing {
    async fn publisher(&self) -> Result<Box<dyn EventPublisher>, Fault> {
        let inner = self.inner.publisher().await?;
        Ok(Box::new(RefusingPublisher { inner, refused: Arc::clone(&self.refused) }))
    }

    async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, Fault> {
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

struct RefusingPublisher {
    inner: Box<dyn EventPublisher>,
    refused: Arc<Mutex<HashSet<Uuid>>>,
}

#[async_trait]
impl EventPublisher for RefusingPublisher {
    async fn publish(&mut self, event: &EventMessage) -> Result<(), Fault> {
        if self.refused.lock().unwrap().contains(&event.id) {
            return Err(Fault::unavailable(Dependency::Events, "it does not like this event"));
        }
        self.inner.publish(event).await
    }
}

#[tokio::test]
async fn what_is_in_the_outbox_is_published_and_marked_as_sent() {
    let (_folder, backend) = back_end().await;
    let mut reader = subscribe(&backend, "reader").await;
    let stop = CancellationToken::new();
    let relay = tokio::spawn(relay::run(backend.clone(), stop.clone()));
    let events: Vec<_> = (0..250).map(|user| paid(SaleId(1), vec![order(user)])).collect();
    write(&backend, &events).await;
    let mut came: Vec<_> = take(&mut *reader, 250).await.iter().map(|message| message.id).collect();
    came.sort_unstable();
    let mut sent: Vec<_> = events.iter().map(|event| event.id).collect();
    sent.sort_unstable();
    assert_eq!(came, sent);
    eventually(SOON, async || {
        let depth = backend.outbox.depth().await.unwrap();
        if depth.pending == 0 { Ok(()) } else { Err(depth) }
    })
    .await;
    stop.cancel();
    relay.await.unwrap();
}

/// Killed between the bus's confirm and the mark: the next relay publishes the same events again.
#[tokio::test]
async fn a_relay_that_dies_before_it_marks_events_leaves_them_to_the_next() {
    let (_folder, backend) = back_end().await;
    let mut reader = subscribe(&backend, "reader").await;
    write(&backend, &[paid(SaleId(1), vec![order(1)])]).await;
    let claimed = backend.outbox.claim(10, Duration::from_millis(1)).await.unwrap();
    backend.events.publisher().await.unwrap().publish(&claimed[0].message).await.unwrap();
    let mut lane = Lane::new(backend.clone());
    eventually(SOON, async || match lane.step().await.unwrap() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    let came = take(&mut *reader, 2).await;
    assert_eq!(came, [claimed[0].message.clone(), claimed[0].message.clone()]);
    assert_eq!(backend.outbox.list(OutboxState::Sent, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_that_the_bus_refuses_among_others_is_parked_after_ten_attempts_and_holds_up_nobody() {
    let (_folder, real) = back_end().await;
    let (backend, refused) = Refusing::wrap(&real);
    let mut reader = subscribe(&backend, "reader").await;
    let bad = paid(SaleId(1), vec![order(1)]);
    refused.lock().unwrap().insert(bad.id);
    write(&backend, std::slice::from_ref(&bad)).await;
    let mut lane = Lane::new(backend.clone());
    for attempt in 1..=relay::ATTEMPTS {
        let good = paid(SaleId(1), vec![order(2)]);
        write(&backend, std::slice::from_ref(&good)).await;
        assert_eq!(lane.step().await.unwrap(), 1);
        assert_eq!(take(&mut *reader, 1).await[0].id, good.id);
        let found = backend.outbox.find(bad.id).await.unwrap().unwrap();
        assert_eq!(found.attempts, attempt);
        assert_eq!(found.state == OutboxState::Parked, attempt == relay::ATTEMPTS, "{found:?}");
        if attempt < relay::ATTEMPTS {
            // Not to wait until it is due.
            backend.outbox.mark_failed(bad.id, "due", Some(Duration::ZERO)).await.unwrap();
        }
    }
    assert_eq!(backend.outbox.depth().await.unwrap().parked, 1);
    refused.lock().unwrap().clear();
    assert!(backend.outbox.redrive(bad.id).await.unwrap());
    assert_eq!(lane.step().await.unwrap(), 1);
    assert_eq!(take(&mut *reader, 1).await[0].id, bad.id);
}

#[tokio::test]
async fn a_bus_that_is_away_parks_nothing() {
    let (_folder, real) = back_end().await;
    let (backend, refused) = Refusing::wrap(&real);
    let events: Vec<_> = (0..3).map(|user| paid(SaleId(1), vec![order(user)])).collect();
    refused.lock().unwrap().extend(events.iter().map(|event| event.id));
    write(&backend, &events).await;
    let mut lane = Lane::new(backend.clone());
    for _ in 0..=relay::ATTEMPTS {
        assert!(lane.step().await.unwrap_err().to_string().contains("does not like"));
        for event in &events {
            backend.outbox.mark_failed(event.id, "due", Some(Duration::ZERO)).await.unwrap();
        }
    }
    let depth = backend.outbox.depth().await.unwrap();
    assert_eq!((depth.pending, depth.parked), (3, 0));
    refused.lock().unwrap().clear();
    assert_eq!(lane.step().await.unwrap(), 3);
}
