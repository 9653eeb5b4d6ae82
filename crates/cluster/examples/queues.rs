//! Measures the queue on RabbitMQ and on Redis Streams, in turn, and prints a Markdown table. Give it servers of its own:
//!
//! ```text
//! cargo run --release -p seckill-cluster --example queues -- amqp://guest:guest@127.0.0.1:5672/%2f redis://127.0.0.1:6379/0
//! ```
//!
//! What a confirm means, and with that what it costs, is a matter of the servers' settings: publish the numbers with `appendfsync`.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seckill_cluster::{ClusterConfig, QueueKind};
use seckill_core::{Delivery, LedgerId, MAX_BATCH_ORDERS, OrderQueue, SaleId};
use seckill_testkit::fixtures::batch;
use tokio::task::JoinSet;
use uuid::Uuid;

const ROUNDS: usize = 3;
const PUBLISHERS: [usize; 2] = [1, 8];
/// Publishing ends after this long, or with this many batches, whichever comes first.
const PUBLISHING: Duration = Duration::from_secs(5);
const MOST_BATCHES: usize = 2_000;
const CONSUMERS: usize = 2;
const PREFETCH: u16 = 256;
/// The end-to-end times are taken at this rate, which no queue is busy at.
const EVERY: Duration = Duration::from_millis(20);
const PACED: usize = 200;
/// For a queue whose confirms take longer than that, they end after this long.
const PACING: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let mut urls = std::env::args().skip(1);
    let (Some(amqp), Some(redis)) = (urls.next(), urls.next()) else {
        eprintln!("usage: queues AMQP_URL REDIS_URL");
        std::process::exit(2);
    };
    println!(
        "| round | queue | publishers | published, batches/s | publish p50 | p99 | consumed, batches/s | end to end p50 | p99 |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for round in 1..=ROUNDS {
        for publishers in PUBLISHERS {
            for (name, kind) in
                [("RabbitMQ", QueueKind::RabbitMq), ("Redis Streams", QueueKind::RedisStreams)]
            {
                let queue = connect(&amqp, &redis, kind);
                drain(&queue).await;
                let (published, rate, times) = publish(&queue, publishers).await;
                let consumed = consume(&queue, published).await;
                let end_to_end = end_to_end(&queue).await;
                let [p50, p99] = [0.5, 0.99].map(|part| millis(&times, part));
                let [e50, e99] = [0.5, 0.99].map(|part| millis(&end_to_end, part));
                println!(
                    "| {round} | {name} | {publishers} | {rate:.0} | {p50} | {p99} | {consumed:.0} | {e50} | {e99} |"
                );
            }
        }
    }
}

/// A queue for a ledger that does not exist; nothing here asks it.
fn connect(amqp: &str, redis: &str, queue: QueueKind) -> Arc<dyn OrderQueue> {
    let config = ClusterConfig {
        redis_url: redis.to_owned(),
        amqp_url: amqp.to_owned(),
        mysql_url: "mysql://127.0.0.1:1/none".to_owned(),
        redis_pool_size: 16,
        gate_durable: false,
        queue,
        queue_redis_url: None,
    };
    seckill_cluster::connect_queue(&config, LedgerId(Uuid::from_u128(7))).unwrap()
}

/// Removes what an earlier run has left.
async fn drain(queue: &Arc<dyn OrderQueue>) {
    let mut consumer = queue.consumer(PREFETCH).await.unwrap();
    while let Ok(delivery) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
        consumer.ack(delivery.unwrap().tag).await.unwrap();
    }
}

/// As many batches as there is time for, each publisher one after another; their number, batches a second, and how long each took.
async fn publish(queue: &Arc<dyn OrderQueue>, publishers: usize) -> (usize, f64, Vec<Duration>) {
    let begin = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..publishers {
        let queue = Arc::clone(queue);
        lanes.spawn(async move {
            let mut publisher = queue.publisher().await.unwrap();
            let mut times = Vec::new();
            while begin.elapsed() < PUBLISHING && times.len() < MOST_BATCHES / publishers {
                let batch = batch(SaleId(1), 0..MAX_BATCH_ORDERS as u64);
                let sent = Instant::now();
                publisher.publish(&batch).await.unwrap();
                times.push(sent.elapsed());
            }
            times
        });
    }
    let times: Vec<Duration> = lanes.join_all().await.into_iter().flatten().collect();
    (times.len(), times.len() as f64 / begin.elapsed().as_secs_f64(), times)
}

/// Takes and acknowledges so many batches; batches a second.
async fn consume(queue: &Arc<dyn OrderQueue>, batches: usize) -> f64 {
    let begin = Instant::now();
    let (left, _) = tokio::sync::watch::channel(batches);
    let mut consumers = JoinSet::new();
    for _ in 0..CONSUMERS {
        let (queue, left) = (Arc::clone(queue), left.clone());
        consumers.spawn(async move {
            let mut consumer = queue.consumer(PREFETCH).await.unwrap();
            let mut seen = left.subscribe();
            loop {
                let delivery = tokio::select! {
                    delivery = consumer.next() => delivery.unwrap(),
                    _ = seen.wait_for(|left| *left == 0) => return,
                };
                consumer.ack(delivery.tag).await.unwrap();
                left.send_modify(|left| *left -= 1);
            }
        });
    }
    consumers.join_all().await;
    batches as f64 / begin.elapsed().as_secs_f64()
}

/// How long each of some batches took from the call that publishes it to the consumer, at a rate that keeps the queue empty.
async fn end_to_end(queue: &Arc<dyn OrderQueue>) -> Vec<Duration> {
    let sent: Arc<Mutex<HashMap<Uuid, Instant>>> = Arc::default();
    let mut consumer = queue.consumer(PREFETCH).await.unwrap();
    let (all, mut total) = tokio::sync::watch::channel(None);
    let publishing = {
        let (queue, sent) = (Arc::clone(queue), Arc::clone(&sent));
        async move {
            let mut publisher = queue.publisher().await.unwrap();
            let mut due = tokio::time::interval(EVERY);
            let begin = Instant::now();
            let mut batches = 0;
            while batches < PACED && begin.elapsed() < PACING {
                due.tick().await;
                let batch = batch(SaleId(1), 0..MAX_BATCH_ORDERS as u64);
                sent.lock().unwrap().insert(batch.batch_id, Instant::now());
                publisher.publish(&batch).await.unwrap();
                batches += 1;
            }
            all.send_replace(Some(batches));
        }
    };
    let consuming = async {
        let mut times = Vec::new();
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery,
                _ = total.wait_for(|total| *total == Some(times.len())) => return times,
            };
            let Delivery { batch, tag } = delivery.unwrap();
            times.push(sent.lock().unwrap()[&batch.batch_id].elapsed());
            consumer.ack(tag).await.unwrap();
        }
    };
    tokio::join!(publishing, consuming).1
}

fn millis(times: &[Duration], part: f64) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = ((times.len() - 1) as f64 * part).round() as usize;
    format!("{:.1} ms", times[at].as_secs_f64() * 1_000.0)
}
