//! Consumers that crash between the acknowledgement and the commit, in the two orders of these steps.

use std::collections::BTreeSet;

use async_trait::async_trait;
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::Queue;
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const MESSAGES: usize = 200;
/// Messages at which the consumer crashes between the two steps.
const CRASHES: usize = 12;

const ABOUT: About = About {
    name: "early-ack",
    question: text(
        "Should a consumer acknowledge a message before the commit or after it?",
        "消费者应该在提交之前确认消息，还是在提交之后？",
    ),
    prediction: text(
        "Acknowledged before, a message is gone when the consumer crashes before the commit. Acknowledged after, it comes again, and a unique key makes one effect of it.",
        "先确认：提交之前一旦崩溃，消息就丢了。后确认：消息会再来，唯一索引使它只产生一次效果。",
    ),
    without: text("acknowledge, then commit", "先确认，再提交"),
    with: text(
        "commit, with the message's id under a unique key, then acknowledge",
        "先提交（消息 id 有唯一索引），再确认",
    ),
    look_at: text(
        "Messages handled against messages sent: what is missing was lost without an error in any log",
        "对比处理到的消息数与发送数：少掉的就是丢失的，任何日志里都没有错误",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/worker/src/drain.rs", "self.acknowledge(count).await?"),
};

pub(super) struct EarlyAck;

#[async_trait]
impl Experiment for EarlyAck {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        effects::tables(place).await?;
        let queue = place.queue("early-ack").await?;
        let mut producer = queue.producer().await?;
        for number in 0..MESSAGES as u64 {
            producer.send(Uuid::now_v7(), number).await?;
        }
        let mut crashes: BTreeSet<u64> =
            dice.some(CRASHES, MESSAGES).into_iter().map(|number| number as u64).collect();
        let mut starts = 1;
        while process(place, side, &queue, &mut crashes).await? == End::Crashed {
            starts += 1;
        }
        let findings = effects::findings(place, MESSAGES).await?;
        Ok(findings.measure(text("starts of the consumer", "消费者启动次数"), f64::from(starts), ""))
    }
}

/// How a process has ended.
#[derive(PartialEq, Eq)]
enum End {
    Crashed,
    QueueIsEmpty,
}

/// One life of the consumer's process. In a crash it drops its transaction, and its connection to the broker.
async fn process(
    place: &Place,
    side: Side,
    queue: &Queue,
    crashes: &mut BTreeSet<u64>,
) -> Result<End, Trouble> {
    let mut consumer = queue.consumer().await?;
    while let Some(message) = consumer.next().await? {
        let crash = crashes.remove(&message.body);
        let effect = effects::write(place, side, message.id).await?;
        match side {
            Side::Without => {
                consumer.ack(message).await?;
                if crash {
                    return Ok(End::Crashed);
                }
                effects::commit(effect).await?;
            }
            Side::With => {
                effects::commit(effect).await?;
                if crash {
                    return Ok(End::Crashed);
                }
                consumer.ack(message).await?;
            }
        }
    }
    Ok(End::QueueIsEmpty)
}
