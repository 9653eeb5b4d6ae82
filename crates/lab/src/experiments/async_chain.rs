//! A refund of several steps with crashes between them: all in the request, or each step a message that starts the next one.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use sqlx::{Any, AnyConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::{Message, Queue};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const REFUNDS: u64 = 60;
/// Refunds in which the process that works on them dies.
const CRASHES: usize = 15;
/// Of these, refunds whose buyer presses the button again.
const PRESSED_AGAIN: usize = 8;
/// The risk check first, and then a sum for each way in which the order was paid.
const STEPS: [&str; 4] = ["risk", "card", "balance", "coupon"];
const WORKERS: usize = 3;

const ABOUT: About = About {
    name: "async-chain",
    question: text(
        "A refund is a risk check and three sums that go back. May one request do all of it?",
        "一笔退款要先过风控，再退三笔款。能不能在一个请求里全部做完？",
    ),
    prediction: text(
        "A crash in the middle leaves half a refund; a buyer who tries again gets some sums twice. As a chain of messages, the step that crashed comes again, and the chain goes on behind it.",
        "中途崩溃会留下退了一半的款；买家再点一次，有的款会退两遍。改成消息链后，崩溃的那一步会重新投递，从那里继续。",
    ),
    without: text(
        "one function does all steps; after a crash the buyer begins from the start, or nobody does",
        "一个函数做完所有步骤；崩溃后由买家从头再来，或者没人管",
    ),
    with: text(
        "each step is a message; it writes its effect and its inbox key in one transaction, and sends the next step before it acknowledges",
        "每一步是一条消息：业务效果和 inbox 键写在同一事务里，发出下一步之后才确认",
    ),
    look_at: text(
        "Sums that went back: three for each refund, none twice",
        "退回的款项：每笔退款恰好三笔，没有一笔退两遍",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!(
        "crates/lifecycle/src/refund.rs",
        "transaction.add_event(&Event::new(ledger, told_of)).await?;"
    ),
};

pub(super) struct AsyncChain;

/// A process dies while it does a step of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Crash {
    refund: u64,
    step: usize,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum When {
    /// The step is begun, and nothing of it is in the database yet.
    Begun,
    /// The step is in the database, and nothing has come after it.
    Written,
}

#[async_trait]
impl Experiment for AsyncChain {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        place.table("lab_refunds", "id BIGINT NOT NULL PRIMARY KEY, checked BIGINT NOT NULL").await?;
        place.table("lab_sums", "refund BIGINT NOT NULL, way VARCHAR(20) NOT NULL").await?;
        let key = "refund BIGINT NOT NULL, step BIGINT NOT NULL, PRIMARY KEY (refund, step)";
        place.table("lab_inbox", key).await?;
        for refund in 0..REFUNDS.cast_signed() {
            let insert = sqlx::query("INSERT INTO lab_refunds (id, checked) VALUES (?, 0)");
            insert.bind(refund).execute(place.sql()).await?;
        }
        let mut crashes = Vec::with_capacity(CRASHES);
        for refund in dice.some(CRASHES, REFUNDS as usize) {
            // After the first step or later: before it, there is nothing that could be left half done.
            let step = 1 + dice.below(STEPS.len() as u64 - 1) as usize;
            let when = if dice.below(2) == 0 { When::Begun } else { When::Written };
            crashes.push(Crash { refund: refund as u64, step, when });
        }
        let pressed_again: HashSet<u64> =
            dice.some(PRESSED_AGAIN, CRASHES).into_iter().map(|at| crashes[at].refund).collect();
        let waited = match side {
            Side::Without => in_one_request(place, &crashes, &pressed_again).await?,
            Side::With => as_a_chain(place, crashes).await?,
        };
        let complete = place
            .count(
                "SELECT COUNT(*) FROM (SELECT refund FROM lab_sums GROUP BY refund \
                 HAVING COUNT(DISTINCT way) = 3) AS complete",
            )
            .await?;
        let sums =
            place.count("SELECT COUNT(*) FROM (SELECT DISTINCT refund, way FROM lab_sums) AS sums").await?;
        let twice = place
            .count(
                "SELECT COUNT(*) FROM (SELECT refund, way FROM lab_sums GROUP BY refund, way \
                 HAVING COUNT(*) > 1) AS twice",
            )
            .await?;
        let each = waited.as_secs_f64() * 1e3 / REFUNDS as f64;
        Ok(Findings::default()
            .exactly(text("refunds complete", "完成的退款"), REFUNDS, complete)
            .exactly(text("sums given back", "退回的款项"), 3 * REFUNDS, sums)
            .exactly(text("sums given back twice", "退了两遍的款项"), 0, twice)
            .measure(text("a buyer waits for the answer", "买家等待应答"), each, "ms"))
    }
}

/// What a step writes.
async fn write(connection: &mut AnyConnection, refund: u64, step: usize) -> Result<(), sqlx::Error> {
    let written = match STEPS[step] {
        "risk" => sqlx::query("UPDATE lab_refunds SET checked = 1 WHERE id = ?").bind(refund.cast_signed()),
        way => sqlx::query("INSERT INTO lab_sums (refund, way) VALUES (?, ?)")
            .bind(refund.cast_signed())
            .bind(way),
    };
    written.execute(connection).await.map(drop)
}

/// How long all buyers waited together.
async fn in_one_request(
    place: &Place,
    crashes: &[Crash],
    pressed_again: &HashSet<u64>,
) -> Result<Duration, Trouble> {
    let began = Instant::now();
    for refund in 0..REFUNDS {
        let crash = crashes.iter().find(|crash| crash.refund == refund);
        let finished = refund_in_one(place, refund, crash).await?;
        if !finished && pressed_again.contains(&refund) {
            refund_in_one(place, refund, None).await?;
        }
    }
    Ok(began.elapsed())
}

/// False: the process died.
async fn refund_in_one(place: &Place, refund: u64, crash: Option<&Crash>) -> Result<bool, Trouble> {
    for step in 0..STEPS.len() {
        let dies = |when| crash.is_some_and(|crash| crash.step == step && crash.when == when);
        if dies(When::Begun) {
            return Ok(false);
        }
        // A sum is a call of another system: there is no transaction around all of them.
        write(&mut *place.sql().acquire().await?, refund, step).await?;
        if dies(When::Written) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn as_a_chain(place: &Place, crashes: Vec<Crash>) -> Result<Duration, Trouble> {
    let queue = place.queue("async-chain").await?;
    let mut sender = queue.producer().await?;
    let began = Instant::now();
    for refund in 0..REFUNDS {
        // With the confirm, the buyer has the answer: the refund is on its way.
        sender.send_all(Uuid::now_v7(), &[refund, 0]).await?;
    }
    let waited = began.elapsed();
    let crashes = Mutex::new(crashes.into_iter().collect());
    try_join_all((0..WORKERS).map(|_| work(place, &queue, &crashes))).await?;
    Ok(waited)
}

/// One worker; where it dies, another one is started in its place.
async fn work(place: &Place, queue: &Queue, crashes: &Mutex<HashSet<Crash>>) -> Result<(), Trouble> {
    while let Life::Died = live(place, queue, crashes).await? {}
    Ok(())
}

enum Life {
    /// Nothing is left to do.
    Ended,
    /// What was in its hand, the queue gives to somebody else.
    Died,
}

async fn live(place: &Place, queue: &Queue, crashes: &Mutex<HashSet<Crash>>) -> Result<Life, Trouble> {
    let (mut consumer, mut sender) = (queue.consumer().await?, queue.producer().await?);
    while let Some(message) = consumer.next().await? {
        let (refund, step) = step_of(&message);
        // Each crash happens once.
        let dies = |when| {
            let mut crashes = crashes.lock().unwrap_or_else(PoisonError::into_inner);
            crashes.remove(&Crash { refund, step, when })
        };
        let mut transaction = place.sql().begin().await?;
        if is_new(&mut transaction, refund, step).await? {
            write(&mut transaction, refund, step).await?;
            if dies(When::Begun) {
                return Ok(Life::Died);
            }
            transaction.commit().await?;
            if dies(When::Written) {
                return Ok(Life::Died);
            }
        } else {
            // Given back to the pool without a transaction in it.
            transaction.rollback().await?;
        }
        // Also where the step was done before: whoever did it may have died right here.
        if step + 1 < STEPS.len() {
            sender.send_all(Uuid::now_v7(), &[refund, step as u64 + 1]).await?;
        }
        consumer.ack(message).await?;
    }
    Ok(Life::Ended)
}

fn step_of(message: &Message) -> (u64, usize) {
    (message.bodies[0], message.bodies[1] as usize)
}

/// Writes the key of a step into the inbox; false: it is there, so the step is done.
async fn is_new(
    transaction: &mut sqlx::Transaction<'_, Any>,
    refund: u64,
    step: usize,
) -> Result<bool, Trouble> {
    let written = sqlx::query("INSERT INTO lab_inbox (refund, step) VALUES (?, ?)")
        .bind(refund.cast_signed())
        .bind(step as i64)
        .execute(&mut **transaction)
        .await;
    Ok(effects::is_new(written)?)
}
