//! The bus: from one publisher to subscribers that it does not know.

use std::collections::BTreeSet;
use std::time::Duration;

use seckill_core::{
    Backend, EventDelivery, EventMessage, EventPattern, SubscriberName, Subscription, Waiting,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::support::{DEADLINE, NEVER, Subject};
use crate::eventually;

fn name(text: &str) -> SubscriberName {
    text.parse().unwrap()
}

fn message(kind: &str) -> EventMessage {
    let id = Uuid::now_v7();
    EventMessage { id, kind: kind.to_owned(), text: format!(r#"{{"id":"{id}","秒杀":"ä"}}"#) }
}

async fn publish(backend: &Backend, kinds: &[&str]) -> Vec<EventMessage> {
    let mut publisher = backend.events.publisher().await.unwrap();
    let messages: Vec<_> = kinds.iter().map(|kind| message(kind)).collect();
    for message in &messages {
        publisher.publish(message).await.unwrap();
    }
    messages
}

async fn subscribe(backend: &Backend, to: &str, patterns: &[&str], prefetch: u16) -> Box<dyn Subscription> {
    let patterns: Vec<EventPattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
    backend.events.subscribe(&name(to), &patterns, prefetch).await.unwrap()
}

async fn next(subscription: &mut dyn Subscription) -> EventDelivery {
    let next = timeout(DEADLINE, subscription.next()).await;
    next.expect("an event waits, and none was delivered within the deadline").unwrap()
}

/// Takes so many events and acknowledges them.
async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<EventMessage> {
    let mut messages = Vec::new();
    for _ in 0..count {
        let EventDelivery { message, tag } = next(subscription).await;
        subscription.ack(tag).await.unwrap();
        messages.push(message);
    }
    messages
}

async fn assert_none(subscription: &mut dyn Subscription) {
    let next = timeout(NEVER, subscription.next()).await;
    assert!(next.is_err(), "{next:?}");
}

async fn waiting(backend: &Backend, to: &str, is_right: impl Fn(Waiting) -> bool) {
    eventually(DEADLINE, async || {
        let waiting = backend.events.waiting(&name(to)).await.unwrap();
        if waiting.is_some_and(&is_right) { Ok(()) } else { Err(waiting) }
    })
    .await;
}

/// A subscriber gets the types that it wants, whole and in the order in which they were published.
pub async fn a_subscriber_gets_what_it_wants(Subject { backend, .. }: Subject) {
    let mut refunds = subscribe(&backend, "refunds", &["refund.*", "order.paid"], 10).await;
    let kinds = ["refund.requested", "order.committed", "order.paid", "refund.succeeded", "order.cancelled"];
    let sent = publish(&backend, &kinds).await;
    let wanted = [&sent[0], &sent[2], &sent[3]].map(Clone::clone);
    assert_eq!(take(&mut *refunds, 3).await, wanted);
    assert_none(&mut *refunds).await;
}

/// Every subscriber gets every event that it wants, and none takes one from another.
pub async fn an_event_reaches_every_subscriber(Subject { backend, .. }: Subject) {
    let mut all = subscribe(&backend, "all", &["*"], 10).await;
    let mut paid = subscribe(&backend, "paid", &["*.paid"], 10).await;
    let sent = publish(&backend, &["order.paid", "order.cancelled"]).await;
    assert_eq!(take(&mut *all, 2).await, sent);
    assert_eq!(take(&mut *paid, 1).await, sent[..1]);
    assert_none(&mut *paid).await;
}

/// Without a subscriber nothing is kept, and a new one gets what comes after it.
pub async fn a_new_subscriber_gets_what_comes_after_it(Subject { backend, .. }: Subject) {
    publish(&backend, &["order.paid"]).await;
    assert_eq!(backend.events.waiting(&name("late")).await.unwrap(), None);
    let mut late = subscribe(&backend, "late", &["*"], 10).await;
    let sent = publish(&backend, &["order.paid"]).await;
    assert_eq!(take(&mut *late, 1).await, sent);
    assert_none(&mut *late).await;
}

/// A subscriber that was away finds its events, and nobody waits for it.
pub async fn events_are_kept_while_a_subscriber_is_away(Subject { backend, .. }: Subject) {
    drop(subscribe(&backend, "away", &["order.*"], 10).await);
    let mut here = subscribe(&backend, "here", &["order.*"], 10).await;
    let sent = publish(&backend, &["order.paid"; 50]).await;
    assert_eq!(take(&mut *here, 50).await, sent);
    waiting(&backend, "away", |waiting| waiting.events == 50).await;
    let mut back = subscribe(&backend, "away", &["order.*"], 10).await;
    assert_eq!(take(&mut *back, 50).await, sent);
    waiting(&backend, "away", |waiting| waiting == Waiting::default()).await;
}

/// What is not acknowledged comes again, and nothing else.
pub async fn unacknowledged_events_come_again(Subject { backend, .. }: Subject) {
    let mut first = subscribe(&backend, "reader", &["*"], 10).await;
    let sent = publish(&backend, &["order.paid"; 3]).await;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(next(&mut *first).await);
    }
    let second = deliveries.remove(1);
    first.ack(second.tag).await.unwrap();
    drop(first);
    let mut again = subscribe(&backend, "reader", &["*"], 10).await;
    let came: BTreeSet<_> = take(&mut *again, 2).await.iter().map(|message| message.id).collect();
    assert_eq!(came, BTreeSet::from([sent[0].id, sent[2].id]));
    assert_none(&mut *again).await;
}

/// A slow subscriber holds what it may hold, and slows down nobody.
pub async fn a_slow_subscriber_holds_its_prefetch_and_slows_nobody(Subject { backend, .. }: Subject) {
    let mut slow = subscribe(&backend, "slow", &["*"], 2).await;
    let mut quick = subscribe(&backend, "quick", &["*"], 10).await;
    let sent = publish(&backend, &["order.paid"; 20]).await;
    let (one, _two) = (next(&mut *slow).await, next(&mut *slow).await);
    assert_none(&mut *slow).await;
    assert_eq!(take(&mut *quick, 20).await, sent);
    slow.ack(one.tag).await.unwrap();
    next(&mut *slow).await;
}

/// Two that receive under one name share the events.
pub async fn receivers_of_one_name_share_its_events(Subject { backend, .. }: Subject) {
    let mut one = subscribe(&backend, "shared", &["*"], 1).await;
    let mut two = subscribe(&backend, "shared", &["*"], 1).await;
    let sent = publish(&backend, &["order.paid"; 10]).await;
    let mut came = Vec::new();
    while came.len() < 10 {
        let (subscription, delivery) = tokio::select! {
            delivery = one.next() => (&mut one, delivery.unwrap()),
            delivery = two.next() => (&mut two, delivery.unwrap()),
            () = tokio::time::sleep(DEADLINE) => panic!("{} of 10 events came", came.len()),
        };
        subscription.ack(delivery.tag).await.unwrap();
        came.push(delivery.message.id);
    }
    came.sort_unstable();
    assert_eq!(came, sent.iter().map(|message| message.id).collect::<Vec<_>>());
}

/// A cancelled wait loses nothing.
pub async fn a_cancelled_wait_for_an_event_loses_nothing(Subject { backend, .. }: Subject) {
    let mut reader = subscribe(&backend, "reader", &["*"], 10).await;
    let waits = async {
        for _ in 0..50 {
            let _ = timeout(Duration::from_millis(2), reader.next()).await.map(|next| panic!("{next:?}"));
        }
    };
    waits.await;
    let sent = publish(&backend, &["order.paid"]).await;
    assert_eq!(take(&mut *reader, 1).await, sent);
}

/// A name that subscribes to other types gets these from then on.
pub async fn other_patterns_replace_those_before(Subject { backend, .. }: Subject) {
    drop(subscribe(&backend, "reader", &["order.*"], 10).await);
    let mut reader = subscribe(&backend, "reader", &["refund.*"], 10).await;
    let sent = publish(&backend, &["order.paid", "refund.held"]).await;
    assert_eq!(take(&mut *reader, 1).await, sent[1..]);
    assert_none(&mut *reader).await;
}

/// An event that a subscriber cannot take in waits for a human, and the next one comes.
pub async fn a_parked_event_waits_for_a_human(Subject { backend, .. }: Subject) {
    let mut reader = subscribe(&backend, "reader", &["*"], 1).await;
    let sent = publish(&backend, &["order.paid", "order.cancelled"]).await;
    let first = next(&mut *reader).await;
    reader.park(first, "it has no name").await.unwrap();
    assert_eq!(take(&mut *reader, 1).await, sent[1..]);
    waiting(&backend, "reader", |waiting| waiting == Waiting { events: 0, parked: 1 }).await;
    assert_eq!(backend.events.redrive_parked(&name("reader")).await.unwrap(), 1);
    assert_eq!(take(&mut *reader, 1).await, sent[..1]);
    waiting(&backend, "reader", |waiting| waiting == Waiting::default()).await;
    assert_eq!(backend.events.redrive_parked(&name("reader")).await.unwrap(), 0);
}

/// Who has unsubscribed has nothing waiting.
pub async fn an_unsubscribed_name_keeps_nothing(Subject { backend, .. }: Subject) {
    assert!(!backend.events.unsubscribe(&name("reader")).await.unwrap());
    drop(subscribe(&backend, "reader", &["*"], 10).await);
    publish(&backend, &["order.paid"]).await;
    eventually(DEADLINE, async || {
        // Until the back end knows that nobody receives any more.
        backend
            .events
            .unsubscribe(&name("reader"))
            .await
            .map(|was| assert!(was))
            .map_err(|fault| fault.to_string())
    })
    .await;
    assert_eq!(backend.events.waiting(&name("reader")).await.unwrap(), None);
    let mut reader = subscribe(&backend, "reader", &["*"], 10).await;
    assert_none(&mut *reader).await;
}

/// Subscribers and what waits for them survive.
pub async fn events_survive_a_reopen(subject: Subject) {
    drop(subscribe(&subject.backend, "reader", &["*"], 10).await);
    let sent = publish(&subject.backend, &["order.paid", "order.cancelled"]).await;
    let subject = subject.reopen().await;
    let backend = &subject.backend;
    let mut reader = subscribe(backend, "reader", &["*"], 10).await;
    assert_eq!(take(&mut *reader, 2).await, sent);
    let more = publish(backend, &["order.paid"]).await;
    assert_eq!(take(&mut *reader, 1).await, more);
}
