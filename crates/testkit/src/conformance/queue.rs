//! What an [`OrderQueue`](seckill_core::OrderQueue) has to do: keep what it has confirmed until it is acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Delivery, MAX_BATCH_ORDERS, OrderBatch, QueueDepth, SaleId, UserId};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::support::{DEADLINE, NEVER, Subject, await_depth, is_empty, next, publish, take};
use crate::fixtures::batch;

/// The queue carries orders of sales that it knows nothing of.
const SALE: SaleId = SaleId(7);

/// One batch, in and out.
pub async fn a_batch_comes_out_as_it_went_in(Subject { backend, .. }: Subject) {
    let queue = &backend.queue;
    queue.ping().await.unwrap();
    let mut publisher = queue.publisher().await.unwrap();
    assert!(publisher.accepting());
    let sent = batch(SALE, 0..3);
    publisher.publish(&sent).await.unwrap();
    assert!(publisher.accepting());
    let mut consumer = queue.consumer(10).await.unwrap();
    let Delivery { batch, tag } = next(consumer.as_mut()).await;
    assert_eq!(batch, sent);
    consumer.ack(tag).await.unwrap();
    await_depth(queue.as_ref(), is_empty).await;
}

/// The ends of the ranges.
pub async fn the_largest_batch_comes_out_as_it_went_in(Subject { backend, .. }: Subject) {
    let mut sent = batch(SaleId(i64::MAX.unsigned_abs()), 0..MAX_BATCH_ORDERS as u64);
    sent.epoch = u32::MAX;
    for order in &mut sent.orders {
        order.user_id = UserId(u64::MAX);
        order.quantity = u32::MAX;
    }
    publish(backend.queue.as_ref(), std::slice::from_ref(&sent)).await;
    let mut consumer = backend.queue.consumer(1).await.unwrap();
    assert_eq!(next(consumer.as_mut()).await.batch, sent);
}

/// A worker that dies gives everything back that it has not acknowledged.
pub async fn unacknowledged_batches_come_back(Subject { backend, .. }: Subject) {
    let sent = batches(5);
    publish(backend.queue.as_ref(), &sent).await;
    for _ in 0..3 {
        let mut consumer = backend.queue.consumer(10).await.unwrap();
        let taken = take(consumer.as_mut(), sent.len()).await;
        assert_eq!(by_id(taken.iter().map(|delivery| &delivery.batch)), by_id(&sent));
    }
}

/// What is acknowledged is done with, in whatever order that was.
pub async fn acknowledged_batches_never_come_back(Subject { backend, .. }: Subject) {
    let sent = batches(5);
    publish(backend.queue.as_ref(), &sent).await;
    let mut consumer = backend.queue.consumer(10).await.unwrap();
    let mut kept = Vec::new();
    for (at, Delivery { batch, tag }) in
        take(consumer.as_mut(), sent.len()).await.into_iter().enumerate().rev()
    {
        if at % 2 == 0 {
            consumer.ack(tag).await.unwrap();
        } else {
            kept.push(batch);
        }
    }
    drop(consumer);
    await_depth(backend.queue.as_ref(), |depth| depth.ready_batches == kept.len() as u64).await;
    let mut consumer = backend.queue.consumer(10).await.unwrap();
    for expected in by_id(&kept) {
        let Delivery { batch, tag } = next(consumer.as_mut()).await;
        assert!(kept.contains(&batch), "{expected} was to come back, and {batch:?} came");
        consumer.ack(tag).await.unwrap();
    }
    assert!(timeout(NEVER, consumer.next()).await.is_err(), "a batch came that nobody had left");
    drop(consumer);
    await_depth(backend.queue.as_ref(), is_empty).await;
}

/// A consumer that acknowledges nothing leaves the rest to others.
pub async fn prefetch_bounds_what_a_consumer_holds(Subject { backend, .. }: Subject) {
    let sent = batches(5);
    publish(backend.queue.as_ref(), &sent).await;
    let mut one = backend.queue.consumer(2).await.unwrap();
    let mut held = take(one.as_mut(), 2).await;
    assert!(timeout(NEVER, one.next()).await.is_err(), "a third batch for a prefetch of 2");
    // Everything that the first one does not hold comes to the second.
    let mut two = backend.queue.consumer(10).await.unwrap();
    let mut rest = take(two.as_mut(), 3).await;
    assert_eq!(by_id(held.iter().chain(&rest).map(|delivery| &delivery.batch)), by_id(&sent));
    two.ack(rest.remove(0).tag).await.unwrap();
    drop(two);
    one.ack(held.remove(0).tag).await.unwrap();
    next(one.as_mut()).await;
    assert!(timeout(NEVER, one.next()).await.is_err(), "one was acknowledged, and two more came");
}

/// The worker waits for a batch and for the end of its linger at once, and drops whichever is late.
pub async fn a_cancelled_wait_loses_nothing(Subject { backend, .. }: Subject) {
    let sent = batches(60);
    let mut consumer = backend.queue.consumer(100).await.unwrap();
    let (queue, to_send) = (Arc::clone(&backend.queue), sent.clone());
    let publishing = tokio::spawn(async move { publish(queue.as_ref(), &to_send).await });
    let mut seen = BTreeSet::new();
    let all = async {
        let mut patience = 0_u64;
        while seen.len() < sent.len() {
            // From polled once and dropped up to a few milliseconds, so that it is dropped at every point.
            patience = (patience + 171) % 3_000;
            tokio::select! {
                biased;
                delivery = consumer.next() => {
                    let Delivery { batch, tag } = delivery.unwrap();
                    assert!(sent.contains(&batch));
                    assert!(seen.insert(batch.batch_id), "delivered twice");
                    consumer.ack(tag).await.unwrap();
                }
                () = tokio::time::sleep(Duration::from_micros(patience)) => {}
            }
        }
    };
    timeout(DEADLINE, all).await.expect("not all batches came");
    publishing.await.unwrap();
    drop(consumer);
    await_depth(backend.queue.as_ref(), is_empty).await;
}

/// Lanes of many gateways, each with a publisher of its own.
pub async fn many_publishers_at_once_lose_nothing(Subject { backend, .. }: Subject) {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 25;
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let queue = Arc::clone(&backend.queue);
        publishers.spawn(async move {
            let sent = batches(EACH);
            publish(queue.as_ref(), &sent).await;
            sent
        });
    }
    let sent: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    await_depth(backend.queue.as_ref(), |depth| depth.ready_batches == sent.len() as u64).await;
    let mut consumer = backend.queue.consumer(50).await.unwrap();
    let mut came = Vec::new();
    while came.len() < PUBLISHERS * EACH {
        let Delivery { batch, tag } = next(consumer.as_mut()).await;
        consumer.ack(tag).await.unwrap();
        came.push(batch);
    }
    assert_eq!(by_id(&came), by_id(&sent));
    came.sort_by_key(|batch| batch.batch_id);
    let mut sent = sent;
    sent.sort_by_key(|batch| batch.batch_id);
    assert_eq!(came, sent);
}

/// Worker lanes: each batch goes to one of them.
pub async fn several_consumers_share_the_batches(Subject { backend, .. }: Subject) {
    const CONSUMERS: usize = 4;
    let sent = batches(40);
    let mut consumers = JoinSet::new();
    let (done, _) = tokio::sync::watch::channel(0_usize);
    for _ in 0..CONSUMERS {
        let (queue, done, all) = (Arc::clone(&backend.queue), done.clone(), sent.len());
        consumers.spawn(async move {
            let mut consumer = queue.consumer(2).await.unwrap();
            let (mut seen, mut progress) = (Vec::new(), done.subscribe());
            loop {
                tokio::select! {
                    delivery = consumer.next() => {
                        let Delivery { batch, tag } = delivery.unwrap();
                        consumer.ack(tag).await.unwrap();
                        seen.push(batch.batch_id);
                        done.send_modify(|count| *count += 1);
                    }
                    () = async { drop(progress.wait_for(|count| *count >= all).await) } => return seen,
                }
            }
        });
    }
    publish(backend.queue.as_ref(), &sent).await;
    let seen = timeout(DEADLINE, consumers.join_all()).await.expect("not all batches came");
    let mut seen: Vec<Uuid> = seen.into_iter().flatten().collect();
    seen.sort();
    assert_eq!(seen, by_id(&sent), "each batch comes to one consumer, once");
}

/// An idle worker notices the first order at once.
pub async fn a_waiting_consumer_gets_what_is_published_later(Subject { backend, .. }: Subject) {
    let mut consumer = backend.queue.consumer(1).await.unwrap();
    assert!(timeout(NEVER, consumer.next()).await.is_err(), "an empty queue delivered something");
    for _ in 0..3 {
        let sent = batch(SALE, 0..1);
        let publishing = async {
            // Until here the consumer has been waiting for as long as the publisher takes to connect.
            publish(backend.queue.as_ref(), std::slice::from_ref(&sent)).await;
        };
        let (delivery, ()) = tokio::join!(next(consumer.as_mut()), publishing);
        assert_eq!(delivery.batch, sent);
        consumer.ack(delivery.tag).await.unwrap();
    }
}

/// Ready batches are those that nobody has taken; where the queue counts them, taken ones are waiting orders too.
pub async fn the_depth_counts_what_waits(Subject { backend, .. }: Subject) {
    let queue = backend.queue.as_ref();
    await_depth(queue, is_empty).await;
    let sent: Vec<_> = (0..5).map(|_| batch(SALE, 0..3)).collect();
    publish(queue, &sent).await;
    let is = |ready: u64, waiting: u64| {
        move |depth: QueueDepth| {
            depth.ready_batches == ready && depth.orders.is_none_or(|orders| orders == waiting)
        }
    };
    await_depth(queue, is(5, 15)).await;
    let mut consumer = queue.consumer(2).await.unwrap();
    let mut held = take(consumer.as_mut(), 2).await;
    await_depth(queue, is(3, 15)).await;
    consumer.ack(held.remove(0).tag).await.unwrap();
    // The place that became free is filled.
    next(consumer.as_mut()).await;
    await_depth(queue, is(2, 12)).await;
    drop(consumer);
    await_depth(queue, is(4, 12)).await;
}

/// Confirmed is durable; what had been taken and not acknowledged comes back too.
pub async fn batches_survive_a_reopen(subject: Subject) {
    let sent = batches(4);
    publish(subject.backend.queue.as_ref(), &sent).await;
    let mut consumer = subject.backend.queue.consumer(2).await.unwrap();
    let mut held = take(consumer.as_mut(), 2).await;
    let Delivery { batch: done, tag } = held.remove(0);
    consumer.ack(tag).await.unwrap();
    drop(consumer);
    let left = sent.iter().filter(|batch| **batch != done);

    let subject = subject.reopen().await;
    let backend = &subject.backend;
    await_depth(backend.queue.as_ref(), |depth| depth.ready_batches == 3).await;
    let mut consumer = backend.queue.consumer(10).await.unwrap();
    let came = take(consumer.as_mut(), 3).await;
    assert_eq!(by_id(came.iter().map(|delivery| &delivery.batch)), by_id(left));
}

/// So many batches of two orders.
fn batches(count: usize) -> Vec<OrderBatch> {
    (0..count).map(|_| batch(SALE, 0..2)).collect()
}

fn by_id<'a>(batches: impl IntoIterator<Item = &'a OrderBatch>) -> Vec<Uuid> {
    let mut ids: Vec<_> = batches.into_iter().map(|batch| batch.batch_id).collect();
    ids.sort();
    ids
}
