//! Everything that can be lost or crash on the way of a message, together, and three ways to live with it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::{Producer, Queue};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const MESSAGES: usize = 200;
/// Messages at whose first sending no confirm arrives. Every other one of them has not reached the broker.
const UNANSWERED: usize = 40;
/// Messages at which the consumer fails, in turn in each of the ways of [`Failure`].
const FAILURES: usize = 12;

const ABOUT: About = About {
    name: "at-least-once",
    question: text(
        "Can a queue deliver each message exactly once, while confirms and connections are lost and consumers crash?",
        "确认会丢、连接会断、消费者会崩溃：队列能做到每条消息恰好投递一次吗？",
    ),
    prediction: text(
        "Who does not send again loses messages, and who sends again doubles some. Sending again together with a unique key gives one effect for each.",
        "不重发就会丢消息，重发就会有重复。重发加唯一索引，每条消息恰好产生一次效果。",
    ),
    without: text(
        "half of the messages at most once (never sent again, acknowledged first), the other half at least once (sent again, acknowledged last), both without a key",
        "一半消息“至多一次”（不重发，先确认），另一半“至少一次”（重发，后确认），都没有唯一索引",
    ),
    with: text(
        "send until it is confirmed, acknowledge after the commit, and INSERT the message's id under a unique key",
        "重发直到收到确认，提交之后再确认消息，并把消息 id 插入唯一索引",
    ),
    look_at: text(
        "Messages lost and messages doubled: both must be 0",
        "丢失的消息数、重复执行的消息数：都必须为 0",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/events/src/relay.rs", "self.backend.outbox.mark_sent(&sent)"),
};

/// What a producer and a consumer do with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    AtMostOnce,
    AtLeastOnce,
}

impl Way {
    /// Without the safeguard every other message goes each way.
    fn of(side: Side, number: u64) -> Self {
        if side == Side::Without && number.is_multiple_of(2) { Self::AtMostOnce } else { Self::AtLeastOnce }
    }
}

/// How the consumer fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The process crashes between the commit and the acknowledgement, whichever of them comes first.
    CrashBetween,
    /// The process crashes in the middle of the transaction.
    CrashBeforeBoth,
    /// The message is done with, and the connection is lost with all that the consumer has in hand.
    LostConnection,
}

pub(super) struct AtLeastOnce;

#[async_trait]
impl Experiment for AtLeastOnce {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        effects::tables(place).await?;
        let queue = place.queue("at-least-once").await?;
        let mut producer = queue.producer().await?;
        let mut answers = Answers::new(dice);
        for number in 0..MESSAGES as u64 {
            send(&mut producer, Way::of(side, number), number, &mut answers).await?;
        }
        let hit = dice.some(FAILURES, MESSAGES).into_iter().map(|number| number as u64);
        let ways = [Failure::CrashBetween, Failure::CrashBeforeBoth, Failure::LostConnection];
        let mut failures = hit.zip(ways.into_iter().cycle()).collect();
        let mut deliveries = 0;
        while consume(place, side, &queue, &mut failures, &mut deliveries).await? == End::Failed {}
        found(place, deliveries).await
    }
}

/// What becomes of the first sending of certain messages.
struct Answers {
    lost_messages: BTreeSet<u64>,
    lost_confirms: BTreeSet<u64>,
}

impl Answers {
    fn new(dice: &mut Dice) -> Self {
        let unanswered = dice.some(UNANSWERED, MESSAGES).into_iter().map(|number| number as u64).enumerate();
        let (lost, arrived): (Vec<_>, Vec<_>) = unanswered.partition(|(position, _)| position % 2 == 0);
        let numbers = |hits: Vec<(usize, u64)>| hits.into_iter().map(|(_, number)| number).collect();
        Self { lost_messages: numbers(lost), lost_confirms: numbers(arrived) }
    }

    /// Sends a message once; whether its confirm arrives. Where not, the caller cannot tell whether the message has.
    async fn attempt(&mut self, producer: &mut Producer, id: Uuid, number: u64) -> Result<bool, Trouble> {
        if self.lost_messages.remove(&number) {
            return Ok(false);
        }
        producer.send(id, number).await?;
        Ok(!self.lost_confirms.remove(&number))
    }
}

async fn send(producer: &mut Producer, way: Way, number: u64, answers: &mut Answers) -> Result<(), Trouble> {
    let id = Uuid::now_v7();
    while !answers.attempt(producer, id, number).await? {
        if way == Way::AtMostOnce {
            break;
        }
    }
    Ok(())
}

/// How a connection of the consumer has ended.
#[derive(PartialEq, Eq)]
enum End {
    Failed,
    QueueIsEmpty,
}

/// One life of the consumer. It has no memory of an earlier one.
async fn consume(
    place: &Place,
    side: Side,
    queue: &Queue,
    failures: &mut BTreeMap<u64, Failure>,
    deliveries: &mut usize,
) -> Result<End, Trouble> {
    let mut consumer = queue.consumer().await?;
    while let Some(message) = consumer.next().await? {
        *deliveries += 1;
        let (way, failure) = (Way::of(side, message.body), failures.remove(&message.body));
        let effect = effects::write(place, side, message.id).await?;
        if failure == Some(Failure::CrashBeforeBoth) {
            return Ok(End::Failed);
        }
        if way == Way::AtMostOnce {
            consumer.ack(message).await?;
            if failure == Some(Failure::CrashBetween) {
                return Ok(End::Failed);
            }
            effects::commit(effect).await?;
            if failure.is_some() {
                return Ok(End::Failed);
            }
        } else {
            effects::commit(effect).await?;
            // Whether the process crashes here or the connection is lost with the acknowledgement: the broker gets none.
            if failure.is_some() {
                return Ok(End::Failed);
            }
            consumer.ack(message).await?;
        }
    }
    Ok(End::QueueIsEmpty)
}

async fn found(place: &Place, deliveries: usize) -> Result<Findings, Trouble> {
    let handled = place.count("SELECT COUNT(DISTINCT message) FROM lab_effects").await?;
    let doubled = place
        .count(
            "SELECT COUNT(*) FROM \
             (SELECT message FROM lab_effects GROUP BY message HAVING COUNT(*) > 1) AS doubled",
        )
        .await?;
    let effects = place.count("SELECT COUNT(*) FROM lab_effects").await?;
    let messages = MESSAGES as u64;
    Ok(Findings::default()
        .exactly(text("messages lost", "丢失的消息"), 0, messages.saturating_sub(handled))
        .exactly(text("messages doubled", "重复执行的消息"), 0, doubled)
        .exactly(text("effects", "业务效果"), messages, effects)
        .measure(text("deliveries", "投递次数"), deliveries as f64, ""))
}
