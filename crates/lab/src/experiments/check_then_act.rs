//! Consumers that look whether a message is new and then act, against a unique key that decides.

use async_trait::async_trait;
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::Consumer;
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const MESSAGES: usize = 200;
/// Of these, messages that are sent twice, one copy right after the other.
const DOUBLED: usize = 60;
/// So that both copies of a message are in work at once.
const CONSUMERS: usize = 4;

const ABOUT: About = About {
    name: "check-then-act",
    question: text(
        "A message may come twice. Is it enough to look whether it was handled before handling it?",
        "消息可能重复到达。先查一下处理过没有，再处理，够不够？",
    ),
    prediction: text(
        "Two consumers look at the same moment, both find nothing, and both act: more effects than messages. A unique key lets one win.",
        "两个消费者同时查询，都没查到，于是都执行：业务效果多于消息数。唯一索引只让一个成功。",
    ),
    without: text(
        "SELECT whether the message is known; if not, act and INSERT it",
        "先 SELECT 消息是否处理过，没有就执行业务并 INSERT",
    ),
    with: text(
        "INSERT the message's id under a unique key in the transaction of the effect; if it is there, do nothing",
        "在业务事务里把消息 id 插入唯一索引；已存在就什么都不做",
    ),
    look_at: text(
        "Effects against messages: every effect above the number of messages is a buyer charged twice",
        "对比业务效果数与消息数：每多一次，就有一位买家被重复扣款",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/events/src/inbox.rs", "transaction.first_time(consumer, event)"),
};

pub(super) struct CheckThenAct;

#[async_trait]
impl Experiment for CheckThenAct {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        // Without the safeguard nothing but the look keeps a message from being handled twice.
        let inbox = match side {
            Side::Without => "message CHAR(36) NOT NULL",
            Side::With => "message CHAR(36) NOT NULL PRIMARY KEY",
        };
        place.table("lab_inbox", inbox).await?;
        place.table("lab_effects", "message CHAR(36) NOT NULL").await?;
        let queue = place.queue("check-then-act").await?;
        let mut producer = queue.producer().await?;
        let doubled = dice.some(DOUBLED, MESSAGES);
        for number in 0..MESSAGES {
            let id = Uuid::now_v7();
            producer.send(id, number as u64).await?;
            if doubled.binary_search(&number).is_ok() {
                producer.send(id, number as u64).await?;
            }
        }
        let mut consumers = Vec::with_capacity(CONSUMERS);
        for _ in 0..CONSUMERS {
            // One message in hand at a time, so that the two copies of a message are with two consumers.
            consumers.push(consume(place, queue.consumer_of(1).await?, side));
        }
        let deliveries: u64 = futures_util::future::try_join_all(consumers).await?.into_iter().sum();
        let effects = place.count("SELECT COUNT(*) FROM lab_effects").await?;
        let handled = place.count("SELECT COUNT(DISTINCT message) FROM lab_effects").await?;
        Ok(Findings::default()
            .exactly(text("messages handled", "处理到的消息"), MESSAGES as u64, handled)
            .exactly(text("effects", "业务效果"), MESSAGES as u64, effects)
            .measure(text("deliveries", "投递次数"), deliveries as f64, ""))
    }
}

/// Takes messages until there are none; how many came.
async fn consume(place: &Place, mut consumer: Consumer, side: Side) -> Result<u64, Trouble> {
    let mut deliveries = 0;
    while let Some(message) = consumer.next().await? {
        let id = message.id.to_string();
        match side {
            Side::Without => {
                let known = sqlx::query("SELECT 1 FROM lab_inbox WHERE message = ?").bind(&id);
                if known.fetch_optional(place.sql()).await?.is_none() {
                    act(place, &id).await?;
                }
            }
            // Both in one transaction, and the key first: of two at once, the second one waits for it and then finds it taken.
            Side::With => effects::act(place, side, message.id).await?,
        }
        consumer.ack(message).await?;
        deliveries += 1;
    }
    Ok(deliveries)
}

/// The effect, and then the record that it has happened.
async fn act(place: &Place, id: &str) -> Result<(), Trouble> {
    for sql in ["INSERT INTO lab_effects (message) VALUES (?)", "INSERT INTO lab_inbox (message) VALUES (?)"]
    {
        sqlx::query(sql).bind(id).execute(place.sql()).await?;
    }
    Ok(())
}
