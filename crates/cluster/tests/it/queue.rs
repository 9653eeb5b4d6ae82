//! The queue on RabbitMQ: messages that cannot be read or routed, and a broker that dies, hangs or is not there.

use futures_util::future::join_all;
use lapin::Channel;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use seckill_cluster::names;
use seckill_core::{Fault, OrderBatch, OrderQueue, SaleId};
use seckill_testkit::{FaultProxy, PrivateRabbit, eventually};

use crate::queue_limits::{channel, publish};
use crate::setup::{SOON, claim, queue_at};

fn batch(users: std::ops::Range<u64>) -> OrderBatch {
    OrderBatch::new(SaleId(1), 1, users.map(claim).collect())
}

/// Publishes as a lane of the gateway does: after a fault with a new publisher.
async fn publish_in_the_end(queue: &dyn OrderQueue, batch: &OrderBatch) {
    eventually(SOON, async || queue.publisher().await?.publish(batch).await).await;
}

async fn wait_for_messages(channel: &Channel, queue: &'static str, wanted: u32) {
    eventually(SOON, async || {
        let options = QueueDeclareOptions::default().passive();
        let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
        if found.message_count() == wanted { Ok(()) } else { Err(found.message_count()) }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_and_what_cannot_be_routed_is_kept() {
    let rabbit = seckill_testkit::rabbit().await;
    let queue = queue_at(&rabbit.url).queue;
    let mut consumer = queue.consumer(10).await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;

    publish(&channel, names::ORDERS, b"no json").await;
    publish(&channel, names::ORDERS, &serde_json::to_vec(&batch(0..0)).unwrap()).await;
    publish(&channel, names::ORDERS, &serde_json::to_vec(&batch(0..257)).unwrap()).await;
    publish(&channel, "elsewhere", b"lost?").await;
    let good = batch(0..256);
    queue.publisher().await.unwrap().publish(&good).await.unwrap();

    let delivery = consumer.next().await.unwrap();
    assert_eq!(delivery.batch, good);
    consumer.ack(delivery.tag).await.unwrap();
    wait_for_messages(&channel, names::PARKED, 3).await;
    wait_for_messages(&channel, names::UNROUTED, 1).await;
    wait_for_messages(&channel, names::ORDERS, 0).await;
}

#[tokio::test]
async fn the_trace_of_a_batch_is_a_header_for_other_tools() {
    let rabbit = seckill_testkit::rabbit().await;
    let queue = queue_at(&rabbit.url).queue;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = batch(0..1).in_trace(Some(traceparent.parse().unwrap()));
    let mut publisher = queue.publisher().await.unwrap();
    for batch in [&traced, &batch(1..2)] {
        publisher.publish(batch).await.unwrap();
    }
    let (_connection, channel) = channel(&rabbit.url).await;
    let header = async || {
        let got = channel.basic_get(names::ORDERS.into(), BasicGetOptions::default()).await.unwrap().unwrap();
        let headers = got.properties.headers().clone()?;
        Some(headers.inner().get("traceparent")?.as_long_string()?.to_string())
    };
    assert_eq!(header().await.as_deref(), Some(traceparent));
    assert_eq!(header().await, None);
}

#[tokio::test]
async fn a_dropped_consumer_gives_back_at_once_what_it_has_not_acknowledged() {
    let rabbit = seckill_testkit::rabbit().await;
    let queue = queue_at(&rabbit.url).queue;
    let mut publisher = queue.publisher().await.unwrap();
    let batches = [batch(0..1), batch(1..2), batch(2..3)];
    for batch in &batches {
        publisher.publish(batch).await.unwrap();
    }
    let mut first = queue.consumer(10).await.unwrap();
    let acknowledged = first.next().await.unwrap();
    assert_eq!(acknowledged.batch, batches[0]);
    first.ack(acknowledged.tag).await.unwrap();
    first.next().await.unwrap();
    drop(first);

    let mut second = queue.consumer(10).await.unwrap();
    for wanted in &batches[1..] {
        let delivery = tokio::time::timeout(SOON, second.next()).await.unwrap().unwrap();
        assert_eq!(delivery.batch, *wanted);
        second.ack(delivery.tag).await.unwrap();
    }
    eventually(SOON, async || match queue.depth().await.unwrap().ready_batches {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
}

#[tokio::test]
async fn the_prefetch_bounds_what_a_consumer_holds() {
    let rabbit = seckill_testkit::rabbit().await;
    let queue = queue_at(&rabbit.url).queue;
    let mut publisher = queue.publisher().await.unwrap();
    for user in 0..5 {
        publisher.publish(&batch(user..user + 1)).await.unwrap();
    }
    let mut consumer = queue.consumer(2).await.unwrap();
    let first = consumer.next().await.unwrap();
    let ready = async |wanted| {
        eventually(SOON, async || match queue.depth().await.unwrap().ready_batches {
            ready if ready == wanted => Ok(()),
            ready => Err(ready),
        })
        .await;
    };
    ready(3).await;
    consumer.ack(first.tag).await.unwrap();
    ready(2).await;
}

#[tokio::test]
async fn a_killed_broker_is_survived_and_loses_nothing_confirmed() {
    let rabbit = PrivateRabbit::start().await;
    let queue = queue_at(&rabbit.url()).queue;
    let mut publisher = queue.publisher().await.unwrap();
    let mut consumer = queue.consumer(10).await.unwrap();
    let before = batch(0..200);
    publisher.publish(&before).await.unwrap();
    let unacknowledged = consumer.next().await.unwrap();
    assert_eq!(unacknowledged.batch, before);

    rabbit.kill().await;
    let fault = consumer.next().await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    assert!(consumer.ack(unacknowledged.tag).await.is_err());
    eventually(SOON, async || if publisher.accepting() { Err("accepting") } else { Ok(()) }).await;
    let fault = publisher.publish(&batch(0..1)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    let fault = queue.publisher().await.err().unwrap();
    assert!(matches!(&fault, Fault::Unavailable { reason, .. } if reason.contains("refused")), "{fault}");

    rabbit.start_again().await;
    let after = batch(200..400);
    publish_in_the_end(&*queue, &after).await;
    // A publish whose confirm did not come in time, and was done again, may have arrived twice.
    let mut consumer = eventually(SOON, async || queue.consumer(10).await).await;
    let mut missing = vec![before, after];
    while !missing.is_empty() {
        let delivery = tokio::time::timeout(SOON, consumer.next()).await.expect("nothing is lost").unwrap();
        missing.retain(|batch| *batch != delivery.batch);
        consumer.ack(delivery.tag).await.unwrap();
    }
}

#[tokio::test]
async fn a_hanging_broker_makes_publishing_unknown_and_one_attempt_to_connect_serves_all() {
    let rabbit = PrivateRabbit::start().await;
    let queue = queue_at(&rabbit.url()).queue;
    let mut publisher = queue.publisher().await.unwrap();
    rabbit.freeze().await;
    assert!(publisher.accepting());
    let lost = batch(0..1);
    let fault = publisher.publish(&lost).await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault}");
    assert!(!publisher.accepting());
    let fault = publisher.publish(&lost).await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");

    // Another back end, since this one has a connection that is only known to be dead after some heartbeats.
    let proxy = FaultProxy::start(rabbit.url()).await;
    let other = queue_at(&proxy.url(rabbit.url())).queue;
    let faults = join_all((0..50).map(|_| other.publisher())).await;
    assert!(faults.iter().all(Result::is_err));
    assert_eq!(proxy.counts().connections, 1);

    rabbit.thaw().await;
    publish_in_the_end(&*queue, &batch(1..2)).await;
    // What timed out arrived in the end.
    let mut consumer = eventually(SOON, async || queue.consumer(10).await).await;
    assert_eq!(consumer.next().await.unwrap().batch, lost);
}

#[tokio::test]
async fn a_broker_that_refuses_says_why_without_the_password() {
    let rabbit = seckill_testkit::rabbit().await;
    let wrong = rabbit.url.replace("guest:guest@", "guest:secret@");
    let fault = queue_at(&wrong).queue.ping().await.unwrap_err().to_string();
    assert!(
        fault.contains("ACCESS") && fault.contains("user \"guest\"") && !fault.contains("secret"),
        "{fault}"
    );
    let vhost = rabbit.url.rsplit('/').next().unwrap();
    let fault = queue_at(&rabbit.url.replace(vhost, "none")).queue.ping().await.unwrap_err().to_string();
    assert!(fault.contains("vhost \"none\""), "{fault}");
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again() {
    let rabbit = seckill_testkit::rabbit().await;
    let queue = queue_at(&rabbit.url).queue;
    queue.ping().await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;
    channel.queue_delete(names::ORDERS.into(), Default::default()).await.unwrap();
    let fault = queue.ping().await.unwrap_err().to_string();
    assert!(fault.contains("NOT_FOUND"), "{fault}");
    queue.ping().await.unwrap();
}
