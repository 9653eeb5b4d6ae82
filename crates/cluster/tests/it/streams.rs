//! The queue on Redis Streams: consumers that die or are slow, what is given back, messages that are not for this program, and a
//! Redis that is full, killed, or has another ledger's orders.

use std::time::{Duration, Instant};

use deadpool_redis::redis::{FromRedisValue, Value};
use seckill_cluster::{ClusterConfig, QueueKind};
use seckill_core::{Backend, Consumer, Fault, Marker, Message, OrderBatch, OrderQueue, SaleId};
use seckill_testkit::proxy::Flow;
use seckill_testkit::{FaultProxy, PrivateRedis, TestMySql, TestRedis, eventually};
use tokio::time::timeout;

use crate::gate::run;
use crate::queue_limits::{NEVER, await_ready, batch, next, parked};
use crate::setup::SOON;

/// After this long a consumer of which nothing is heard is taken for dead.
const SILENCE: Duration = Duration::from_secs(20);

/// A back end that has reached its ledger, with its queue in a Redis of the queue's own.
async fn queue_at(redis_url: &str, mysql_url: &str) -> Backend {
    let backend = unreached(redis_url, mysql_url);
    backend.ledger.id().await.unwrap();
    backend
}

fn unreached(redis_url: &str, mysql_url: &str) -> Backend {
    let config = ClusterConfig {
        redis_url: "redis://127.0.0.1:1".to_owned(),
        amqp_url: "amqp://127.0.0.1:1".to_owned(),
        mysql_url: mysql_url.to_owned(),
        redis_pool_size: 4,
        gate_durable: false,
        queue: QueueKind::RedisStreams,
        queue_redis_url: Some(redis_url.to_owned()),
    };
    seckill_cluster::connect(&config).unwrap()
}

async fn servers() -> (TestRedis, TestMySql) {
    let (redis, mysql) = tokio::join!(seckill_testkit::redis(), ledger());
    (redis, mysql)
}

async fn ledger() -> TestMySql {
    let mysql = seckill_testkit::mysql().await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    mysql
}

async fn publish(queue: &dyn OrderQueue, batches: &[OrderBatch]) {
    let mut publisher = queue.publisher().await.unwrap();
    for batch in batches {
        publisher.publish(batch).await.unwrap();
    }
}

/// Adds a message that goes around seckill.
async fn add(redis_url: &str, backend: &Backend, body: &str) {
    run(redis_url, &["XADD", &orders(backend).await, "*", "body", body]).await;
}

async fn orders(backend: &Backend) -> String {
    format!("seckill:{{{}}}:orders", backend.ledger.id().await.unwrap())
}

async fn await_consumers(queue: &dyn OrderQueue, wanted: u32) {
    eventually(SOON, async || match queue.consumers().await.unwrap() {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .await;
}

async fn expect(consumer: &mut Box<dyn Consumer>, wanted: &OrderBatch) {
    let delivery = next(consumer).await;
    assert_eq!(delivery.batch, *wanted);
    consumer.ack(delivery.tag).await.unwrap();
}

#[tokio::test]
async fn what_a_consumer_held_that_ended_without_a_word_comes_to_another_one() {
    let (redis, mysql) = servers().await;
    let sent = [batch(1), batch(2), batch(3), batch(4), batch(5)];
    let alive = queue_at(&redis.url, &mysql.url).await;
    publish(alive.queue.as_ref(), &sent).await;

    let proxy = FaultProxy::start(&redis.url).await;
    let dying = queue_at(&proxy.url(&redis.url), &mysql.url).await;
    let mut first = dying.queue.consumer(3).await.unwrap();
    for wanted in &sent[..3] {
        assert_eq!(next(&mut first).await.batch, *wanted);
    }
    let died = Instant::now();
    proxy.set_both(Flow::Cut);
    // As a process that is killed: its destructors do not run.
    std::mem::forget(first);

    let mut second = alive.queue.consumer(10).await.unwrap();
    for wanted in &sent[3..] {
        expect(&mut second, wanted).await;
    }
    assert_eq!(alive.queue.consumers().await.unwrap(), 2, "it is not known yet that one is dead");
    for wanted in &sent[..3] {
        expect(&mut second, wanted).await;
    }
    // Its last word was a moment before its death.
    assert!(died.elapsed() > SILENCE - Duration::from_secs(5), "{:?}", died.elapsed());
    assert_eq!(alive.queue.consumers().await.unwrap(), 1);
    drop(second);
    await_ready(alive.queue.as_ref(), 0).await;
}

#[tokio::test]
async fn whoever_counts_the_consumers_notices_the_dead_ones() {
    let (redis, mysql) = servers().await;
    let alive = queue_at(&redis.url, &mysql.url).await;
    publish(alive.queue.as_ref(), &[batch(1)]).await;
    let proxy = FaultProxy::start(&redis.url).await;
    let dying = queue_at(&proxy.url(&redis.url), &mysql.url).await;
    let mut consumer = dying.queue.consumer(3).await.unwrap();
    next(&mut consumer).await;
    proxy.set_both(Flow::Cut);
    std::mem::forget(consumer);
    // A rebuild waits for this, and consumes nothing meanwhile.
    await_consumers(alive.queue.as_ref(), 0).await;
    await_ready(alive.queue.as_ref(), 1).await;
}

#[tokio::test]
async fn a_slow_consumer_that_lives_keeps_what_it_holds() {
    let (redis, mysql) = servers().await;
    let backend = queue_at(&redis.url, &mysql.url).await;
    publish(backend.queue.as_ref(), &[batch(1), batch(2)]).await;
    let mut slow = backend.queue.consumer(2).await.unwrap();
    let held = [next(&mut slow).await, next(&mut slow).await];
    let mut idle = backend.queue.consumer(2).await.unwrap();
    let robbed = timeout(SILENCE + Duration::from_secs(6), idle.next()).await;
    assert!(robbed.is_err(), "{robbed:?}");
    for delivery in held {
        slow.ack(delivery.tag).await.unwrap();
    }
    let again = timeout(NEVER, idle.next()).await;
    assert!(again.is_err(), "{again:?}");
    drop((slow, idle));
    await_consumers(backend.queue.as_ref(), 0).await;
    await_ready(backend.queue.as_ref(), 0).await;
}

#[tokio::test]
async fn what_is_given_back_comes_before_a_marker_that_is_published_later() {
    let (redis, mysql) = servers().await;
    let backend = queue_at(&redis.url, &mysql.url).await;
    let queue = backend.queue.as_ref();
    let mut publisher = queue.publisher().await.unwrap();
    for round in 0..10 {
        let sent = batch(round);
        publisher.publish(&sent).await.unwrap();
        let mut holding = queue.consumer(5).await.unwrap();
        assert_eq!(next(&mut holding).await.batch, sent);
        // It waits for what is new, and that is the marker.
        let mut waiting = queue.consumer(5).await.unwrap();
        assert!(timeout(NEVER, waiting.next()).await.is_err());
        drop(holding);
        await_consumers(queue, 1).await;
        let marker = OrderBatch::marker(SaleId(1), 1, Marker::new(round));
        publisher.publish(&marker).await.unwrap();
        expect(&mut waiting, &sent).await;
        expect(&mut waiting, &marker).await;
        drop(waiting);
        await_consumers(queue, 0).await;
    }
}

#[tokio::test]
async fn more_than_a_consumer_may_hold_is_given_back_in_its_order() {
    let (redis, mysql) = servers().await;
    let backend = queue_at(&redis.url, &mysql.url).await;
    let sent: Vec<_> = (0..12).map(batch).collect();
    publish(backend.queue.as_ref(), &sent).await;
    for _ in 0..3 {
        let mut first = backend.queue.consumer(8).await.unwrap();
        for wanted in &sent[..8] {
            assert_eq!(next(&mut first).await.batch, *wanted);
        }
        drop(first);
        await_consumers(backend.queue.as_ref(), 0).await;
        await_ready(backend.queue.as_ref(), 12).await;
    }
    let mut second = backend.queue.consumer(3).await.unwrap();
    for wanted in &sent {
        expect(&mut second, wanted).await;
    }
}

#[tokio::test]
async fn a_consumer_that_was_taken_for_dead_learns_it() {
    let (redis, mysql) = servers().await;
    let backend = queue_at(&redis.url, &mysql.url).await;
    let mut consumer = backend.queue.consumer(1).await.unwrap();
    publish(backend.queue.as_ref(), &[batch(1)]).await;
    next(&mut consumer).await;
    let orders = orders(&backend).await;
    let names = run(&redis.url, &["XINFO", "CONSUMERS", &orders, "workers"]).await;
    let Value::Array(consumers) = names else { panic!("{names:?}") };
    let fields = Vec::<Value>::from_redis_value(consumers[0].clone()).unwrap();
    let name = String::from_redis_value(fields[1].clone()).unwrap();
    run(&redis.url, &["XGROUP", "DELCONSUMER", &orders, "workers", &name]).await;
    let fault = timeout(SOON, consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(&fault, Fault::Unavailable { reason, .. } if reason.contains("QUEUEGONE")), "{fault}");
}

#[tokio::test]
async fn unreadable_messages_are_parked_and_newer_ones_wait_for_those_who_know_them() {
    let (redis, mysql) = servers().await;
    let backend = queue_at(&redis.url, &mysql.url).await;
    let queue = backend.queue.as_ref();
    let newer = r#"{"version":4,"orders":"in another form"}"#;
    let mut consumer = queue.consumer(2).await.unwrap();
    add(&redis.url, &backend, "no json").await;
    run(&redis.url, &["XADD", &orders(&backend).await, "*", "other", "field"]).await;
    for _ in 0..5 {
        add(&redis.url, &backend, newer).await;
    }
    let sent = [batch(1), OrderBatch::marker(SaleId(1), 1, Marker::new(1))];
    publish(queue, &sent).await;
    expect(&mut consumer, &sent[0]).await;
    let marker = next(&mut consumer).await;
    assert_eq!(marker.batch, sent[1]);
    // The marker comes after everything before it was set aside.
    let depth = queue.parked_depth().await.unwrap();
    assert_eq!((depth.newer, depth.parked), (5, 2));
    consumer.ack(marker.tag).await.unwrap();

    let all = parked(queue, 2).await;
    assert!(all[0].reason.contains("expected") && all[0].body == "no json", "{all:?}");
    assert!(queue.redrive(&all[0].id).await.unwrap());
    // The consumer works by itself, and parks it again.
    let all = parked(queue, 2).await;
    for message in all {
        assert!(queue.discard(&message.id).await.unwrap());
    }
    parked(queue, 0).await;

    let known = batch(2);
    let streams = orders(&backend).await + ":newer";
    run(&redis.url, &["XADD", &streams, "*", "body", &Message::write(&known, None)]).await;
    assert_eq!(queue.return_newer().await.unwrap(), 5);
    expect(&mut consumer, &known).await;
    drop(consumer);
    await_ready(queue, 0).await;
}

#[tokio::test]
async fn a_full_redis_takes_no_message_and_is_drained_all_the_same() {
    let (redis, mysql) = tokio::join!(PrivateRedis::start(), ledger());
    let backend = queue_at(&redis.url(), &mysql.url).await;
    let queue = backend.queue.as_ref();
    add(&redis.url(), &backend, "no json").await;
    let sent = [batch(1), batch(2), batch(3)];
    publish(queue, &sent).await;
    let (mut one, two) = (queue.publisher().await.unwrap(), queue.publisher().await.unwrap());
    redis.set_max_memory(1).await;
    assert!(one.accepting() && two.accepting());
    let fault = one.publish(&batch(4)).await.unwrap_err();
    assert!(matches!(&fault, Fault::Unknown { reason, .. } if reason.contains("OOM")), "{fault}");
    assert!(!one.accepting() && !two.accepting(), "one refusal counts for all publishers");
    let fault = queue.ping().await.unwrap_err().to_string();
    assert!(fault.contains("OOM"), "{fault}");

    // The first message can be parked only later; those behind it come.
    let mut consumer = queue.consumer(10).await.unwrap();
    for wanted in &sent {
        expect(&mut consumer, wanted).await;
    }
    assert_eq!(queue.parked_depth().await.unwrap().parked, 0);
    redis.set_max_memory(0).await;
    parked(queue, 1).await;
    eventually(SOON, async || {
        let mut publisher = queue.publisher().await?;
        publisher.publish(&batch(5)).await
    })
    .await;
    queue.ping().await.unwrap();
    assert!(two.accepting());
}

#[tokio::test]
async fn a_killed_redis_is_noticed_at_once_and_loses_nothing_confirmed() {
    let (redis, mysql) = tokio::join!(PrivateRedis::start(), ledger());
    let backend = queue_at(&redis.url(), &mysql.url).await;
    let queue = backend.queue.as_ref();
    let sent = [batch(1), batch(2)];
    publish(queue, &sent).await;
    let mut publisher = queue.publisher().await.unwrap();
    let mut consumer = queue.consumer(1).await.unwrap();
    let held = next(&mut consumer).await;
    redis.kill().await;
    eventually(SOON, async || if publisher.accepting() { Err("accepting") } else { Ok(()) }).await;
    let fault = publisher.publish(&batch(3)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    let fault = timeout(SOON, consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    assert!(consumer.ack(held.tag).await.is_err());
    drop(consumer);

    redis.start_again().await;
    let mut consumer = eventually(SOON, async || queue.consumer(5).await).await;
    let mut came = vec![next(&mut consumer).await.batch, next(&mut consumer).await.batch];
    came.sort_by_key(|batch| batch.batch_id);
    assert_eq!(came, sent);
}

#[tokio::test]
async fn a_redis_that_hangs_makes_publishing_unknown() {
    let (redis, mysql) = tokio::join!(PrivateRedis::start(), ledger());
    let backend = queue_at(&redis.url(), &mysql.url).await;
    let queue = backend.queue.as_ref();
    let mut publisher = queue.publisher().await.unwrap();
    redis.freeze().await;
    let sent = batch(1);
    let fault = publisher.publish(&sent).await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault}");
    assert!(!publisher.accepting());
    redis.thaw().await;
    // What was not confirmed arrived in the end.
    let mut consumer = eventually(SOON, async || queue.consumer(1).await).await;
    expect(&mut consumer, &sent).await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_is_a_queue_again() {
    let (redis, mysql) = servers().await;
    let backend = queue_at(&redis.url, &mysql.url).await;
    let queue = backend.queue.as_ref();
    let mut publisher = queue.publisher().await.unwrap();
    publisher.publish(&batch(1)).await.unwrap();
    let mut consumer = queue.consumer(1).await.unwrap();
    next(&mut consumer).await;
    redis.flush().await;
    let sent = batch(2);
    publisher.publish(&sent).await.unwrap();
    let fault = timeout(SOON, consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    drop(consumer);
    let mut consumer = queue.consumer(1).await.unwrap();
    expect(&mut consumer, &sent).await;
}

#[tokio::test]
async fn a_confirm_means_the_disk_where_redis_can_say_that() {
    let (redis, mysql) = tokio::join!(PrivateRedis::start(), ledger());
    let backend = queue_at(&redis.url(), &mysql.url).await;
    let queue = backend.queue.as_ref();
    let info = async |section| String::from_redis_value(run(&redis.url(), &["INFO", section]).await).unwrap();
    publish(queue, &[batch(1)]).await;
    let knows = run(&redis.url(), &["COMMAND", "INFO", "WAITAOF"]).await != Value::Array(vec![Value::Nil]);
    let asked = info("commandstats").await.contains("cmdstat_waitaof");
    assert_eq!(asked, knows);

    let mut before = queue.publisher().await.unwrap();
    redis.config_set("appendonly", "no").await;
    if knows {
        // It was promised the disk, and there is none any more.
        let fault = before.publish(&batch(2)).await.unwrap_err();
        assert!(matches!(fault, Fault::Unknown { .. }), "{fault}");
    }
    eventually(SOON, async || queue.publisher().await?.publish(&batch(3)).await).await;
}

#[tokio::test]
async fn another_ledger_on_the_same_redis_has_another_queue() {
    let ((redis, mysql), other) = tokio::join!(servers(), ledger());
    let (ours, theirs) = (queue_at(&redis.url, &mysql.url).await, queue_at(&redis.url, &other.url).await);
    publish(ours.queue.as_ref(), &[batch(1)]).await;
    let sent = batch(2);
    publish(theirs.queue.as_ref(), std::slice::from_ref(&sent)).await;
    let mut consumer = theirs.queue.consumer(5).await.unwrap();
    expect(&mut consumer, &sent).await;
    assert!(timeout(NEVER, consumer.next()).await.is_err());
    assert_eq!(ours.queue.depth().await.unwrap().ready_batches, 1);
}

#[tokio::test]
async fn a_gateway_that_starts_while_the_ledger_is_away_publishes_and_nobody_consumes() {
    let (redis, mysql) = servers().await;
    let proxy = FaultProxy::start(&mysql.url).await;
    let place = proxy.url(&mysql.url);
    let fault = unreached(&redis.url, &place).queue.depth().await.unwrap_err().to_string();
    assert!(fault.contains("id is not known yet"), "{fault}");
    let before = queue_at(&redis.url, &place).await;
    drop(before.queue.publisher().await.unwrap());

    proxy.set_both(Flow::Cut);
    let late = unreached(&redis.url, &place);
    let sent = batch(1);
    publish(late.queue.as_ref(), std::slice::from_ref(&sent)).await;
    let fault = late.queue.consumer(1).await.err().unwrap().to_string();
    assert!(fault.contains("has not been reached"), "{fault}");
    let mut consumer = before.queue.consumer(1).await.unwrap();
    expect(&mut consumer, &sent).await;
}
