//! A gateway that crashes between the deduction at the gate and the queue's confirm: with nobody who reads the gate's pending log,
//! and with a recoverer.

use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Claim, Decision, OrderId, Reserved, Sale, UserId, now};

use super::effects;
use crate::experiment::place::EPOCH;
use crate::experiment::queue::{Consumer, Producer};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const SALE: u64 = 1;
const STOCK: usize = 200;
const BUYERS: usize = 300;
/// Claims that a gateway puts to the gate in one call.
const BATCH: usize = 20;
/// Calls that take all of the stock.
const SELLING: usize = STOCK / BATCH;
/// Of these, calls after which the gateway crashes.
const CRASHES: usize = 4;
/// A gateway that has not settled by now is dead. In earnest it is longer than a publisher waits for a confirm.
const STRANDED: Duration = Duration::from_millis(100);
/// Entries of the pending log that are read in one call.
const LOOK: usize = 64;

const ABOUT: About = About {
    name: "gate-without-pending-log",
    question: text(
        "The gate has deducted the unit, and the gateway crashes before the order is in the queue. Where is the unit?",
        "库存闸门已经扣减，网关还没把订单发进队列就宕机了。这件商品去了哪里？",
    ),
    prediction: text(
        "It is deducted and nobody has ordered it: it is never sold. A log of deductions that is written in the same step gives it back its order.",
        "扣减了却没有订单，永远卖不出去。扣减时在同一步写下待发布日志，就能把订单补发出来。",
    ),
    without: text(
        "The gate deducts; nobody reads what a dead gateway has left in the pending log",
        "只扣减；宕机的网关留在待发布日志里的记录没有人读",
    ),
    with: text(
        "A recoverer reads old entries of the pending log, publishes their orders under their own ids, and settles them",
        "恢复任务读取待发布日志里的旧记录，用原订单 id 重新发布，再清除记录",
    ),
    look_at: text(
        "Units that the gate has deducted against orders in the database",
        "对比库存闸门扣减的数量与数据库里的订单数",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/gateway/src/recover.rs", "backend.gate.stranded(sale.id"),
};

pub(super) struct GateWithoutPendingLog;

#[async_trait]
impl Experiment for GateWithoutPendingLog {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        let sale = place.sale(SALE, u32::try_from(STOCK).unwrap_or(u32::MAX)).await?;
        place.table("lab_orders", "id CHAR(36) NOT NULL PRIMARY KEY, buyer BIGINT NOT NULL").await?;
        let queue = place.queue("gate-without-pending-log").await?;
        let crashes = dice.some(CRASHES, SELLING);

        let buyers: Vec<u64> = (1..=BUYERS as u64).collect();
        let mut published = 0;
        let mut producer = queue.producer().await?;
        for (number, batch) in buyers.chunks(BATCH).enumerate() {
            // How many orders of the batch the gateway can still publish.
            let crash = crashes.binary_search(&number).is_ok().then(|| dice.below(BATCH as u64) as usize);
            published += gateway(place, &sale, &mut producer, batch, crash).await?;
            if crash.is_some() {
                // Its connection is gone with it; the next gateway has one of its own.
                producer = queue.producer().await?;
            }
        }
        let mut recovered = 0;
        if side == Side::With {
            recovered = recover(place, &sale, &mut producer).await?;
        }
        take(place, &mut queue.consumer().await?, published + recovered).await?;

        let left = place.gate().level(sale.id).await?.map_or(0, |level| u64::from(level.remaining));
        let deducted = (STOCK as u64).saturating_sub(left);
        let orders = place.count("SELECT COUNT(*) FROM lab_orders").await?;
        let more = place.count("SELECT COUNT(*) - COUNT(DISTINCT buyer) FROM lab_orders").await?;
        Ok(Findings::default()
            .exactly(text("units deducted at the gate", "闸门扣减的数量"), STOCK as u64, deducted)
            .exactly(
                text("units deducted without an order", "扣减了却没有订单的数量"),
                0,
                deducted.saturating_sub(orders),
            )
            .exactly(text("orders", "订单"), STOCK as u64, orders)
            .exactly(text("second orders of a buyer", "同一买家的第二个订单"), 0, more)
            .measure(text("orders published by the recoverer", "恢复任务发布的订单"), recovered as f64, ""))
    }
}

/// Puts a batch to the gate and publishes the orders; with `crash` it is gone after so many of them. How many were published.
async fn gateway(
    place: &Place,
    sale: &Sale,
    producer: &mut Producer,
    batch: &[u64],
    crash: Option<usize>,
) -> Result<usize, Trouble> {
    let claims: Vec<Claim> = batch.iter().copied().map(claim).collect();
    let Reserved { decisions, reservation } = place.gate().reserve(sale.id, EPOCH, &[], &claims).await?;
    let reserved = claims.iter().zip(decisions).filter(|(_, decision)| *decision == Decision::Reserved);
    let reserved: Vec<&Claim> = reserved.map(|(claim, _)| claim).collect();
    let publishes = crash.unwrap_or(reserved.len());
    for claim in &reserved[..publishes] {
        producer.send(claim.order_id.0, claim.user_id.0).await?;
    }
    if let (None, Some(entry)) = (crash, reservation) {
        place.gate().settle(sale.id, &[entry]).await?;
    }
    Ok(publishes)
}

fn claim(buyer: u64) -> Claim {
    Claim { order_id: OrderId::generate(), user_id: UserId(buyer), quantity: 1, accepted_at: now() }
}

/// Publishes what dead gateways have left, also what they had published already; how many orders.
async fn recover(place: &Place, sale: &Sale, producer: &mut Producer) -> Result<usize, Trouble> {
    tokio::time::sleep(STRANDED * 2).await;
    let mut recovered = 0;
    loop {
        let stranded = place.gate().stranded(sale.id, STRANDED, LOOK).await?;
        if stranded.is_empty() {
            return Ok(recovered);
        }
        for reservation in stranded {
            for claim in &reservation.claims {
                producer.send(claim.order_id.0, claim.user_id.0).await?;
                recovered += 1;
            }
            place.gate().settle(sale.id, &[reservation.id]).await?;
        }
    }
}

/// Writes the orders that were published; one that comes again is there already.
async fn take(place: &Place, consumer: &mut Consumer, published: usize) -> Result<(), Trouble> {
    let mut taken = 0;
    while taken < published {
        let Some(message) = consumer.next().await? else { continue };
        let buyer = i64::try_from(message.body).unwrap_or(i64::MAX);
        let order = sqlx::query("INSERT INTO lab_orders (id, buyer) VALUES (?, ?)");
        // One that is not new came twice.
        effects::is_new(order.bind(message.id.to_string()).bind(buyer).execute(place.sql()).await)?;
        consumer.ack(message).await?;
        taken += 1;
    }
    Ok(())
}
