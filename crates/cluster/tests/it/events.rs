//! The event bus on RabbitMQ: subscribers that change what they want, ledgers that share a broker, and a broker that dies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, ExchangeKind};
use seckill_cluster::{EventsOf, connect_events};
use seckill_core::{
    EventBus, EventMessage, EventPattern, Fault, LedgerId, SubscriberName, Subscription, Waiting,
};
use seckill_testkit::{PrivateRabbit, eventually};
use tokio::time::timeout;
use uuid::Uuid;

use crate::setup::{LEDGER, SOON};

const PREFETCH: u16 = 100;

async fn bus(url: &str) -> Arc<dyn EventBus> {
    connect_events(url, EventsOf::Ledger(LEDGER)).await.unwrap()
}

fn name(text: &str) -> SubscriberName {
    text.parse().unwrap()
}

fn patterns(texts: &[&str]) -> Vec<EventPattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn subscribe(bus: &dyn EventBus, to: &str, wanted: &[&str]) -> Box<dyn Subscription> {
    bus.subscribe(&name(to), &patterns(wanted), PREFETCH).await.unwrap()
}

fn message(kind: &str) -> EventMessage {
    let id = Uuid::now_v7();
    EventMessage { id, kind: kind.to_owned(), text: format!(r#"{{"id":"{id}","type":"{kind}"}}"#) }
}

async fn publish(bus: &dyn EventBus, kind: &str) -> Uuid {
    let message = message(kind);
    eventually(SOON, async || bus.publisher().await?.publish(&message).await).await;
    message.id
}

async fn take(subscription: &mut dyn Subscription) -> EventMessage {
    let next = timeout(SOON, subscription.next()).await;
    let delivery = next.expect("an event waits, and none came").unwrap();
    subscription.ack(delivery.tag).await.unwrap();
    delivery.message
}

#[tokio::test]
async fn no_event_is_lost_while_processes_change_what_a_name_wants() {
    let rabbit = seckill_testkit::rabbit().await;
    let [publishing, one, two] = [bus(&rabbit.url).await, bus(&rabbit.url).await, bus(&rabbit.url).await];
    drop(subscribe(&*one, "reader", &["order.paid"]).await);
    // All of these want the orders that are paid.
    let lists: [&[&str]; 4] = [&["order.*"], &["*"], &["order.paid", "refund.*"], &["*.paid"]];
    let change = async |bus: &dyn EventBus, from: usize| {
        for round in 0..6 {
            drop(subscribe(bus, "reader", lists[(from + round) % lists.len()]).await);
        }
    };
    let mut sent = BTreeSet::new();
    let publish_all = async {
        let mut publisher = publishing.publisher().await.unwrap();
        for _ in 0..400 {
            let paid = message("order.paid");
            publisher.publish(&paid).await.unwrap();
            sent.insert(paid.id);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(publish_all, change(&*one, 0), change(&*two, 2));
    let mut reader = subscribe(&*one, "reader", &["order.paid"]).await;
    let mut came = Vec::new();
    while came.len() < sent.len() {
        came.push(take(&mut *reader).await.id);
    }
    came.sort_unstable();
    assert_eq!(came, sent.into_iter().collect::<Vec<_>>());
    // The patterns before are all gone.
    publish(&*publishing, "order.cancelled").await;
    let last = publish(&*publishing, "order.paid").await;
    assert_eq!(take(&mut *reader).await.id, last);

    // Nothing is left but the exchange of the subscriber.
    let connection = Connection::connect(&rabbit.url, ConnectionProperties::default()).await.unwrap();
    for (end, exists) in [("", true), (".new", false)] {
        let channel = connection.create_channel().await.unwrap();
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let exchange = format!("seckill.events.reader.{LEDGER}{end}");
        let found = channel
            .exchange_declare(exchange.into(), ExchangeKind::Fanout, options, FieldTable::default())
            .await;
        assert_eq!(found.is_ok(), exists, "{end:?}");
    }
}

#[tokio::test]
async fn ledgers_that_share_a_broker_do_not_see_each_others_events() {
    let rabbit = seckill_testkit::rabbit().await;
    let other = LedgerId(Uuid::from_u128(8));
    let ours = bus(&rabbit.url).await;
    let theirs = connect_events(&rabbit.url, EventsOf::Ledger(other)).await.unwrap();
    let mut our_reader = subscribe(&*ours, "reader", &["*"]).await;
    let mut their_reader = subscribe(&*theirs, "reader", &["*"]).await;
    let (our_event, their_event) =
        (publish(&*ours, "order.paid").await, publish(&*theirs, "order.paid").await);
    assert_eq!(take(&mut *our_reader).await.id, our_event);
    assert_eq!(take(&mut *their_reader).await.id, their_event);
    drop(their_reader);
    eventually(SOON, async || theirs.unsubscribe(&name("reader")).await).await;
    assert_eq!(ours.waiting(&name("reader")).await.unwrap(), Some(Waiting::default()));
}

#[tokio::test]
async fn the_ledgers_id_is_read_from_its_database() {
    let (rabbit, mysql) = (seckill_testkit::rabbit().await, seckill_testkit::mysql().await);
    let fault = connect_events(&rabbit.url, EventsOf::Database(&mysql.url)).await.err().unwrap();
    assert!(fault.to_string().contains("run `seckill migrate`"), "{fault}");
    let ledger = crate::setup::ledger(&mysql).await;
    let by_url = connect_events(&rabbit.url, EventsOf::Database(&mysql.url)).await.unwrap();
    let by_id = connect_events(&rabbit.url, EventsOf::Ledger(ledger.id().await.unwrap())).await.unwrap();
    let mut reader = subscribe(&*by_url, "reader", &["*"]).await;
    let sent = publish(&*by_id, "order.paid").await;
    assert_eq!(take(&mut *reader).await.id, sent);
}

#[tokio::test]
async fn a_name_that_is_in_use_is_not_unsubscribed() {
    let rabbit = seckill_testkit::rabbit().await;
    let bus = bus(&rabbit.url).await;
    let mut reader = subscribe(&*bus, "reader", &["*"]).await;
    let fault = bus.unsubscribe(&name("reader")).await.unwrap_err();
    assert!(fault.to_string().contains("somebody receives under the name reader"), "{fault}");
    let sent = publish(&*bus, "order.paid").await;
    assert_eq!(take(&mut *reader).await.id, sent);
}

#[tokio::test]
async fn what_is_no_event_is_parked_and_holds_up_nobody() {
    let rabbit = seckill_testkit::rabbit().await;
    let bus = bus(&rabbit.url).await;
    let mut reader = subscribe(&*bus, "reader", &["order.*"]).await;
    let connection = Connection::connect(&rabbit.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let foreign = message("order.paid");
    for body in [b"no json".as_slice(), b"\xff", b"{}", foreign.text.as_bytes()] {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let key = format!("{LEDGER}.order.paid");
        let sent =
            channel.basic_publish("seckill.events".into(), key.into(), options, body, properties).await;
        assert!(sent.unwrap().await.unwrap().is_ack());
    }
    // An event of another program, which says what it is in its text alone.
    assert_eq!(take(&mut *reader).await, foreign);
    let parked = Some(Waiting { events: 0, parked: 3 });
    eventually(SOON, async || match bus.waiting(&name("reader")).await.unwrap() {
        waiting if waiting == parked => Ok(()),
        waiting => Err(waiting),
    })
    .await;
}

#[tokio::test]
async fn a_killed_broker_loses_neither_events_nor_subscribers() {
    let rabbit = PrivateRabbit::start().await;
    let bus = bus(&rabbit.url()).await;
    let mut reader = subscribe(&*bus, "reader", &["order.*"]).await;
    let mut publisher = bus.publisher().await.unwrap();
    let before = message("order.paid");
    publisher.publish(&before).await.unwrap();

    rabbit.kill().await;
    let fault = loop {
        // The event may have been delivered before.
        match reader.next().await {
            Ok(_) => {}
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    assert!(fault.to_string().contains("event bus"), "{fault}");
    eventually(SOON, async || match publisher.publish(&message("order.paid")).await {
        Err(Fault::Unavailable { .. }) => Ok(()),
        other => Err(other),
    })
    .await;
    assert!(bus.publisher().await.is_err());

    rabbit.start_again().await;
    let mut wanted = BTreeSet::from([before.id]);
    wanted.insert(publish(&*bus, "order.paid").await);
    let mut reader =
        eventually(SOON, async || bus.subscribe(&name("reader"), &patterns(&["*"]), PREFETCH).await).await;
    while !wanted.is_empty() {
        wanted.remove(&take(&mut *reader).await.id);
    }
}
