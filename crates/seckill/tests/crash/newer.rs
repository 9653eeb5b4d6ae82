//! Messages of a newer version among those of this one, as during an update.

use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use seckill_testkit::eventually;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, GATEWAY, HEALED, QUEUE, turn};
use crate::buyers::Buyers;
use crate::check::{check, sell_out};
use crate::process::Urls;

pub(crate) const NEWER: &str = "seckill.orders.newer";
const STOCK: u32 = 100;
const PAUSE: Duration = Duration::from_millis(3);

/// A rebuild takes 13 s; one that is not left to a newer worker is done by then.
const LONGER_THAN_A_REBUILD: Duration = Duration::from_secs(25);

pub(crate) async fn channel(urls: &Urls) -> (Connection, Channel) {
    let connection = Connection::connect(&urls.amqp, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// Messages that wait in a queue and that nobody has taken.
pub(crate) async fn messages(channel: &Channel, queue: &'static str) -> u32 {
    let options = QueueDeclareOptions::default().passive();
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count()
}

/// Takes every message of version `from` out of one queue and puts it into another one with version `to`; how many there were.
pub(crate) async fn rewrite(
    channel: &Channel,
    (queue, from): (&'static str, u32),
    (target, to): (&'static str, u32),
) -> u32 {
    let [from, to] = [from, to].map(|version| format!(r#""version":{version}"#));
    let mut messages = 0;
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
        let body = String::from_utf8(message.delivery.data.clone()).unwrap();
        if !body.contains(&from) {
            // What was put back behind them has come round.
            break;
        }
        let properties = BasicProperties::default().with_delivery_mode(2);
        let body = body.replace(&from, &to);
        let options = BasicPublishOptions::default();
        let sent =
            channel.basic_publish(target.into(), target.into(), options, body.as_bytes(), properties).await;
        assert!(sent.unwrap().await.unwrap().is_ack());
        message.delivery.ack(BasicAckOptions::default()).await.unwrap();
        messages += 1;
    }
    messages
}

/// Orders that were answered with 202 are in messages that this worker cannot read, and then Redis is lost. A rebuild without
/// them would sell their units again. So the worker waits for a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn gate_is_not_rebuilt_without_the_orders_of_newer_messages() {
    let _turn = turn("gate_is_not_rebuilt_without_the_orders_of_newer_messages").await;
    let bed = Bed::start().await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=50, PAUSE).await.unwrap();
    let (connection, channel) = channel(&bed.urls).await;
    let written = rewrite(&channel, (QUEUE, 3), (QUEUE, 4)).await;
    assert!(written > 0);
    // What it has in hand unread goes back.
    connection.close(200, "done".into()).await.unwrap();
    let mut worker = bed.urls.worker(&[]).await;
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    eventually(HEALED, async || match backend.queue.parked_depth().await.unwrap() {
        depth if depth.newer >= u64::from(written) => Ok(()),
        depth => Err(depth),
    })
    .await;

    bed.cluster.flush_redis().await;
    let path = format!("/api/v1/sales/{sale}");
    eventually(HEALED, async || match gateway.get(&path).await {
        (_, shown) if shown["state"] == "rebuilding" => Ok(()),
        other => Err(other),
    })
    .await;
    let end = Instant::now() + LONGER_THAN_A_REBUILD;
    while Instant::now() < end {
        let (_, shown) = gateway.get(&path).await;
        assert_eq!(shown["state"], "rebuilding", "{shown}\n{}", worker.log());
        sleep(Duration::from_millis(500)).await;
    }
    let log = worker.log();
    assert!(log.contains("a rebuild is left to other workers") && log.contains("newer version"), "{log}");

    // As a newer worker would read them, before it rebuilds. The old worker does not get in its way.
    worker.kill().await;
    let (_connection, channel) = self::channel(&bed.urls).await;
    assert_eq!(rewrite(&channel, (NEWER, 4), (QUEUE, 3)).await, written);
    let _worker = bed.urls.worker(&[]).await;
    buyers.retry_all().await;
    sell_out(&buyers, 51).await;
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}
