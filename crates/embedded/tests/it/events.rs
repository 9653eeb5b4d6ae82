//! The bus's file: several handles on it, as several processes have, and receivers that go without a word.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use seckill_core::{EventBus, EventDelivery, EventMessage, Subscription};
use seckill_embedded::{OpenError, open_events};
use uuid::Uuid;

use crate::harness::*;

const VICTIM: &str = "SECKILL_TEST_SUBSCRIBER_DIR";

fn event(kind: &str) -> EventMessage {
    let id = Uuid::now_v7();
    EventMessage { id, kind: kind.to_owned(), text: format!("{{\"id\":\"{id}\"}}") }
}

async fn publish(bus: &dyn EventBus, kinds: &[&str]) -> Vec<Uuid> {
    let mut publisher = bus.publisher().await.unwrap();
    let mut ids = Vec::new();
    for event in kinds.iter().map(|kind| event(kind)) {
        publisher.publish(&event).await.unwrap();
        ids.push(event.id);
    }
    ids
}

async fn subscribe(bus: &dyn EventBus, name: &str, pattern: &str, prefetch: u16) -> Box<dyn Subscription> {
    bus.subscribe(&name.parse().unwrap(), &[pattern.parse().unwrap()], prefetch).await.unwrap()
}

async fn receive(subscription: &mut Box<dyn Subscription>) -> EventDelivery {
    tokio::time::timeout(DEADLINE, subscription.next()).await.expect("an event comes in time").unwrap()
}

async fn nothing_comes(subscription: &mut Box<dyn Subscription>) -> bool {
    tokio::time::timeout(Duration::from_millis(200), subscription.next()).await.is_err()
}

async fn rows(dir: &Path, sql: &'static str) -> i64 {
    let mut stranger = connect(dir, "events.db").await;
    sqlx::query_scalar(sql).fetch_one(&mut stranger).await.unwrap()
}

const EVENTS: &str = "SELECT COUNT(*) FROM events";

#[tokio::test]
async fn another_process_gets_what_this_one_publishes() {
    let dir = tempfile::tempdir().unwrap();
    let refused = open_events(dir.path()).await.err().expect("there is no bus yet");
    assert!(matches!(refused, OpenError::Events { .. }) && refused.to_string().contains("start seckill"));
    assert!(!dir.path().join("events.db").exists());

    let backend = open(dir.path()).await;
    let beside = open_events(dir.path()).await.unwrap();
    let mut there = subscribe(beside.as_ref(), "there", "order.*", 10).await;
    let waiting = tokio::spawn(async move {
        let first = receive(&mut there).await.message.id;
        (first, there)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ids = publish(backend.events.as_ref(), &["order.paid", "refund.held", "order.cancelled"]).await;
    let (first, mut there) = waiting.await.unwrap();
    assert_eq!(first, ids[0]);
    let second = receive(&mut there).await;
    assert_eq!(second.message.id, ids[2], "what nobody wants is not kept");
    assert_eq!(rows(dir.path(), EVENTS).await, 2);
    there.ack(second.tag).await.unwrap();
    assert_eq!(rows(dir.path(), EVENTS).await, 1);

    // One name, a receiver in each process: what one has in hand the other does not get.
    let mut here = subscribe(backend.events.as_ref(), "there", "order.*", 10).await;
    assert!(nothing_comes(&mut here).await);
    let refused = backend.events.unsubscribe(&"there".parse().unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("somebody receives"), "{refused}");
    let more = publish(beside.as_ref(), &["order.paid", "order.paid"]).await;
    let mut shared = [receive(&mut here).await.message.id, receive(&mut there).await.message.id];
    shared.sort_unstable();
    assert_eq!(shared.to_vec(), more);
    drop((here, there));
    assert!(eventually_unsubscribed(backend.events.as_ref()).await);
    assert_eq!(rows(dir.path(), EVENTS).await, 0);
}

/// The receiver of the other handle goes with a task of its own.
async fn eventually_unsubscribed(bus: &dyn EventBus) -> bool {
    let name = "there".parse().unwrap();
    for _ in 0..200 {
        if let Ok(was_there) = bus.unsubscribe(&name).await {
            return was_there;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the receivers are still there");
}

#[tokio::test]
async fn what_a_dropped_receiver_had_comes_again_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let bus = backend.events.as_ref();
    publish(bus, &["order.paid"]).await;
    assert_eq!(rows(dir.path(), EVENTS).await, 0, "nobody wanted it");
    let mut first = subscribe(bus, "loyalty", "*", 3).await;
    let ids = publish(bus, &["order.paid"; 5]).await;
    for id in &ids[..3] {
        assert_eq!(receive(&mut first).await.message.id, *id);
    }
    assert!(nothing_comes(&mut first).await, "three are in hand");
    let name = "loyalty".parse().unwrap();
    drop(first);
    let mut second = subscribe(bus, "loyalty", "*", 10).await;
    for id in &ids {
        let delivery = receive(&mut second).await;
        assert_eq!(delivery.message.id, *id);
        if *id == ids[1] {
            second.park(delivery, "not this one").await.unwrap();
        } else {
            second.ack(delivery.tag).await.unwrap();
        }
    }
    let waiting = bus.waiting(&name).await.unwrap().unwrap();
    assert_eq!((waiting.events, waiting.parked), (0, 1));
    assert_eq!(rows(dir.path(), EVENTS).await, 1);
    assert_eq!(bus.redrive_parked(&name).await.unwrap(), 1);
    assert_eq!(receive(&mut second).await.message.id, ids[1]);
    drop(second);
    // Dropped in this process it is gone at once.
    assert!(bus.unsubscribe(&name).await.unwrap());
    assert!(!bus.unsubscribe(&name).await.unwrap());
    assert_eq!((bus.waiting(&name).await.unwrap(), rows(dir.path(), EVENTS).await), (None, 0));
}

#[test]
fn what_the_folders_last_holder_had_in_hand_comes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let ids = in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let mut subscription = subscribe(backend.events.as_ref(), "funnel", "*", 10).await;
        let ids = publish(backend.events.as_ref(), &["order.paid"; 2]).await;
        receive(&mut subscription).await;
        // It never comes to its end.
        std::mem::forget(subscription);
        ids
    });
    // The lock of a process that is killed goes with it; here the forgotten receiver keeps it.
    std::fs::remove_file(dir.path().join("lock")).unwrap();
    in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let mut subscription = subscribe(backend.events.as_ref(), "funnel", "*", 10).await;
        let patience = Duration::from_secs(5);
        for id in ids {
            let delivery = tokio::time::timeout(patience, subscription.next()).await.unwrap().unwrap();
            assert_eq!(delivery.message.id, id);
        }
    });
}

/// The test starts itself a second time, as the receiver that is to be killed.
#[tokio::test]
async fn what_a_killed_receiver_had_comes_once_its_lease_is_over() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        let bus = open_events(Path::new(&dir)).await.unwrap();
        let mut subscription = subscribe(bus.as_ref(), "mail", "*", 10).await;
        let _in_hand = receive(&mut subscription).await;
        std::fs::write(Path::new(&dir).join("received"), "").unwrap();
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let bus = backend.events.as_ref();
    drop(subscribe(bus, "mail", "*", 10).await);
    let ids = publish(bus, &["order.paid"]).await;
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "events::what_a_killed_receiver_had_comes_once_its_lease_is_over", "--nocapture"])
        .env(VICTIM, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let received = async {
        while !dir.path().join("received").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, received).await.expect("the other process gets it");
    victim.kill().unwrap();
    victim.wait().unwrap();
    let mut here = subscribe(bus, "mail", "*", 10).await;
    assert!(nothing_comes(&mut here).await, "nobody knows yet that it is dead");
    let mut stranger = connect(dir.path(), "events.db").await;
    sqlx::query("UPDATE receivers SET alive_until = 0 WHERE has_the_lock = 0")
        .execute(&mut stranger)
        .await
        .unwrap();
    assert_eq!(receive(&mut here).await.message.id, ids[0]);
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing_and_many_publishers_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let mut subscription = subscribe(backend.events.as_ref(), "all", "*", 5).await;
    let publishers: Vec<_> = (0..8)
        .map(|_| {
            let events = std::sync::Arc::clone(&backend.events);
            tokio::spawn(async move { publish(events.as_ref(), &["order.paid"; 20]).await })
        })
        .collect();
    let mut received = Vec::new();
    let mut patience = 0;
    while received.len() < 160 {
        patience = (patience + 37) % 900;
        let next = tokio::time::timeout(Duration::from_micros(patience), subscription.next()).await;
        if let Ok(delivery) = next {
            let EventDelivery { message, tag } = delivery.unwrap();
            received.push(message.id);
            subscription.ack(tag).await.unwrap();
        }
    }
    let mut sent = Vec::new();
    for publisher in publishers {
        sent.extend(publisher.await.unwrap());
    }
    sent.sort_unstable();
    received.sort_unstable();
    assert_eq!(received, sent);
    assert_eq!(rows(dir.path(), EVENTS).await, 0);
}
