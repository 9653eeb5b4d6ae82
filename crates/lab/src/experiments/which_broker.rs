//! The same messages over a quorum queue of RabbitMQ and over a stream of Redis, side by side. There is no safeguard to take away: both
//! have to bring every message, and the measures say what each costs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use seckill_core::{Claim, Delivery, OrderBatch, OrderId, OrderQueue, Publisher, SaleId, UserId, now};
use uuid::Uuid;

use crate::experiment::place::EPOCH;
use crate::experiment::queue::{Consumer, IDLE, Message, Producer, Queue};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const PUBLISHERS: u64 = 4;
/// Messages of each publisher, at the most: a broker whose confirms take a second sends fewer.
const MESSAGES: u64 = 150;
const PUBLISHING: Duration = Duration::from_secs(3);
/// Orders in a message, as a lane of a gateway sends them under some load.
const ORDERS: u64 = 16;
/// Messages that the first consumer has in hand when it is dropped.
const IN_HAND: u16 = 20;

const ABOUT: About = About {
    name: "which-broker",
    question: text(
        "RabbitMQ or Redis Streams: which one should hold the orders?",
        "订单放在 RabbitMQ 还是 Redis Streams？",
    ),
    prediction: text(
        "Both bring every message, also those that a consumer had in hand when it died. What a confirm costs depends on when the server \
         writes to its disk.",
        "两者都能送达每条消息，包括消费者挂掉时手里的那些。一次确认的代价取决于服务器何时刷盘。",
    ),
    without: text(
        "a quorum queue: a confirm means that a majority of the nodes has the message on disk",
        "仲裁队列：确认表示多数节点已落盘",
    ),
    with: text(
        "a stream: XADD, and WAITAOF where the server has an append-only file, so that a confirm means that it is on disk",
        "stream：XADD，服务器开启 AOF 时再加 WAITAOF，确认表示已落盘",
    ),
    look_at: text(
        "Confirms a second and the time of one confirm; and whether anything is missing",
        "每秒确认数、单次确认耗时，以及有没有丢失",
    ),
    needs: Needs::Servers,
    columns: Some([text("RabbitMQ", "RabbitMQ"), text("Redis Streams", "Redis Streams")]),
    safeguard: safeguard!("crates/core/src/ports/queue.rs", "pub trait OrderQueue"),
};

pub(super) struct WhichBroker;

#[async_trait]
impl Experiment for WhichBroker {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, _: &mut Dice) -> Result<Findings, Trouble> {
        let broker = match side {
            Side::Without => Broker::Rabbit(place.queue("which-broker").await?),
            Side::With => Broker::Streams(place.streams().await?),
        };
        let began = Instant::now();
        let sending = (0..PUBLISHERS).map(|_| async { send(broker.sender().await?, began).await });
        let sent: Vec<(Uuid, Duration)> = try_join_all(sending).await?.into_iter().flatten().collect();
        let published = sent.len() as f64 / began.elapsed().as_secs_f64();
        let mut times: Vec<Duration> = sent.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();

        // A consumer dies with messages in hand.
        let mut receiver = broker.receiver(IN_HAND).await?;
        let mut in_hand = Vec::new();
        while in_hand.len() < usize::from(IN_HAND).min(sent.len() / 2)
            && let Some(message) = receiver.next().await?
        {
            in_hand.push(message);
        }
        let held: HashSet<Uuid> = in_hand.iter().map(Received::id).collect();
        drop((receiver, in_hand));

        let (dropped, mut again) = (Instant::now(), None);
        let mut receiver = broker.receiver(50).await?;
        let opened = Instant::now();
        let (mut ids, mut deliveries, mut last) = (HashSet::new(), 0, opened);
        while let Some(message) = receiver.next().await? {
            if held.contains(&message.id()) {
                again.get_or_insert_with(|| dropped.elapsed());
            }
            deliveries += 1;
            ids.insert(message.id());
            receiver.ack(message).await?;
            last = Instant::now();
        }
        let missing = sent.iter().filter(|(id, _)| !ids.contains(id)).count();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
        let again = again.unwrap_or_default().as_secs_f64() * 1_000.0;
        let taken = f64::from(deliveries) / (last - opened).as_secs_f64();
        Ok(Findings::default()
            .exactly(text("confirmed messages that never came", "已确认却没送达的消息"), 0, missing as u64)
            .exactly(
                text("messages that nobody sent", "没人发过的消息"),
                0,
                (ids.len() + missing - sent.len()) as u64,
            )
            .measure(text("messages confirmed", "已确认的消息"), sent.len() as f64, "")
            .measure(text("confirms a second, four publishers", "每秒确认数（四个生产者）"), published, "/s")
            .measure(text("one confirm, p50", "单次确认 p50"), at(0.5), "ms")
            .measure(text("one confirm, p99", "单次确认 p99"), at(0.99), "ms")
            .measure(text("taken and acknowledged a second", "每秒消费并确认"), taken, "/s")
            .measure(
                text(
                    "from a dead consumer to the next one, with its subscribing",
                    "消费者挂掉到重新投递（含重新订阅）",
                ),
                again,
                "ms",
            ))
    }
}

/// As many messages as there is time for, one after the other; what each took until its confirm.
async fn send(mut sender: Sender, began: Instant) -> Result<Vec<(Uuid, Duration)>, Trouble> {
    let mut sent = Vec::new();
    while (sent.len() as u64) < MESSAGES && began.elapsed() < PUBLISHING {
        let begin = Instant::now();
        let id = sender.send().await?;
        sent.push((id, begin.elapsed()));
    }
    Ok(sent)
}

enum Broker {
    Rabbit(Queue),
    Streams(Arc<dyn OrderQueue>),
}

impl Broker {
    async fn sender(&self) -> Result<Sender, Trouble> {
        Ok(match self {
            Self::Rabbit(queue) => Sender::Rabbit(queue.producer().await?),
            Self::Streams(queue) => Sender::Streams(queue.publisher().await?),
        })
    }

    async fn receiver(&self, prefetch: u16) -> Result<Receiver, Trouble> {
        Ok(match self {
            Self::Rabbit(queue) => Receiver::Rabbit(queue.consumer_of(prefetch).await?),
            Self::Streams(queue) => Receiver::Streams(queue.consumer(prefetch).await?),
        })
    }
}

enum Sender {
    Rabbit(Producer),
    Streams(Box<dyn Publisher>),
}

impl Sender {
    /// Sends the message of a batch of orders under an id of its own.
    async fn send(&mut self) -> Result<Uuid, Trouble> {
        let claim = |user| Claim {
            order_id: OrderId::generate(),
            user_id: UserId(user),
            quantity: 1,
            accepted_at: now(),
        };
        let batch = OrderBatch::new(SaleId(1), EPOCH, (0..ORDERS).map(claim).collect());
        match self {
            Self::Rabbit(producer) => {
                // As long as the batch is on the other side.
                let numbers = vec![u64::MAX; ORDERS as usize * 7];
                producer.send_all(batch.batch_id, &numbers).await?;
            }
            Self::Streams(publisher) => publisher.publish(&batch).await?,
        }
        Ok(batch.batch_id)
    }
}

enum Receiver {
    Rabbit(Consumer),
    Streams(Box<dyn seckill_core::Consumer>),
}

enum Received {
    Rabbit(Message),
    Streams(Delivery),
}

impl Received {
    fn id(&self) -> Uuid {
        match self {
            Self::Rabbit(message) => message.id,
            Self::Streams(delivery) => delivery.batch.batch_id,
        }
    }
}

impl Receiver {
    /// The next message; `None`: the queue is empty.
    async fn next(&mut self) -> Result<Option<Received>, Trouble> {
        Ok(match self {
            Self::Rabbit(consumer) => consumer.next().await?.map(Received::Rabbit),
            Self::Streams(consumer) => match tokio::time::timeout(IDLE, consumer.next()).await {
                Ok(delivery) => Some(Received::Streams(delivery?)),
                Err(_) => None,
            },
        })
    }

    async fn ack(&mut self, received: Received) -> Result<(), Trouble> {
        match (self, received) {
            (Self::Rabbit(consumer), Received::Rabbit(message)) => consumer.ack(message).await?,
            (Self::Streams(consumer), Received::Streams(delivery)) => consumer.ack(delivery.tag).await?,
            _ => unreachable!("a receiver acknowledges what it has received"),
        }
        Ok(())
    }
}
