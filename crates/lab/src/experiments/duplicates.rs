//! The three who deliver a message a second time, each for a good reason: the producer, the broker, and a consumer that crashed. The
//! same unique key, written together with the effect, is the answer to all three.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_trait::async_trait;
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::{Producer, Queue};
use crate::experiment::{
    About, Dice, Experiment, Findings, Needs, Place, Side, Text, Trouble, safeguard, text,
};

const MESSAGES: usize = 200;
/// Messages whose first confirm is lost.
const LOST_CONFIRMS: usize = 40;
/// Messages at which the consumer's connection is lost.
const LOST_CONNECTIONS: usize = 8;
/// The consumer acknowledges so many messages at a time, as consumers do for speed.
const ACKNOWLEDGED_AT_ONCE: usize = 10;
/// Messages at which the consumer crashes. A third of them each: before the commit, after it, and after the acknowledgement.
const CRASHES: usize = 12;

const DELIVERIES: Text = text("deliveries", "投递次数");
const WITH: Text = text(
    "INSERT the message's id under a unique key in the transaction of the effect; if it is there, do nothing",
    "在业务事务里把消息 id 插入唯一索引；已存在就什么都不做",
);
const LOOK_AT: Text = text(
    "Effects against messages: every effect above the number of messages happened twice",
    "对比业务效果数与消息数：多出的每一次都是重复执行",
);

const OF_PRODUCER: About = About {
    name: "duplicates-producer",
    question: text(
        "A producer got no confirm and sends the message again. What does the consumer see?",
        "生产者没收到确认，于是重发。消费者会看到什么？",
    ),
    prediction: text(
        "The broker had the message already and only the confirm was lost, so it delivers two messages. A unique key makes one effect of them.",
        "Broker 其实已经收到，丢的只是确认，于是投递两条消息。唯一索引使它们只产生一次效果。",
    ),
    without: text("act on every delivery", "每次投递都执行业务"),
    with: WITH,
    look_at: LOOK_AT,
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/core/src/decide.rs", "if known.committed.contains(&claim.order_id)"),
};

const OF_BROKER: About = About {
    name: "duplicates-broker",
    question: text(
        "The connection is lost before the broker learns of the acknowledgements. What does it do with these messages?",
        "连接在 Broker 得知确认之前断开。这些消息会怎样？",
    ),
    prediction: text(
        "It delivers them again, since for the broker nobody has handled them. A unique key makes one effect of them.",
        "Broker 认为没人处理过，会重新投递。唯一索引使它们只产生一次效果。",
    ),
    without: text("act on every delivery", "每次投递都执行业务"),
    with: WITH,
    look_at: LOOK_AT,
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!(
        "crates/cluster/src/ledger/changes.rs",
        "INSERT INTO inbox (consumer, event_id) VALUES (?, ?)"
    ),
};

const OF_CONSUMER: About = About {
    name: "duplicates-consumer",
    question: text(
        "A consumer remembers in its memory what it has handled. Is that enough when the process crashes?",
        "消费者在内存里记住处理过的消息。进程崩溃后还够用吗？",
    ),
    prediction: text(
        "After a crash between the commit and the acknowledgement the message comes again, and the memory is empty. A unique key in the database is still there.",
        "在提交与确认之间崩溃后，消息会再来，而内存已经清空。数据库里的唯一索引还在。",
    ),
    without: text(
        "keep the ids of handled messages in the process's memory, and skip what is there",
        "把处理过的消息 id 记在进程内存里，查到就跳过",
    ),
    with: WITH,
    look_at: LOOK_AT,
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/events/src/inbox.rs", "transaction.first_time(consumer, event)"),
};

pub(super) struct OfProducer;

#[async_trait]
impl Experiment for OfProducer {
    fn about(&self) -> &'static About {
        &OF_PRODUCER
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        effects::tables(place).await?;
        let queue = place.queue("duplicates-producer").await?;
        let mut producer = queue.producer().await?;
        let mut lost = chosen(dice, LOST_CONFIRMS);
        for number in 0..MESSAGES as u64 {
            send_until_confirmed(&mut producer, number, &mut lost).await?;
        }
        let mut consumer = queue.consumer().await?;
        let mut deliveries = 0;
        while let Some(message) = consumer.next().await? {
            deliveries += 1;
            effects::act(place, side, message.id).await?;
            consumer.ack(message).await?;
        }
        found(place, deliveries).await
    }
}

/// The id is made before the first attempt, so all attempts have the same.
async fn send_until_confirmed(
    producer: &mut Producer,
    number: u64,
    lost: &mut BTreeSet<u64>,
) -> Result<(), Trouble> {
    let id = Uuid::now_v7();
    loop {
        producer.send(id, number).await?;
        // The broker has confirmed it, and that does not arrive: for the producer it is a time-out.
        let confirm_is_lost = lost.remove(&number);
        if !confirm_is_lost {
            return Ok(());
        }
    }
}

pub(super) struct OfBroker;

#[async_trait]
impl Experiment for OfBroker {
    fn about(&self) -> &'static About {
        &OF_BROKER
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        effects::tables(place).await?;
        let queue = place.queue("duplicates-broker").await?;
        send_all(&queue).await?;
        let mut lost = chosen(dice, LOST_CONNECTIONS);
        let mut consumer = queue.consumer().await?;
        let mut done = VecDeque::new();
        let mut deliveries = 0;
        while let Some(message) = consumer.next().await? {
            deliveries += 1;
            effects::act(place, side, message.id).await?;
            let connection_is_lost = lost.remove(&message.body);
            done.push_back(message);
            if connection_is_lost {
                // With the connection go the acknowledgements that were about to be sent. The process itself is well, and goes on.
                done.clear();
                drop(consumer);
                consumer = queue.consumer().await?;
            } else if done.len() == ACKNOWLEDGED_AT_ONCE {
                while let Some(message) = done.pop_front() {
                    consumer.ack(message).await?;
                }
            }
        }
        found(place, deliveries).await
    }
}

pub(super) struct OfConsumer;

#[async_trait]
impl Experiment for OfConsumer {
    fn about(&self) -> &'static About {
        &OF_CONSUMER
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        effects::tables(place).await?;
        let queue = place.queue("duplicates-consumer").await?;
        send_all(&queue).await?;
        let kinds = [Crash::BeforeCommit, Crash::BeforeAck, Crash::AfterAck];
        let mut crashes = chosen(dice, CRASHES).into_iter().zip(kinds.into_iter().cycle()).collect();
        let mut deliveries = 0;
        // Whoever watches over the process starts it again until it has come to the end of the queue.
        while process(place, side, &queue, &mut crashes, &mut deliveries).await? == End::Crashed {}
        found(place, deliveries).await
    }
}

/// Where in a message's life the consumer crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    BeforeCommit,
    BeforeAck,
    /// Between this message and the next one of those in hand.
    AfterAck,
}

/// How a process has ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Crashed,
    QueueIsEmpty,
}

/// One life of the consumer's process. A crash leaves everything as it is: what is dropped here is what the process had.
async fn process(
    place: &Place,
    side: Side,
    queue: &Queue,
    crashes: &mut BTreeMap<u64, Crash>,
    deliveries: &mut usize,
) -> Result<End, Trouble> {
    let mut remembered = BTreeSet::new();
    let mut consumer = queue.consumer().await?;
    while let Some(message) = consumer.next().await? {
        *deliveries += 1;
        let crash = crashes.remove(&message.body);
        // Without the safeguard this memory is all there is; with it, it is not asked.
        if side == Side::With || !remembered.contains(&message.id) {
            let effect = effects::write(place, side, message.id).await?;
            if crash == Some(Crash::BeforeCommit) {
                return Ok(End::Crashed);
            }
            effects::commit(effect).await?;
            remembered.insert(message.id);
        }
        if crash == Some(Crash::BeforeAck) {
            return Ok(End::Crashed);
        }
        consumer.ack(message).await?;
        if crash == Some(Crash::AfterAck) {
            return Ok(End::Crashed);
        }
    }
    Ok(End::QueueIsEmpty)
}

async fn send_all(queue: &Queue) -> Result<(), Trouble> {
    let mut producer = queue.producer().await?;
    for number in 0..MESSAGES as u64 {
        producer.send(Uuid::now_v7(), number).await?;
    }
    Ok(())
}

/// The messages that a fault hits. Whoever removes a number from it lets the fault happen once.
fn chosen(dice: &mut Dice, hits: usize) -> BTreeSet<u64> {
    dice.some(hits, MESSAGES).into_iter().map(|number| number as u64).collect()
}

async fn found(place: &Place, deliveries: usize) -> Result<Findings, Trouble> {
    Ok(effects::findings(place, MESSAGES).await?.measure(DELIVERIES, deliveries as f64, ""))
}
