//! The outbox: events that are written with what they tell of, and wait to be published.

use std::time::Duration;

use seckill_core::{
    Backend, Event, EventBody, EventOrder, LedgerId, OrderId, Orders, OutboxDepth, OutboxEvent, OutboxState,
    SaleId, UserId,
};
use uuid::Uuid;

use super::support::{DEADLINE, Subject};
use crate::eventually;

const LEASE: Duration = Duration::from_secs(60);

fn event() -> Event {
    let order = EventOrder {
        order_id: OrderId::generate(),
        user_id: UserId(1),
        quantity: 1,
        amount_cents: 1,
        sequence: 2,
    };
    let orders = Orders { sale_id: SaleId(1), reason: None, orders: vec![order] };
    Event::new(LedgerId(Uuid::nil()), EventBody::OrderPaid(orders))
}

/// Writes so many events, one transaction each; their ids.
async fn write(backend: &Backend, count: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let event = event();
        let mut transaction = backend.lifecycle.begin().await.unwrap();
        transaction.add_event(&event).await.unwrap();
        transaction.commit().await.unwrap();
        ids.push(event.id);
    }
    ids
}

fn ids(events: &[OutboxEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.message.id).collect()
}

async fn claim(backend: &Backend, limit: u32) -> Vec<Uuid> {
    ids(&backend.outbox.claim(limit, LEASE).await.unwrap())
}

/// Events are given out oldest first, and one that is given out is nobody else's while the lease lasts.
pub async fn events_are_claimed_oldest_first_and_by_one(Subject { backend, .. }: Subject) {
    let written = write(&backend, 5).await;
    assert_eq!(claim(&backend, 2).await, written[..2]);
    assert_eq!(claim(&backend, 10).await, written[2..]);
    assert!(claim(&backend, 10).await.is_empty());
    let found = backend.outbox.find(written[0]).await.unwrap().unwrap();
    assert_eq!((found.state, found.attempts), (OutboxState::Pending, 1));
    assert_eq!(found.message.kind, "order.paid");
    assert!(found.subject.starts_with("orders/"), "{found:?}");
}

/// Claimers at once get different events, and together all of them.
pub async fn claimers_at_once_get_different_events(Subject { backend, .. }: Subject) {
    let mut written = write(&backend, 20).await;
    let some = async || {
        let mut mine = Vec::new();
        for _ in 0..10 {
            // One that finds the others' events locked may get none this time.
            mine.extend(claim(&backend, 3).await);
        }
        mine
    };
    let (a, b, c) = tokio::join!(some(), some(), some());
    let mut claimed = [a, b, c].concat();
    claimed.sort_unstable();
    written.sort_unstable();
    assert_eq!(claimed, written);
}

/// A claimer that dies gives its events back by the end of its lease.
pub async fn a_lease_that_is_over_gives_the_event_back(Subject { backend, .. }: Subject) {
    let written = write(&backend, 1).await;
    let lease = Duration::from_millis(50);
    assert_eq!(ids(&backend.outbox.claim(10, lease).await.unwrap()), written);
    let again = eventually(DEADLINE, async || {
        let again = backend.outbox.claim(10, LEASE).await.unwrap();
        if again.is_empty() { Err("nothing is due") } else { Ok(again) }
    })
    .await;
    assert_eq!((ids(&again), again[0].attempts), (written, 2));
}

/// What is sent does not come again, unless somebody asks for it.
pub async fn a_sent_event_comes_again_only_when_it_is_redriven(Subject { backend, .. }: Subject) {
    let written = write(&backend, 2).await;
    claim(&backend, 10).await;
    backend.outbox.mark_sent(&written).await.unwrap();
    backend.outbox.mark_sent(&written).await.unwrap();
    // Whoever lost its lease and failed says so too late.
    backend.outbox.mark_failed(written[0], "too late", Some(Duration::ZERO)).await.unwrap();
    assert!(claim(&backend, 10).await.is_empty());
    assert_eq!(ids(&backend.outbox.list(OutboxState::Sent, 10).await.unwrap()), written);
    assert!(backend.outbox.redrive(written[1]).await.unwrap());
    assert_eq!(claim(&backend, 10).await, written[1..]);
    assert!(!backend.outbox.redrive(Uuid::now_v7()).await.unwrap());
}

/// An event that was refused is due again later, with the reason to read.
pub async fn a_refused_event_is_due_again_later(Subject { backend, .. }: Subject) {
    let written = write(&backend, 1).await;
    claim(&backend, 1).await;
    backend.outbox.mark_failed(written[0], "the bus is full", Some(LEASE)).await.unwrap();
    assert!(claim(&backend, 1).await.is_empty());
    let found = backend.outbox.find(written[0]).await.unwrap().unwrap();
    assert_eq!((found.state, found.error.as_deref()), (OutboxState::Pending, Some("the bus is full")));
    let long = "é".repeat(2_000);
    backend.outbox.mark_failed(written[0], &long, Some(Duration::ZERO)).await.unwrap();
    let found = backend.outbox.find(written[0]).await.unwrap().unwrap();
    assert!(found.error.unwrap().chars().count() <= 500);
    assert_eq!(claim(&backend, 1).await, written);
}

/// A parked event waits for a human and holds up nobody.
pub async fn a_parked_event_holds_up_nobody(Subject { backend, .. }: Subject) {
    let written = write(&backend, 3).await;
    claim(&backend, 1).await;
    backend.outbox.mark_failed(written[0], "no", None).await.unwrap();
    assert_eq!(claim(&backend, 10).await, written[1..]);
    assert_eq!(ids(&backend.outbox.list(OutboxState::Parked, 10).await.unwrap()), written[..1]);
    assert!(backend.outbox.redrive(written[0]).await.unwrap());
    let again = backend.outbox.claim(10, LEASE).await.unwrap();
    assert_eq!((ids(&again), again[0].attempts), (written[..1].to_vec(), 1));
}

/// Only a parked event is discarded.
pub async fn a_parked_event_is_discarded_for_good(Subject { backend, .. }: Subject) {
    let written = write(&backend, 2).await;
    assert!(!backend.outbox.discard(written[0]).await.unwrap(), "it is not parked");
    backend.outbox.mark_failed(written[0], "no", None).await.unwrap();
    assert!(backend.outbox.discard(written[0]).await.unwrap());
    assert!(!backend.outbox.discard(written[0]).await.unwrap());
    assert_eq!(backend.outbox.find(written[0]).await.unwrap(), None);
    assert_eq!(claim(&backend, 10).await, written[1..]);
}

/// What waits is counted, and its age is known.
pub async fn the_depth_tells_what_waits(Subject { backend, .. }: Subject) {
    let empty = backend.outbox.depth().await.unwrap();
    assert_eq!((empty.pending, empty.parked, empty.oldest_pending), (0, 0, None));
    let written = write(&backend, 3).await;
    backend.outbox.mark_failed(written[0], "no", None).await.unwrap();
    backend.outbox.mark_sent(&written[1..2]).await.unwrap();
    let OutboxDepth { pending, parked, oldest_pending, now } = backend.outbox.depth().await.unwrap();
    assert_eq!((pending, parked), (1, 1));
    let age = now - oldest_pending.unwrap();
    assert!((0..600_000).contains(&age.num_milliseconds()), "{age}");
}

/// Sent events that a consumer has not taken in are found, by type and age.
pub async fn sent_events_that_nobody_took_in_are_found(Subject { backend, .. }: Subject) {
    let written = write(&backend, 3).await;
    backend.outbox.mark_sent(&written[..2]).await.unwrap();
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    assert!(transaction.first_time("reader", written[0]).await.unwrap());
    transaction.commit().await.unwrap();
    let find = async |consumer: &str, kinds: &[&str], age: Duration| {
        backend.outbox.not_taken_in(consumer, kinds, age..=LEASE * 60, 10).await.unwrap()
    };
    let both = ["order.paid", "order.cancelled"];
    assert_eq!(find("reader", &both, Duration::ZERO).await, written[1..2]);
    assert_eq!(find("other", &both, Duration::ZERO).await, written[..2]);
    assert!(find("other", &["order.cancelled"], Duration::ZERO).await.is_empty());
    assert!(find("other", &both, LEASE).await.is_empty(), "they were sent a moment ago");
}

/// Sent events are removed once they are old; nothing else is.
pub async fn old_sent_events_are_removed(Subject { backend, .. }: Subject) {
    let written = write(&backend, 4).await;
    backend.outbox.mark_sent(&written[..3]).await.unwrap();
    assert_eq!(backend.outbox.forget_sent(LEASE, 10).await.unwrap(), 0, "they are young");
    let mut removed = 0;
    eventually(DEADLINE, async || {
        removed += backend.outbox.forget_sent(Duration::ZERO, 2).await.unwrap();
        if removed == 3 { Ok(()) } else { Err(removed) }
    })
    .await;
    assert_eq!(claim(&backend, 10).await, written[3..]);
}
