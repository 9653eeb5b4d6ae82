//! A refund that several readers want to hear of: the sender calls them one after the other, or it publishes one event and each
//! reader has a queue of its own.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::Queue;
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const REFUNDS: u64 = 60;
/// Refunds for which one reader is down, one after the other.
const DOWN_FOR: u64 = 20;
/// The readers that the sender's code calls, in this order.
const READERS: [&str; 5] = ["points", SLOW, DOWN, "risk", "reports"];
/// Needs [`SLOWNESS`] for each refund.
const SLOW: &str = "mail";
const SLOWNESS: Duration = Duration::from_millis(20);
/// Is down for some of the refunds.
const DOWN: &str = "coupons";
/// Subscribes by itself. Nobody changes the sender for it.
const NEW: &str = "warehouse";
/// How often a reader that is down looks whether it may come back.
const LOOK: Duration = Duration::from_millis(20);

const ABOUT: About = About {
    name: "decoupling",
    question: text(
        "Five others want to know of each refund. May the sender call them one after the other?",
        "每笔退款有五个下游要知道。由发送方依次调用它们，行不行？",
    ),
    prediction: text(
        "The slow reader makes every refund slow, the reader that is down makes refunds fail, and the readers behind it hear nothing. With an event, each reader has its own queue and gets all of them.",
        "慢的下游拖慢每一笔退款；挂掉的下游让退款失败，排在它后面的也收不到。改发事件后，每个下游有自己的队列，一条不少。",
    ),
    without: text(
        "the sender calls each reader and waits; an error ends the loop, and the refund is answered as failed",
        "发送方依次调用每个下游并等待；出错就结束循环，退款应答为失败",
    ),
    with: text(
        "the sender publishes one event and waits for the confirm; each reader takes it from a queue of its own",
        "发送方只发一条事件并等待确认；每个下游从自己的队列消费",
    ),
    look_at: text(
        "What each reader has, and how many refunds the buyer was told had failed",
        "每个下游收到多少，以及多少笔退款被告知失败",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!(
        "crates/events/src/subscriber.rs",
        "backend.events.subscribe(&name, &patterns(subscriber), PREFETCH)"
    ),
};

pub(super) struct Decoupling;

#[async_trait]
impl Experiment for Decoupling {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        // What a reader has done for a refund. The key makes an event that comes again harmless.
        let columns = "reader VARCHAR(20) NOT NULL, refund BIGINT NOT NULL, PRIMARY KEY (reader, refund)";
        place.table("lab_effects", columns).await?;
        let first = dice.below(REFUNDS - DOWN_FOR);
        let down = first..first + DOWN_FOR;
        let (failed, sending) = match side {
            Side::Without => call_each(place, &down).await?,
            Side::With => publish(place, &down).await?,
        };
        let mut findings = Findings::default();
        for (what, sql) in [
            (text("points", "积分"), "SELECT COUNT(*) FROM lab_effects WHERE reader = 'points'"),
            (text("mail (slow)", "邮件（慢）"), "SELECT COUNT(*) FROM lab_effects WHERE reader = 'mail'"),
            (
                text("coupons (down for a time)", "优惠券（宕机一段时间）"),
                "SELECT COUNT(*) FROM lab_effects WHERE reader = 'coupons'",
            ),
            (text("risk", "风控"), "SELECT COUNT(*) FROM lab_effects WHERE reader = 'risk'"),
            (text("reports", "报表"), "SELECT COUNT(*) FROM lab_effects WHERE reader = 'reports'"),
            (
                text("warehouse (the sender does not know it)", "数据仓库（发送方不知道它）"),
                "SELECT COUNT(*) FROM lab_effects WHERE reader = 'warehouse'",
            ),
        ] {
            findings = findings.exactly(what, REFUNDS, place.count(sql).await?);
        }
        let each = sending.as_secs_f64() * 1e3 / REFUNDS as f64;
        Ok(findings.exactly(text("refunds answered as failed", "被告知失败的退款"), 0, failed).measure(
            text("time of the sender for a refund", "发送方处理一笔退款的时间"),
            each,
            "ms",
        ))
    }
}

/// A reader is down.
struct Down;

/// How many refunds were answered as failed, and how long all of them took.
async fn call_each(place: &Place, down: &Range<u64>) -> Result<(u64, Duration), Trouble> {
    let began = Instant::now();
    let mut failed = 0;
    for refund in 0..REFUNDS {
        for reader in READERS {
            if call(place, reader, refund, down).await?.is_err() {
                failed += 1;
                break;
            }
        }
    }
    Ok((failed, began.elapsed()))
}

async fn call(
    place: &Place,
    reader: &'static str,
    refund: u64,
    down: &Range<u64>,
) -> Result<Result<(), Down>, Trouble> {
    if reader == DOWN && down.contains(&refund) {
        return Ok(Err(Down));
    }
    take_in(place, reader, refund).await.map(Ok)
}

/// What each reader does.
async fn take_in(place: &Place, reader: &'static str, refund: u64) -> Result<(), Trouble> {
    if reader == SLOW {
        sleep(SLOWNESS).await;
    }
    let written = sqlx::query("INSERT INTO lab_effects (reader, refund) VALUES (?, ?)")
        .bind(reader)
        .bind(refund.cast_signed())
        .execute(place.sql())
        .await;
    // Where it is not new, it was taken in before.
    effects::is_new(written)?;
    Ok(())
}

async fn publish(place: &Place, down: &Range<u64>) -> Result<(u64, Duration), Trouble> {
    let readers: Vec<&'static str> = READERS.into_iter().chain([NEW]).collect();
    let queues = try_join_all(readers.iter().map(|reader| place.queue_of(reader, "decoupling"))).await?;
    // Whichever queue it is taken from: a sender knows the topic, and no reader.
    let mut sender = queues[0].producer().await?;
    let sent = AtomicBool::new(false);
    let sending = async {
        let began = Instant::now();
        let mut failed = 0;
        for refund in 0..REFUNDS {
            if sender.send(Uuid::now_v7(), refund).await.is_err() {
                failed += 1;
            }
        }
        sent.store(true, Ordering::Relaxed);
        Ok((failed, began.elapsed()))
    };
    let reading = readers.iter().zip(&queues).map(|(reader, queue)| read(place, reader, queue, down, &sent));
    let (told, _) = tokio::try_join!(sending, try_join_all(reading))?;
    Ok(told)
}

/// One reader, until all is sent and its queue is empty.
async fn read(
    place: &Place,
    reader: &'static str,
    queue: &Queue,
    down: &Range<u64>,
    sent: &AtomicBool,
) -> Result<(), Trouble> {
    let mut consumer = queue.consumer().await?;
    let mut was_down = reader != DOWN;
    loop {
        // Asked before the queue is: what was sent up to here is in it.
        let all_sent = sent.load(Ordering::Relaxed);
        let Some(message) = consumer.next().await? else {
            if all_sent {
                return Ok(());
            }
            continue;
        };
        if !was_down && down.contains(&message.body) {
            // It goes down with what it has in hand, and comes back when the sender is through.
            was_down = true;
            drop(consumer);
            while !sent.load(Ordering::Relaxed) {
                sleep(LOOK).await;
            }
            consumer = queue.consumer().await?;
            continue;
        }
        take_in(place, reader, message.body).await?;
        consumer.ack(message).await?;
    }
}
