//! What an [`OrderQueue`] has to do with messages that wait for a human, with markers, and with its
//! consumers' number. Messages that no back end writes, such as unreadable ones, are tried in each back end's own crate.

use seckill_core::{
    AuditReport, Delivery, Marker, OrderBatch, OrderQueue, ParkedDepth, ParkedMessage, SaleId,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::support::{DEADLINE, NEVER, Subject, await_depth, is_empty, next, publish, take};
use crate::eventually;
use crate::fixtures::{EPOCH, batch, open_sale};

/// The queue carries orders of sales that it knows nothing of.
const SALE: SaleId = SaleId(7);

/// A parked message keeps its orders and its reason, and does not come again.
pub async fn a_parked_message_is_kept_with_its_reason(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    let sent = [batch(SALE, 0..1), batch(SALE, 0..3), batch(SALE, 0..2)];
    publish(queue, &sent).await;
    let before = seckill_core::now();
    park(queue, 3, |batch| batch == &sent[1]).await;
    let parked = parked(queue, 1).await;
    assert_eq!(parked[0].batch.as_ref(), Some(&sent[1]));
    assert_eq!((parked[0].reason.as_str(), parked[0].unrouted), ("for a test", false));
    assert!(parked[0].body.contains(&sent[1].batch_id.to_string()), "{}", parked[0].body);
    assert!(parked[0].parked_at.is_some_and(|at| at >= before && at <= seckill_core::now()));

    let mut consumer = queue.consumer(5).await.unwrap();
    for _ in 0..2 {
        let Delivery { batch, tag } = next(consumer.as_mut()).await;
        assert!(batch == sent[0] || batch == sent[2]);
        consumer.ack(tag).await.unwrap();
    }
    assert!(timeout(NEVER, consumer.next()).await.is_err(), "a parked message came again");
    drop(consumer);
    await_depth(queue, is_empty).await;
    // An audit of any sale says that somebody has to look.
    let sale = open_sale(&backend, 1, 1).await;
    assert_eq!(sale.epoch, EPOCH, "a sale that was opened is on the epoch of its gate");
    eventually(DEADLINE, async || {
        let audit = AuditReport::read(&backend, sale.id).await.unwrap().unwrap();
        if audit.parked_messages == 1 { Ok(()) } else { Err(audit) }
    })
    .await;
}

/// Listing shows the oldest, no more than asked for, and changes nothing.
pub async fn parked_messages_are_listed_oldest_first(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    assert_eq!(queue.parked(10).await.unwrap(), []);
    let mut sent = Vec::new();
    for orders in 1..=3 {
        let batch = batch(SALE, 0..orders);
        publish(queue, std::slice::from_ref(&batch)).await;
        park(queue, 1, |_| true).await;
        sent.push(Some(batch));
    }
    let all = parked(queue, 3).await;
    assert_eq!(all.iter().map(|message| message.batch.clone()).collect::<Vec<_>>(), sent);
    eventually(DEADLINE, async || {
        let two = queue.parked(2).await.unwrap();
        if two == all[..2] { Ok(()) } else { Err(two) }
    })
    .await;
    assert_eq!(parked(queue, 3).await, all, "listing has changed something");
}

/// Moved back, a message is delivered as it was; the other ones stay.
pub async fn a_redriven_message_is_delivered_again(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    let sent = [batch(SALE, 0..1), batch(SALE, 0..2)];
    publish(queue, &sent).await;
    park(queue, 2, |_| true).await;
    let all = parked(queue, 2).await;
    let id = id_of(&all, &sent[1]);
    assert!(!queue.redrive("none").await.unwrap());
    assert!(queue.redrive(&id).await.unwrap());
    assert!(!queue.redrive(&id).await.unwrap(), "it was moved already");
    assert!(!queue.discard(&id).await.unwrap(), "it was moved already");
    let mut consumer = queue.consumer(5).await.unwrap();
    let Delivery { batch, tag } = next(consumer.as_mut()).await;
    assert_eq!(batch, sent[1]);
    consumer.ack(tag).await.unwrap();
    assert!(timeout(NEVER, consumer.next()).await.is_err(), "more was moved back than asked for");
    drop(consumer);
    await_depth(queue, is_empty).await;
    assert_eq!(parked(queue, 1).await[0].batch.as_ref(), Some(&sent[0]));
}

/// A message that fails again after it was moved back can be parked and moved back again.
pub async fn a_redriven_message_can_be_parked_again(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    let sent = batch(SALE, 0..2);
    publish(queue, std::slice::from_ref(&sent)).await;
    for _ in 0..3 {
        park(queue, 1, |_| true).await;
        let all = parked(queue, 1).await;
        assert!(queue.redrive(&id_of(&all, &sent)).await.unwrap());
        parked(queue, 0).await;
    }
    let mut consumer = queue.consumer(1).await.unwrap();
    assert_eq!(next(consumer.as_mut()).await.batch, sent);
}

/// Removed, a message is gone for good; the other ones stay.
pub async fn a_discarded_message_is_gone(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    let sent = [batch(SALE, 0..1), batch(SALE, 0..2)];
    publish(queue, &sent).await;
    park(queue, 2, |_| true).await;
    let all = parked(queue, 2).await;
    let id = id_of(&all, &sent[0]);
    assert!(!queue.discard("none").await.unwrap());
    assert!(queue.discard(&id).await.unwrap());
    assert!(!queue.discard(&id).await.unwrap() && !queue.redrive(&id).await.unwrap());
    assert_eq!(parked(queue, 1).await[0].batch.as_ref(), Some(&sent[1]));
    await_depth(queue, is_empty).await;
}

/// Parked is durable.
pub async fn parked_messages_survive_a_reopen(subject: Subject) {
    let sent = batch(SALE, 0..2);
    publish(subject.backend.queue.as_ref(), std::slice::from_ref(&sent)).await;
    park(subject.backend.queue.as_ref(), 1, |_| true).await;
    parked(subject.backend.queue.as_ref(), 1).await;
    let subject = subject.reopen().await;
    let queue = subject.backend.queue.as_ref();
    let all = parked(queue, 1).await;
    assert_eq!((all[0].batch.as_ref(), all[0].reason.as_str()), (Some(&sent), "for a test"));
    assert!(queue.redrive(&all[0].id).await.unwrap());
    let mut consumer = queue.consumer(1).await.unwrap();
    assert_eq!(next(consumer.as_mut()).await.batch, sent);
}

/// A marker carries no order, keeps its place in the queue, and is no bad message.
pub async fn a_marker_comes_after_what_was_published_before_it(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    let marker = Marker::new(u64::MAX);
    let sent = [
        batch(SALE, 0..2).set_aside_at(1_700_000_000_123),
        OrderBatch::marker(SALE, u32::MAX, marker),
        batch(SALE, 0..1).set_aside_at(0),
    ];
    let mut publisher = queue.publisher().await.unwrap();
    for batch in &sent {
        publisher.publish(batch).await.unwrap();
    }
    let mut consumer = queue.consumer(5).await.unwrap();
    let taken = take(consumer.as_mut(), sent.len()).await;
    for (Delivery { batch, tag }, sent) in taken.into_iter().zip(&sent) {
        assert_eq!(batch, *sent);
        consumer.ack(tag).await.unwrap();
    }
    drop(consumer);
    await_depth(queue, is_empty).await;
    parked(queue, 0).await;
}

/// Every consumer counts, until it is gone.
pub async fn the_consumers_are_counted(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    await_consumers(queue, 0).await;
    let one = queue.consumer(1).await.unwrap();
    await_consumers(queue, 1).await;
    publish(queue, &[batch(SALE, 0..1)]).await;
    let mut two = queue.consumer(1).await.unwrap();
    await_consumers(queue, 2).await;
    drop(one);
    await_consumers(queue, 1).await;
    let held = next(two.as_mut()).await;
    await_consumers(queue, 1).await;
    two.ack(held.tag).await.unwrap();
    drop(two);
    await_consumers(queue, 0).await;
}

async fn await_consumers(queue: &dyn OrderQueue, wanted: u32) {
    eventually(DEADLINE, async || match queue.consumers().await.unwrap() {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .await;
}

/// Takes `count` messages, parks those that `bad` names and gives the others back.
async fn park(queue: &dyn OrderQueue, count: usize, bad: impl Fn(&OrderBatch) -> bool) {
    let mut consumer = queue.consumer(10).await.unwrap();
    for delivery in take(consumer.as_mut(), count).await {
        if bad(&delivery.batch) {
            consumer.park(delivery, "for a test").await.unwrap();
        }
    }
}

/// All parked messages, once there are so many.
async fn parked(queue: &dyn OrderQueue, count: usize) -> Vec<ParkedMessage> {
    let wanted = ParkedDepth { parked: count as u64, ..ParkedDepth::default() };
    eventually(DEADLINE, async || match queue.parked_depth().await.unwrap() {
        depth if depth == wanted => Ok(()),
        depth => Err(depth),
    })
    .await;
    let all = queue.parked(100).await.unwrap();
    assert_eq!(all.len(), count);
    all
}

fn id_of(parked: &[ParkedMessage], batch: &OrderBatch) -> String {
    let is_it =
        |id: Uuid| move |message: &&ParkedMessage| message.batch.as_ref().is_some_and(|b| b.batch_id == id);
    parked.iter().find(is_it(batch.batch_id)).unwrap().id.clone()
}
