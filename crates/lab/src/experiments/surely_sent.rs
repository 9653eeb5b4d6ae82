//! An order in the database and a message in the queue that tells of it, when the process crashes between the two.

use std::collections::BTreeSet;

use async_trait::async_trait;
use uuid::Uuid;

use super::effects;
use crate::experiment::queue::{Producer, Queue};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const ORDERS: usize = 100;
/// Orders at which the process crashes between the database and the queue.
const CRASHES: usize = 20;
/// Orders at which the relay crashes after it has sent the message and before it has marked that.
const RELAY_CRASHES: usize = 10;
/// Messages that the relay takes at once.
const BATCH: i64 = 20;

const ABOUT: About = About {
    name: "surely-sent",
    question: text(
        "An order is written to the database and a message about it is sent. What if the process crashes between the two?",
        "订单写入数据库，同时要发一条消息。进程在两者之间崩溃会怎样？",
    ),
    prediction: text(
        "Sent after the commit, the message of some orders is never sent. Sent before it, some messages tell of orders that do not exist. A row in an outbox, in the order's transaction, is sent later, perhaps twice.",
        "提交之后发送：有的订单永远没有消息。提交之前发送：有的消息说的订单并不存在。把消息作为一行写进同一事务的 outbox，稍后一定会发出，可能发两次。",
    ),
    without: text(
        "half of the orders send after the commit, the other half before it",
        "一半订单在提交之后发送，另一半在提交之前发送",
    ),
    with: text(
        "write the message into an outbox table in the order's transaction; a relay sends it, then marks it as sent",
        "在订单事务里把消息写入 outbox 表；转发进程发送，然后标记为已发送",
    ),
    look_at: text(
        "Orders without a message and messages without an order: both must be 0",
        "没有消息的订单数、没有订单的消息数：都必须为 0",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/lifecycle/src/change.rs", "transaction.add_event(&event).await?"),
};

pub(super) struct SurelySent;

#[async_trait]
impl Experiment for SurelySent {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        effects::tables(place).await?;
        place.table("lab_orders", "id CHAR(36) NOT NULL PRIMARY KEY").await?;
        place
            .table(
                "lab_outbox",
                "id CHAR(36) NOT NULL PRIMARY KEY, body BIGINT NOT NULL, sent BIGINT NOT NULL",
            )
            .await?;
        let queue = place.queue("surely-sent").await?;
        let crashes = chosen(dice, CRASHES);
        let mut relay_crashes = chosen(dice, RELAY_CRASHES);

        let mut producer = queue.producer().await?;
        for number in 0..ORDERS as u64 {
            let (order, crash) = (Uuid::now_v7(), crashes.contains(&number));
            match side {
                Side::Without if sends_before(number) => {
                    send_before(place, &mut producer, order, number, crash).await?;
                }
                Side::Without => send_after(place, &mut producer, order, number, crash).await?,
                Side::With => write_both(place, order, number, crash).await?,
            }
        }
        while relay(place, &queue, &mut relay_crashes).await? == End::Crashed {}

        let deliveries = consume(place, &queue).await?;
        // Those that crash before their commit do not exist, on either side.
        let orders = ORDERS - crashes.iter().filter(|number| sends_before(**number)).count();
        found(place, orders as u64, deliveries).await
    }
}

/// Without the safeguard half of the orders send before the commit, the other half after it.
fn sends_before(number: u64) -> bool {
    !number.is_multiple_of(2)
}

/// First the order, then the message.
async fn send_after(
    place: &Place,
    producer: &mut Producer,
    order: Uuid,
    number: u64,
    crash: bool,
) -> Result<(), Trouble> {
    let insert = sqlx::query("INSERT INTO lab_orders (id) VALUES (?)").bind(order.to_string());
    insert.execute(place.sql()).await?;
    if crash {
        return Ok(());
    }
    Ok(producer.send(order, number).await?)
}

/// First the message, then the commit.
async fn send_before(
    place: &Place,
    producer: &mut Producer,
    order: Uuid,
    number: u64,
    crash: bool,
) -> Result<(), Trouble> {
    let mut transaction = place.sql().begin().await?;
    let insert = sqlx::query("INSERT INTO lab_orders (id) VALUES (?)").bind(order.to_string());
    insert.execute(&mut *transaction).await?;
    producer.send(order, number).await?;
    if crash {
        return Ok(());
    }
    Ok(transaction.commit().await?)
}

/// The order and its message are two rows of one transaction. The process crashes before the commit or after it, as on the other side.
async fn write_both(place: &Place, order: Uuid, number: u64, crash: bool) -> Result<(), Trouble> {
    let id = order.to_string();
    let mut transaction = place.sql().begin().await?;
    let insert = sqlx::query("INSERT INTO lab_orders (id) VALUES (?)").bind(&id);
    insert.execute(&mut *transaction).await?;
    let insert = sqlx::query("INSERT INTO lab_outbox (id, body, sent) VALUES (?, ?, 0)");
    insert.bind(&id).bind(number.cast_signed()).execute(&mut *transaction).await?;
    let crash_before_commit = crash && sends_before(number);
    if crash_before_commit {
        return Ok(());
    }
    // Where it crashes after the commit nothing was left to do: the relay looks into the table.
    Ok(transaction.commit().await?)
}

/// How a process has ended.
#[derive(PartialEq, Eq)]
enum End {
    Crashed,
    NothingLeft,
}

/// One life of the relay: takes rows that are not sent, sends each, and marks it. It may crash in between; the row is then sent again.
async fn relay(place: &Place, queue: &Queue, crashes: &mut BTreeSet<u64>) -> Result<End, Trouble> {
    let mut producer = queue.producer().await?;
    loop {
        let due: Vec<(String, i64)> =
            sqlx::query_as("SELECT id, body FROM lab_outbox WHERE sent = 0 ORDER BY id LIMIT ?")
                .bind(BATCH)
                .fetch_all(place.sql())
                .await?;
        if due.is_empty() {
            return Ok(End::NothingLeft);
        }
        for (id, body) in due {
            let order = id.parse().expect("it was written from a UUID");
            producer.send(order, body.cast_unsigned()).await?;
            if crashes.remove(&body.cast_unsigned()) {
                return Ok(End::Crashed);
            }
            let mark = sqlx::query("UPDATE lab_outbox SET sent = 1 WHERE id = ?").bind(id);
            mark.execute(place.sql()).await?;
        }
    }
}

/// The consumer has the unique key on both sides. Returns how many messages it got.
async fn consume(place: &Place, queue: &Queue) -> Result<usize, Trouble> {
    let (mut consumer, mut deliveries) = (queue.consumer().await?, 0);
    while let Some(message) = consumer.next().await? {
        deliveries += 1;
        effects::act(place, Side::With, message.id).await?;
        consumer.ack(message).await?;
    }
    Ok(deliveries)
}

fn chosen(dice: &mut Dice, hits: usize) -> BTreeSet<u64> {
    dice.some(hits, ORDERS).into_iter().map(|number| number as u64).collect()
}

async fn found(place: &Place, expected: u64, deliveries: usize) -> Result<Findings, Trouble> {
    let orders = place.count("SELECT COUNT(*) FROM lab_orders").await?;
    let untold = place
        .count("SELECT COUNT(*) FROM lab_orders WHERE id NOT IN (SELECT message FROM lab_effects)")
        .await?;
    let unfounded = place
        .count(
            "SELECT COUNT(DISTINCT message) FROM lab_effects WHERE message NOT IN (SELECT id FROM lab_orders)",
        )
        .await?;
    let effects =
        place.count("SELECT COUNT(*) FROM lab_effects WHERE message IN (SELECT id FROM lab_orders)").await?;
    Ok(Findings::default()
        .exactly(text("orders", "订单"), expected, orders)
        .exactly(text("orders without a message", "没有消息的订单"), 0, untold)
        .exactly(text("messages without an order", "没有订单的消息"), 0, unfounded)
        .exactly(text("effects for orders", "订单的业务效果"), expected, effects)
        .measure(text("deliveries", "投递次数"), deliveries as f64, ""))
}
