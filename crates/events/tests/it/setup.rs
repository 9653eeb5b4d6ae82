//! What the tests share.

use std::time::Duration;

use seckill_core::{
    Backend, Event, EventBody, EventDelivery, EventMessage, EventOrder, EventPattern, LedgerId, OrderId,
    Orders, SaleId, Subscription, UserId,
};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn back_end() -> (TempDir, Backend) {
    let folder = tempfile::tempdir().unwrap();
    let backend = seckill_embedded::open(folder.path()).await.unwrap();
    (folder, backend)
}

/// An order of one unit for 12.34.
pub(crate) fn order(user: u64) -> EventOrder {
    EventOrder {
        order_id: OrderId::generate(),
        user_id: UserId(user),
        quantity: 1,
        amount_cents: 1_234,
        sequence: 2,
    }
}

pub(crate) fn paid(sale_id: SaleId, orders: Vec<EventOrder>) -> Event {
    event(EventBody::OrderPaid(Orders { sale_id, reason: None, orders }))
}

pub(crate) fn event(body: EventBody) -> Event {
    Event::new(LedgerId(Uuid::nil()), body)
}

/// Puts events into the outbox, all in one transaction.
pub(crate) async fn write(backend: &Backend, events: &[Event]) {
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    for event in events {
        transaction.add_event(event).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

pub(crate) async fn subscribe(backend: &Backend, name: &str) -> Box<dyn Subscription> {
    let all: EventPattern = "*".parse().unwrap();
    backend.events.subscribe(&name.parse().unwrap(), &[all], 100).await.unwrap()
}

pub(crate) async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<EventMessage> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let next = tokio::time::timeout(SOON, subscription.next()).await;
        let EventDelivery { message, tag } = next.expect("an event is delivered in time").unwrap();
        subscription.ack(tag).await.unwrap();
        messages.push(message);
    }
    messages
}
