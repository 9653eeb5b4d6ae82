//! Messages of a newer version than this program's.

use futures_util::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use seckill_cluster::names;
use seckill_core::{AuditReport, Consumer, Marker, Message, OrderBatch, OrderQueue, SaleId};
use seckill_testkit::eventually;
use seckill_testkit::fixtures::open_sale;

use crate::queue_limits::{NEVER, await_ready, batch, channel, next, parked, publish, publish_to};
use crate::setup::{SOON, backend, queue_at};

/// Asks the consumer for batches it must not get, until so many messages are set aside for a newer program.
async fn set_aside(queue: &dyn OrderQueue, consumer: &mut Box<dyn Consumer>, count: u64) {
    eventually(SOON, async || {
        // The consumer works only while it is asked.
        if let Ok(other) = tokio::time::timeout(NEVER, consumer.next()).await {
            panic!("{other:?}");
        }
        match queue.parked_depth().await.unwrap().newer {
            newer if newer == count => Ok(()),
            newer => Err(newer),
        }
    })
    .await;
}

fn newer_body(number: u64) -> String {
    format!(r#"{{"version":4,"orders":"in another form","number":{number}}}"#)
}

#[tokio::test]
async fn a_newer_message_is_left_to_those_who_know_its_version() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    let mut consumer = queue.consumer(2).await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;
    publish(&channel, names::ORDERS, newer_body(1).as_bytes()).await;
    let sent = batch(1);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    // It is moved out of the way: what comes behind it is delivered.
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.batch, sent);
    consumer.ack(delivery.tag).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().ready_batches, 0, "it was given back at once");
    set_aside(queue, &mut consumer, 1).await;

    // This program cannot move it back; that changes nothing for those who can.
    assert_eq!(queue.return_newer().await.unwrap(), 1);
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut knowing =
        channel.basic_consume(names::NEWER.into(), "".into(), options, arguments).await.unwrap();
    let newer = tokio::time::timeout(SOON, knowing.next()).await.expect("it is there").unwrap().unwrap();
    assert_eq!(newer.data, newer_body(1).into_bytes());
    parked(queue, 0).await;
}

#[tokio::test]
async fn a_hundred_newer_messages_hold_up_no_older_one_and_no_marker_passes_one_that_is_on_its_way() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    queue.ping().await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;
    for number in 0..100 {
        publish(&channel, names::ORDERS, newer_body(number).as_bytes()).await;
    }
    let mut publisher = queue.publisher().await.unwrap();
    let marker = OrderBatch::marker(SaleId(1), 1, Marker::new(1));
    let sent = [batch(1), batch(2)];
    publisher.publish(&sent[0]).await.unwrap();
    publisher.publish(&marker).await.unwrap();
    publisher.publish(&sent[1]).await.unwrap();

    // Fewer than the newer messages, and none of them is ever given back.
    let mut consumer = queue.consumer(32).await.unwrap();
    let mut orders = Vec::new();
    while orders.len() < 3 {
        let delivery = next(&mut consumer).await;
        if delivery.batch.marker.is_some() {
            assert_eq!(
                queue.parked_depth().await.unwrap().newer,
                100,
                "the marker came before all was set aside"
            );
        }
        orders.push(delivery.batch.batch_id);
        consumer.ack(delivery.tag).await.unwrap();
    }
    for wanted in [&sent[0], &marker, &sent[1]] {
        assert!(orders.contains(&wanted.batch_id), "{orders:?}");
    }
    drop(consumer);
    await_ready(queue, 0).await;
    assert_eq!(queue.return_newer().await.unwrap(), 100);
    parked(queue, 0).await;
}

#[tokio::test]
async fn what_an_older_worker_has_set_aside_is_moved_back_and_what_is_too_new_stays() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    queue.ping().await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;
    // As a worker would that does not know this version; more than one handful.
    let sent = batch(1);
    for _ in 0..300 {
        publish_to(&channel, names::NEWER, names::NEWER, Message::write(&sent, None).as_bytes()).await;
    }
    assert_eq!(queue.parked_depth().await.unwrap().newer, 300);
    assert_eq!(queue.return_newer().await.unwrap(), 0);
    await_ready(queue, 300).await;
    let mut consumer = queue.consumer(1).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, sent);
    drop(consumer);

    publish_to(&channel, names::NEWER, names::NEWER, newer_body(1).as_bytes()).await;
    publish_to(&channel, names::NEWER, names::NEWER, Message::write(&sent, None).as_bytes()).await;
    assert_eq!(queue.return_newer().await.unwrap(), 1);
    await_ready(queue, 301).await;
    assert_eq!(queue.parked_depth().await.unwrap().newer, 1);

    // A process that has them in hand counts as one more, and as a consumer: a rebuild waits for it. The queue takes a moment to notice
    // that the consumer above has gone.
    eventually(SOON, async || match queue.consumers().await.unwrap() {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut knowing =
        channel.basic_consume(names::NEWER.into(), "".into(), options, arguments).await.unwrap();
    knowing.next().await.unwrap().unwrap();
    assert_eq!(queue.return_newer().await.unwrap(), 1);
    assert_eq!(queue.consumers().await.unwrap(), 1);
}

#[tokio::test]
async fn an_audit_counts_what_waits_for_a_human_or_for_a_newer_program() {
    let servers = seckill_testkit::cluster().await;
    seckill_cluster::migrate(&servers.mysql_url).await.unwrap();
    let backend = backend(&servers.redis_url, &servers.amqp_url, &servers.mysql_url);
    let sale = open_sale(&backend, 1, 1).await;
    let mut consumer = backend.queue.consumer(5).await.unwrap();
    let (_connection, channel) = channel(&servers.amqp_url).await;
    publish(&channel, names::ORDERS, b"no json").await;
    publish(&channel, names::ORDERS, newer_body(1).as_bytes()).await;
    for stray in ["elsewhere", "nowhere"] {
        publish(&channel, stray, Message::write(&batch(1), None).as_bytes()).await;
    }
    eventually(SOON, async || {
        // The consumer works only while it is asked.
        let _ = tokio::time::timeout(NEVER, consumer.next()).await;
        let audit = AuditReport::read(&backend, sale.id).await.unwrap().unwrap();
        match (audit.parked_messages, audit.unrouted_messages, audit.newer_messages) {
            (1, 2, 1) => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
}
