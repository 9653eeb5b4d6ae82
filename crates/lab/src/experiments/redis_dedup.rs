//! Keys with a time-out in Redis that say which messages were handled, against a unique key in the database of the effect.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis;
use deadpool_redis::redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::{Consumer, Producer, Queue};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

/// Messages of each of the two groups.
const GROUP: usize = 60;
/// Of the first group: the consumer crashes while it handles the message.
const CRASHES: usize = 3;
/// Of the first group: messages of which a copy comes when the key has run out.
const LATE: usize = 15;
/// Of the second group: messages of which a copy comes at once. A key in Redis is good enough for these.
const AT_ONCE: usize = 15;
/// Of the second group: messages of which a copy comes after Redis was started again.
const AFTER_RESTART: usize = 15;
/// How long a key lives. In earnest it would be days.
const TTL: Duration = Duration::from_secs(1);
const TTL_MS: u64 = TTL.as_millis() as u64;
/// So that Redis, too, has noticed that a key has run out.
const MARGIN: Duration = Duration::from_millis(100);
/// Keys that are written to see how much memory they take.
const MEASURED: usize = 20_000;
/// If nobody can remove the keys that were measured, they go by themselves.
const MEASURED_TTL_MS: u64 = 60_000;
/// Keys in one call.
const CHUNK: usize = 1_000;

const ABOUT: About = About {
    name: "redis-dedup",
    question: text(
        "Is a key in Redis with a time-out enough to recognize a message that was handled already?",
        "用 Redis 带过期时间的键去重，能保证消息不重复处理吗？",
    ),
    prediction: text(
        "Copies that come after the key has run out, or after Redis has lost it, act again. After a crash between the key and the effect, the effect is lost.",
        "键过期之后、或 Redis 丢键之后到达的重复消息会再次执行；写键与执行业务之间宕机，业务效果丢失。",
    ),
    without: text(
        "SET key NX PX in Redis, and then the effect in the database",
        "先在 Redis 执行 SET key NX PX，再到数据库执行业务",
    ),
    with: text(
        "INSERT the message's id under a unique key in the transaction of the effect",
        "在业务事务里把消息 id 插入唯一索引",
    ),
    look_at: text(
        "Missing effects and repeated effects: both are there without the safeguard, each for a reason of its own",
        "看缺失与重复的业务效果：没有防护时两种都有，原因各不相同",
    ),
    needs: Needs::Servers,
    columns: None,
    safeguard: safeguard!("crates/events/src/inbox.rs", "transaction.first_time(consumer, event)"),
};

pub(super) struct RedisDedup;

#[async_trait]
impl Experiment for RedisDedup {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        let mut redis = place.redis().await?;
        let ids: Vec<Uuid> = (0..2 * GROUP).map(|_| Uuid::now_v7()).collect();
        let found = messages(place, &mut redis, side, dice, &ids).await;
        // Also when it could not be run to its end.
        let removed = remove(&mut redis, &ids).await;
        let findings = found?;
        removed?;
        let memory = match side {
            Side::Without => memory(&mut redis).await?,
            Side::With => 0.0,
        };
        Ok(findings.measure(
            text("memory in Redis for a million keys", "一百万个键占用的 Redis 内存"),
            memory,
            "MB",
        ))
    }
}

async fn messages(
    place: &Place,
    redis: &mut MultiplexedConnection,
    side: Side,
    dice: &mut Dice,
    ids: &[Uuid],
) -> Result<Findings, Trouble> {
    let inbox = match side {
        Side::Without => "message CHAR(36) NOT NULL",
        Side::With => "message CHAR(36) NOT NULL PRIMARY KEY",
    };
    place.table("lab_inbox", inbox).await?;
    place.table("lab_effects", "message CHAR(36) NOT NULL, number BIGINT NOT NULL").await?;
    let queue = place.queue("redis-dedup").await?;
    let mut producer = queue.producer().await?;
    // No message has both: a late copy would bring back the effect that the crash has lost.
    let hit = dice.some(CRASHES + LATE, GROUP);
    let crashes: Vec<usize> = hit.iter().copied().step_by((CRASHES + LATE) / CRASHES).collect();
    let late: Vec<usize> = hit.into_iter().filter(|number| !crashes.contains(number)).collect();
    let after_restart: Vec<usize> = dice.some(AFTER_RESTART, GROUP).iter().map(|n| n + GROUP).collect();
    let mut second: Vec<usize> = (GROUP..2 * GROUP).collect();
    second.extend(dice.some(AT_ONCE, GROUP).iter().map(|number| number + GROUP));
    second.sort_unstable();

    let consumer = queue.consumer().await?;
    let mut handling = Handling { place, redis, side, queue: &queue, consumer, crashes };
    let first: Vec<usize> = (0..GROUP).collect();
    send(&mut producer, ids, &first).await?;
    handling.take(first.len()).await?;
    let run_out = Instant::now() + TTL + MARGIN;

    send(&mut producer, ids, &second).await?;
    handling.take(second.len()).await?;
    // What a restart without persistence does, to this experiment's keys only.
    remove(handling.redis, &ids[GROUP..]).await?;
    send(&mut producer, ids, &after_restart).await?;
    handling.take(after_restart.len()).await?;

    sleep_until(run_out).await;
    send(&mut producer, ids, &late).await?;
    handling.take(late.len()).await?;

    let handled = place.count("SELECT COUNT(DISTINCT message) FROM lab_effects").await?;
    let again_late =
        place.count("SELECT COUNT(*) - COUNT(DISTINCT message) FROM lab_effects WHERE number < 60").await?;
    let again_lost =
        place.count("SELECT COUNT(*) - COUNT(DISTINCT message) FROM lab_effects WHERE number >= 60").await?;
    Ok(Findings::default()
        .exactly(
            text("messages without an effect", "没有产生业务效果的消息"),
            0,
            (ids.len() as u64).saturating_sub(handled),
        )
        .exactly(text("effects again, the key had run out", "键过期后重复的业务效果"), 0, again_late)
        .exactly(text("effects again, Redis had lost the key", "Redis 丢键后重复的业务效果"), 0, again_lost))
}

async fn send(producer: &mut Producer, ids: &[Uuid], numbers: &[usize]) -> Result<(), Trouble> {
    for number in numbers {
        producer.send(ids[*number], *number as u64).await?;
    }
    Ok(())
}

/// A consumer of the queue.
struct Handling<'a> {
    place: &'a Place,
    redis: &'a mut MultiplexedConnection,
    side: Side,
    queue: &'a Queue,
    consumer: Consumer,
    /// Messages at which it has yet to crash.
    crashes: Vec<usize>,
}

impl Handling<'_> {
    /// Takes messages from the queue until it has acknowledged so many.
    async fn take(&mut self, messages: usize) -> Result<(), Trouble> {
        let mut taken = 0;
        while taken < messages {
            let Some(message) = self.consumer.next().await? else { continue };
            let number = message.body as usize;
            let crash = self.crashes.iter().position(|crash| *crash == number);
            let acted = match self.side {
                Side::Without => self.act_after_key(message.id, number, crash.is_some()).await?,
                Side::With => self.act_once(message.id, number, crash.is_some()).await?,
            };
            if acted == Acted::Crashed {
                // The consumer is gone with what it had in hand, and the queue delivers that again.
                self.crashes.retain(|crash| *crash != number);
                self.consumer = self.queue.consumer().await?;
                continue;
            }
            self.consumer.ack(message).await?;
            taken += 1;
        }
        Ok(())
    }

    async fn act_after_key(&mut self, id: Uuid, number: usize, crash: bool) -> Result<Acted, Trouble> {
        if !set(self.redis, id).await? {
            return Ok(Acted::Before);
        }
        if crash {
            return Ok(Acted::Crashed);
        }
        effect(id, number).execute(self.place.sql()).await?;
        Ok(Acted::Now)
    }

    async fn act_once(&mut self, id: Uuid, number: usize, crash: bool) -> Result<Acted, Trouble> {
        let mut transaction = self.place.sql().begin().await?;
        let inbox = sqlx::query("INSERT INTO lab_inbox (message) VALUES (?)").bind(id.to_string());
        if !effects::is_new(inbox.execute(&mut *transaction).await)? {
            return Ok(Acted::Before);
        }
        if crash {
            // The transaction is dropped, and its row of the inbox with it.
            return Ok(Acted::Crashed);
        }
        effect(id, number).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Acted::Now)
    }
}

/// What a consumer has done with a message.
#[derive(PartialEq, Eq)]
enum Acted {
    Now,
    /// It was known.
    Before,
    /// It has crashed between the record of the message and its effect.
    Crashed,
}

type AnyQuery = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

fn effect(id: Uuid, number: usize) -> AnyQuery {
    sqlx::query("INSERT INTO lab_effects (message, number) VALUES (?, ?)")
        .bind(id.to_string())
        .bind(i64::try_from(number).unwrap_or(i64::MAX))
}

fn key(id: Uuid) -> String {
    format!("seckill:lab:redis-dedup:{id}")
}

/// Writes the message's key; false: it was there.
async fn set(redis: &mut MultiplexedConnection, id: Uuid) -> Result<bool, Trouble> {
    let mut command = redis::cmd("SET");
    let answer: Option<String> =
        command.arg(key(id)).arg(1).arg("NX").arg("PX").arg(TTL_MS).query_async(redis).await?;
    Ok(answer.is_some())
}

async fn remove(redis: &mut MultiplexedConnection, ids: &[Uuid]) -> Result<(), Trouble> {
    for ids in ids.chunks(CHUNK) {
        let keys: Vec<String> = ids.iter().map(|id| key(*id)).collect();
        redis::cmd("UNLINK").arg(keys).exec_async(redis).await?;
    }
    Ok(())
}

/// Megabytes that a million of these keys take, by what some of them take.
async fn memory(redis: &mut MultiplexedConnection) -> Result<f64, Trouble> {
    let ids: Vec<Uuid> = (0..MEASURED).map(|_| Uuid::now_v7()).collect();
    let grown = grown(redis, &ids).await;
    let removed = remove(redis, &ids).await;
    let bytes = grown?;
    removed?;
    Ok(bytes / MEASURED as f64)
}

async fn grown(redis: &mut MultiplexedConnection, ids: &[Uuid]) -> Result<f64, Trouble> {
    let before = used_memory(redis).await?;
    for ids in ids.chunks(CHUNK) {
        let mut calls = redis::pipe();
        for id in ids {
            calls.cmd("SET").arg(key(*id)).arg(1).arg("PX").arg(MEASURED_TTL_MS).ignore();
        }
        calls.exec_async(redis).await?;
    }
    Ok((used_memory(redis).await? - before).max(0.0))
}

async fn used_memory(redis: &mut MultiplexedConnection) -> Result<f64, Trouble> {
    let info: redis::InfoDict = redis::cmd("INFO").arg("memory").query_async(redis).await?;
    Ok(info.get("used_memory").unwrap_or_default())
}
