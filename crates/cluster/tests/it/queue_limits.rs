//! What RabbitMQ's own limits do to the queue, and messages that are not for this process.

use std::time::Duration;

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use seckill_cluster::{ClusterConfig, QueueKind, names};
use seckill_core::{
    Backend, Consumer, Delivery, Fault, LedgerId, Message, OrderBatch, OrderQueue, ParkedMessage, Publisher,
    SaleId,
};
use seckill_testkit::{Alarm, PrivateRabbit, eventually};
use uuid::Uuid;

use crate::setup::{SOON, claim, queue_at};

/// How long to look out for something that must not happen.
pub(crate) const NEVER: Duration = Duration::from_millis(300);

pub(crate) fn batch(user: u64) -> OrderBatch {
    OrderBatch::new(SaleId(1), 1, vec![claim(user)])
}

/// A channel that goes around seckill.
pub(crate) async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

pub(crate) async fn publish(channel: &Channel, key: &'static str, body: &[u8]) {
    publish_to(channel, names::ORDERS, key, body).await;
}

pub(crate) async fn publish_to(channel: &Channel, exchange: &'static str, key: &'static str, body: &[u8]) {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
    assert!(sent.unwrap().await.unwrap().is_ack());
}

pub(crate) async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(SOON, consumer.next()).await.expect("a batch arrives in time").unwrap()
}

pub(crate) async fn await_ready(queue: &dyn OrderQueue, wanted: u64) {
    eventually(SOON, async || match queue.depth().await.unwrap().ready_batches {
        ready if ready == wanted => Ok(()),
        ready => Err(ready),
    })
    .await;
}

pub(crate) async fn parked(queue: &dyn OrderQueue, count: u64) -> Vec<ParkedMessage> {
    eventually(SOON, async || match queue.parked_depth().await.unwrap() {
        depth if depth.parked + depth.unrouted == count => Ok(()),
        depth => Err(depth),
    })
    .await;
    queue.parked(100).await.unwrap()
}

async fn publishers(queue: &dyn OrderQueue, count: usize) -> Vec<Box<dyn Publisher>> {
    let mut publishers = Vec::new();
    for _ in 0..count {
        publishers.push(queue.publisher().await.unwrap());
    }
    publishers
}

#[tokio::test]
async fn a_queue_at_its_limit_gets_one_batch_a_probe_and_takes_all_again_without_the_limit() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    queue.ping().await.unwrap();
    rabbit.vhost().limit_queue(names::ORDERS, 1).await;
    // RabbitMQ lets a few more in before it refuses.
    let refused =
        eventually(SOON, async || match queue.publisher().await.unwrap().publish(&batch(1)).await {
            Err(fault) => Ok(fault),
            Ok(()) => Err("taken"),
        })
        .await;
    assert!(
        matches!(&refused, Fault::Unknown { reason, .. } if reason.contains("length limit")),
        "{refused}"
    );
    let full = queue.depth().await.unwrap().ready_batches;

    // Every round: nobody accepts until the pause is over, then one publisher does, and what it sends is refused.
    for round in 0..4 {
        let mut lanes = publishers(queue, 4).await;
        let fault = queue.ping().await.unwrap_err().to_string();
        assert!(fault.contains("length limit"), "{fault}");
        let probing =
            eventually(SOON, async || lanes.iter().position(|lane| lane.accepting()).ok_or("none")).await;
        for (number, lane) in lanes.iter_mut().enumerate() {
            assert_eq!(lane.accepting(), number == probing, "round {round}: lane {number} beside {probing}");
            if number != probing {
                let fault = lane.publish(&batch(2)).await.unwrap_err();
                assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
            }
        }
        assert!(lanes[probing].publish(&batch(3)).await.is_err());
        assert!(lanes.iter().all(|lane| !lane.accepting()), "round {round}");
    }
    assert_eq!(queue.depth().await.unwrap().ready_batches, full);

    rabbit.vhost().unlimit_queue(names::ORDERS).await;
    let mut lanes = publishers(queue, 3).await;
    let probing =
        eventually(SOON, async || lanes.iter().position(|lane| lane.accepting()).ok_or("none")).await;
    lanes[probing].publish(&batch(4)).await.unwrap();
    assert!(lanes.iter().all(|lane| lane.accepting()));
    queue.ping().await.unwrap();
    for lane in &mut lanes {
        lane.publish(&batch(5)).await.unwrap();
    }
    await_ready(queue, full + 4).await;
    rabbit.vhost().purge_queue(names::ORDERS).await;
    await_ready(queue, 0).await;
    lanes[0].publish(&batch(6)).await.unwrap();
    await_ready(queue, 1).await;
}

#[tokio::test]
async fn a_blocked_publishing_connection_stops_no_acknowledgement() {
    let rabbit = PrivateRabbit::start().await;
    let backend = queue_at(&rabbit.url());
    let queue = backend.queue.as_ref();
    let mut publisher = queue.publisher().await.unwrap();
    for user in 0..20 {
        publisher.publish(&batch(user)).await.unwrap();
    }
    let mut consumer = queue.consumer(5).await.unwrap();
    rabbit.set_alarm(Alarm::Memory, true).await;
    // A connection learns of the alarm by its next message, which waits on the way.
    let late = batch(100);
    let fault = publisher.publish(&late).await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault}");
    assert!(!publisher.accepting());
    let fault = queue.ping().await.unwrap_err().to_string();
    assert!(fault.contains("short of memory or disk"), "{fault}");
    assert!(queue.publisher().await.is_err());

    for _ in 0..20 {
        let delivery = next(&mut consumer).await;
        consumer.ack(delivery.tag).await.unwrap();
    }
    drop(consumer);
    await_ready(queue, 0).await;

    rabbit.set_alarm(Alarm::Memory, false).await;
    eventually(SOON, async || {
        let mut publisher = queue.publisher().await?;
        publisher.publish(&batch(200)).await?;
        if publisher.accepting() {
            Ok(())
        } else {
            Err(Fault::unavailable(seckill_core::Dependency::Queue, ""))
        }
    })
    .await;
    queue.ping().await.unwrap();
    // What waited on the way arrives too.
    await_ready(queue, 2).await;
    let mut consumer = queue.consumer(5).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, late);
}

/// As version 1 of seckill declared them.
async fn declare_old_queues(channel: &Channel, limit: i64) {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    for (name, kind) in [(names::UNROUTED, ExchangeKind::Fanout), (names::PARKED, ExchangeKind::Fanout)] {
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
    }
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", names::PARKED),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
    channel.queue_declare(names::ORDERS.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// Takes one batch and dies with it, so many times.
async fn crash(queue: &dyn OrderQueue, times: usize) {
    for _ in 0..times {
        let mut consumer = queue.consumer(1).await.unwrap();
        next(&mut consumer).await;
    }
}

/// A message comes out of the queue after 25 crashes: more than the limit of 20 that RabbitMQ 4 gives to queues without one of
/// their own.
async fn outlives_crashes(queue: &dyn OrderQueue) {
    let sent = batch(1);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    crash(queue, 25).await;
    let mut consumer = queue.consumer(1).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, sent);
    assert_eq!(queue.parked_depth().await.unwrap().parked, 0);
}

#[tokio::test]
async fn workers_that_crash_again_and_again_park_nothing() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    outlives_crashes(backend.queue.as_ref()).await;
}

#[tokio::test]
async fn an_older_queue_with_a_delivery_limit_is_used_and_what_it_parks_can_be_moved_back() {
    let rabbit = seckill_testkit::rabbit().await;
    let (_connection, channel) = channel(&rabbit.url).await;
    declare_old_queues(&channel, 3).await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    queue.ping().await.unwrap();
    let sent = batch(1);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    // The limit is real: this is what a queue of this version is without.
    crash(queue, 4).await;
    let all = parked(queue, 1).await;
    assert_eq!(all[0].batch.as_ref(), Some(&sent));
    assert!(all[0].reason.contains("delivery_limit") && !all[0].unrouted, "{}", all[0].reason);
    assert!(all[0].parked_at.is_some());
    assert!(queue.redrive(&all[0].id).await.unwrap());
    let mut consumer = queue.consumer(1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.batch, sent);
    consumer.ack(delivery.tag).await.unwrap();
}

#[tokio::test]
async fn a_queue_with_the_limit_of_version_1_keeps_what_20_crashes_would_drop() {
    let rabbit = seckill_testkit::rabbit().await;
    let (_connection, channel) = channel(&rabbit.url).await;
    declare_old_queues(&channel, 100).await;
    let backend = queue_at(&rabbit.url);
    outlives_crashes(backend.queue.as_ref()).await;
}

#[tokio::test]
async fn a_queue_that_something_else_has_made_is_refused_with_what_to_do() {
    let rabbit = seckill_testkit::rabbit().await;
    let (_connection, channel) = channel(&rabbit.url).await;
    let classic = channel
        .queue_declare(names::ORDERS.into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await;
    classic.unwrap();
    let fault = queue_at(&rabbit.url).queue.ping().await.unwrap_err();
    assert!(matches!(fault, Fault::Misconfigured { .. }), "{fault}");
    let text = fault.to_string();
    for part in [names::ORDERS, "inequivalent arg", "exists with other settings", "delete it"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn unreadable_and_unrouted_messages_are_listed_moved_back_and_removed() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    let mut consumer = queue.consumer(10).await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;
    publish(&channel, names::ORDERS, b"no json").await;
    let stray = batch(1);
    publish(&channel, "elsewhere", Message::write(&stray, None).as_bytes()).await;
    // A message of version 1, which names neither its version nor a ledger.
    let old = batch(2);
    publish(&channel, names::ORDERS, &serde_json::to_vec(&old).unwrap()).await;
    assert_eq!(next(&mut consumer).await.batch, old);
    assert!(tokio::time::timeout(NEVER, consumer.next()).await.is_err());

    let all = parked(queue, 2).await;
    let bad = all.iter().find(|message| !message.unrouted).unwrap();
    assert!(bad.reason.contains("expected") && bad.batch.is_none(), "{bad:?}");
    assert_eq!(bad.body, "no json");
    let unrouted = all.iter().find(|message| message.unrouted).unwrap();
    assert!(unrouted.reason.contains("elsewhere"), "{unrouted:?}");
    assert!(queue.redrive(&unrouted.id).await.unwrap());
    assert_eq!(next(&mut consumer).await.batch, stray);
    // Moved back, what cannot be read is parked again under the same id, and can be removed.
    assert!(queue.redrive(&bad.id).await.unwrap());
    assert!(tokio::time::timeout(NEVER, consumer.next()).await.is_err());
    eventually(SOON, async || {
        // The consumer works only while it is asked.
        let _ = tokio::time::timeout(NEVER, consumer.next()).await;
        match queue.parked_depth().await.unwrap().parked {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(parked(queue, 1).await[0].id, bad.id);
    assert!(queue.discard(&bad.id).await.unwrap());
    parked(queue, 0).await;
}

#[tokio::test]
async fn a_copy_that_a_dying_worker_left_is_moved_and_removed_with_its_message() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    let sent = batch(1);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    let mut consumer = queue.consumer(1).await.unwrap();
    let delivery = next(&mut consumer).await;
    // As if the worker had died after it had sent the copy to the parked ones, and before it acknowledged the message.
    let (_connection, channel) = channel(&rabbit.url).await;
    let properties = BasicProperties::default().with_message_id(sent.batch_id.to_string().into());
    let body = Message::write(&sent, None);
    let copy = channel
        .basic_publish(
            names::PARKED.into(),
            "".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        )
        .await;
    assert!(copy.unwrap().await.unwrap().is_ack());
    consumer.park(delivery, "it fails").await.unwrap();

    let all = parked(queue, 2).await;
    assert_eq!(all[0].id, all[1].id);
    let mut reasons: Vec<_> = all.iter().map(|message| message.reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["it fails", "unreadable"]);
    assert!(queue.redrive(&all[0].id).await.unwrap());
    parked(queue, 0).await;
    assert_eq!(next(&mut consumer).await.batch, sent);
    assert_eq!(queue.depth().await.unwrap().ready_batches, 0);
}

/// A back end whose ledger exists.
async fn with_ledger(amqp_url: &str, mysql_url: &str) -> Backend {
    seckill_cluster::migrate(mysql_url).await.unwrap();
    let config = ClusterConfig {
        redis_url: "redis://127.0.0.1:1".to_owned(),
        amqp_url: amqp_url.to_owned(),
        mysql_url: mysql_url.to_owned(),
        redis_pool_size: 1,
        gate_durable: false,
        queue: QueueKind::default(),
        queue_redis_url: None,
    };
    seckill_cluster::connect(&config).unwrap()
}

#[tokio::test]
async fn a_message_of_another_ledger_is_parked_and_one_is_judged_only_once_the_ledger_is_known() {
    let (rabbit, mysql) = tokio::join!(seckill_testkit::rabbit(), seckill_testkit::mysql());
    let backend = with_ledger(&rabbit.url, &mysql.url).await;
    let queue = backend.queue.as_ref();
    let ours = backend.ledger.id().await.unwrap();
    let theirs = LedgerId(Uuid::now_v7());
    queue.ping().await.unwrap();
    let (_connection, channel) = channel(&rabbit.url).await;
    let foreign = batch(1);
    publish(&channel, names::ORDERS, Message::write(&foreign, Some(theirs)).as_bytes()).await;
    let sent = batch(2);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();

    // Another process, which has not reached its ledger yet.
    let late = with_ledger(&rabbit.url, &mysql.url).await;
    let mut consumer = late.queue.consumer(10).await.unwrap();
    assert!(
        tokio::time::timeout(2 * NEVER, consumer.next()).await.is_err(),
        "it cannot know whose orders they are"
    );
    assert_eq!(late.ledger.id().await.unwrap(), ours);
    assert_eq!(next(&mut consumer).await.batch, sent);
    let _ = tokio::time::timeout(NEVER, consumer.next()).await;
    let all = parked(queue, 1).await;
    assert_eq!(all[0].batch.as_ref(), Some(&foreign));
    assert!(all[0].reason.contains(&theirs.to_string()), "{}", all[0].reason);
    assert!(!all[0].body.contains(&ours.to_string()));
}
