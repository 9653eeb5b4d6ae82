//! What RabbitMQ's own limits do to the queue, and messages that are not for this process.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use seckill_cluster::{ClusterConfig, names};
use seckill_core::{
    Backend, Consumer, Delivery, Fault, LedgerId, Marker, Message, OrderBatch, OrderQueue, ParkedMessage,
    Publisher, SaleId,
};
use seckill_testkit::{Alarm, PrivateRabbit, eventually};
use uuid::Uuid;

use crate::setup::{SOON, claim, queue_at};

/// How long to look out for something that must not happen.
const NEVER: Duration = Duration::from_millis(300);

fn batch(user: u64) -> OrderBatch {
    OrderBatch::new(SaleId(1), 1, vec![claim(user)])
}

/// A channel that goes around seckill.
async fn channel(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn publish(channel: &Channel, key: &'static str, body: &[u8]) {
    publish_to(channel, names::ORDERS, key, body).await;
}

async fn publish_to(channel: &Channel, exchange: &'static str, key: &'static str, body: &[u8]) {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
    assert!(sent.unwrap().await.unwrap().is_ack());
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    tokio::time::timeout(SOON, consumer.next()).await.expect("a batch arrives in time").unwrap()
}

async fn await_ready(queue: &dyn OrderQueue, wanted: u64) {
    eventually(SOON, async || match queue.depth().await.unwrap().ready_batches {
        ready if ready == wanted => Ok(()),
        ready => Err(ready),
    })
    .await;
}

async fn parked(queue: &dyn OrderQueue, count: u64) -> Vec<ParkedMessage> {
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

#[tokio::test]
async fn workers_that_crash_again_and_again_park_nothing() {
    let rabbit = seckill_testkit::rabbit().await;
    let backend = queue_at(&rabbit.url);
    let queue = backend.queue.as_ref();
    let sent = batch(1);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    // More often than the limit of 20 that RabbitMQ 4 gives to queues without one of their own.
    crash(queue, 25).await;
    let mut consumer = queue.consumer(1).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, sent);
    assert_eq!(queue.parked_depth().await.unwrap().parked, 0);
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
    let queue = backend.queue.as_ref();
    let sent = batch(1);
    queue.publisher().await.unwrap().publish(&sent).await.unwrap();
    crash(queue, 25).await;
    let mut consumer = queue.consumer(1).await.unwrap();
    assert_eq!(next(&mut consumer).await.batch, sent);
    assert_eq!(queue.parked_depth().await.unwrap().parked, 0);
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
    format!(r#"{{"version":3,"orders":"in another form","number":{number}}}"#)
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

    // A process that has them in hand counts as one more, and as a consumer: a rebuild waits for it.
    assert_eq!(queue.consumers().await.unwrap(), 0);
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut knowing =
        channel.basic_consume(names::NEWER.into(), "".into(), options, arguments).await.unwrap();
    knowing.next().await.unwrap().unwrap();
    assert_eq!(queue.return_newer().await.unwrap(), 1);
    assert_eq!(queue.consumers().await.unwrap(), 1);
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
