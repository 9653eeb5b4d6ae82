//! A call to a bank that has timed out: taken for a failure, against asked about under the same key.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use sqlx::AnyPool;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::effects;
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const BUYERS: usize = 80;
const STOCK: u64 = 40;
/// Buyers whose first call to the bank times out.
const TIME_OUTS: usize = 40;
/// Buyers who, told that the payment has failed, pay again. The others walk away.
const PAY_AGAIN: usize = 40;
/// Buyers who pay at the same time.
const AT_ONCE: usize = 8;
/// How long a caller waits for the bank.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a call takes that goes wrong.
const SLOW: Duration = Duration::from_millis(150);

const ABOUT: About = About {
    name: "timeout-is-unknown",
    question: text(
        "The call to the bank has timed out. May the order be treated as not paid?",
        "调用银行超时了，可以当作支付失败处理吗？",
    ),
    prediction: text(
        "Some of these calls have charged the buyer, or will. Treated as failures they leave buyers charged without an order, and charged twice.",
        "其中一些调用已经扣款，或稍后才扣款。当作失败处理，就会有买家被扣款却没有订单，也会有买家被扣两次。",
    ),
    without: text(
        "A time-out is a failure: the unit is sold to somebody else, or the buyer pays again under a new key",
        "超时当作失败：库存还回去再卖，或买家用新的幂等键重新支付",
    ),
    with: text(
        "A time-out is unknown: look the charge up by its key; if the bank has none, charge again under the same key",
        "超时当作结果未知：先按原来的键查询；银行没有记录，就用同一个键再次扣款",
    ),
    look_at: text(
        "Charges at the bank against orders that are paid, and buyers who were charged against the stock",
        "对比银行的扣款与已支付的订单，再对比被扣款的买家数与库存",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/lifecycle/src/pay.rs", "key: payment.charge,"),
};

pub(super) struct TimeoutIsUnknown;

#[async_trait]
impl Experiment for TimeoutIsUnknown {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        place.table("lab_stock", "units BIGINT NOT NULL").await?;
        place.table("lab_orders", "buyer BIGINT NOT NULL PRIMARY KEY, status CHAR(6) NOT NULL").await?;
        // The bank's.
        place.table("lab_charges", "charge CHAR(36) NOT NULL PRIMARY KEY, buyer BIGINT NOT NULL").await?;
        let stock = i64::try_from(STOCK).unwrap_or(i64::MAX);
        sqlx::query("INSERT INTO lab_stock (units) VALUES (?)").bind(stock).execute(place.sql()).await?;

        let mut ways = [Way::Answered; BUYERS];
        for buyer in dice.some(TIME_OUTS, BUYERS) {
            ways[buyer] = match dice.below(4) {
                0 | 1 => Way::Charged,
                2 => Way::Late,
                _ => Way::Lost,
            };
        }
        let pay_again = dice.some(PAY_AGAIN, BUYERS);
        let bank = Bank { sql: place.sql().clone(), calls: Mutex::default() };
        let buyers = (0..BUYERS).map(|buyer| {
            let again = pay_again.binary_search(&buyer).is_ok();
            buy(place, &bank, side, buyer, ways[buyer], again)
        });
        stream::iter(buyers).buffered(AT_ONCE).try_collect::<()>().await?;
        bank.end().await?;

        let unpaid = "SELECT COUNT(*) FROM lab_charges c JOIN lab_orders o ON o.buyer = c.buyer WHERE o.status <> 'paid'";
        let unpaid = place.count(unpaid).await?;
        let twice = place.count("SELECT COUNT(*) - COUNT(DISTINCT buyer) FROM lab_charges").await?;
        let charged = place.count("SELECT COUNT(DISTINCT buyer) FROM lab_charges").await?;
        let paid = place.count("SELECT COUNT(*) FROM lab_orders WHERE status = 'paid'").await?;
        Ok(Findings::default()
            .exactly(text("charges without a paid order", "扣了款却没有已支付订单的扣款"), 0, unpaid)
            .exactly(text("charges that repeat another", "重复的扣款"), 0, twice)
            .exactly(text("buyers who were charged", "被扣款的买家"), STOCK, charged)
            .exactly(text("orders that are paid", "已支付的订单"), STOCK, paid))
    }
}

/// How a call to the bank goes.
#[derive(Clone, Copy)]
enum Way {
    Answered,
    /// The bank charges, and its answer comes too late.
    Charged,
    /// The bank charges when nobody waits any more.
    Late,
    /// The bank never gets the request.
    Lost,
}

/// A bank: a call is a task of its own, which does not end when the caller has stopped waiting.
struct Bank {
    sql: AnyPool,
    calls: Mutex<JoinSet<Result<(), sqlx::Error>>>,
}

impl Bank {
    /// Charges the buyer once under this key. `None`: no answer in time.
    async fn charge(&self, charge: Uuid, buyer: usize, way: Way) -> Result<Option<()>, Trouble> {
        let (answer, waiting) = tokio::sync::oneshot::channel();
        let sql = self.sql.clone();
        self.calls.lock().await.spawn(async move {
            match way {
                Way::Answered => write(&sql, charge, buyer).await?,
                Way::Charged => {
                    write(&sql, charge, buyer).await?;
                    sleep(SLOW).await;
                }
                Way::Late => {
                    sleep(SLOW).await;
                    write(&sql, charge, buyer).await?;
                }
                Way::Lost => sleep(SLOW).await,
            }
            // The caller may have stopped waiting.
            let _ = answer.send(());
            Ok(())
        });
        match timeout(PATIENCE, waiting).await {
            Ok(Ok(())) => Ok(Some(())),
            // The bank's table failed; the end of the run says why.
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    async fn knows(&self, charge: Uuid) -> Result<bool, Trouble> {
        let known = sqlx::query("SELECT 1 FROM lab_charges WHERE charge = ?").bind(charge.to_string());
        Ok(known.fetch_optional(&self.sql).await?.is_some())
    }

    /// Waits for every call, also for those that nobody waits for any more.
    async fn end(&self) -> Result<(), Trouble> {
        while let Some(call) = self.calls.lock().await.join_next().await {
            call.expect("a call to the bank does not panic")?;
        }
        Ok(())
    }
}

/// The bank knows a key: the same one charges once.
async fn write(sql: &AnyPool, charge: Uuid, buyer: usize) -> Result<(), sqlx::Error> {
    let row = sqlx::query("INSERT INTO lab_charges (charge, buyer) VALUES (?, ?)");
    effects::is_new(row.bind(charge.to_string()).bind(number(buyer)).execute(sql).await).map(drop)
}

/// From the unit to the payment.
async fn buy(
    place: &Place,
    bank: &Bank,
    side: Side,
    buyer: usize,
    way: Way,
    pay_again: bool,
) -> Result<(), Trouble> {
    let unit = sqlx::query("UPDATE lab_stock SET units = units - 1 WHERE units > 0");
    if unit.execute(place.sql()).await?.rows_affected() == 0 {
        return Ok(());
    }
    let order = sqlx::query("INSERT INTO lab_orders (buyer, status) VALUES (?, 'open')").bind(number(buyer));
    order.execute(place.sql()).await?;
    let charge = Uuid::now_v7();
    let mut answer = bank.charge(charge, buyer, way).await?;
    match side {
        Side::Without if answer.is_none() && pay_again => {
            answer = bank.charge(Uuid::now_v7(), buyer, Way::Answered).await?;
        }
        Side::Without => {}
        Side::With => {
            while answer.is_none() && !bank.knows(charge).await? {
                answer = bank.charge(charge, buyer, Way::Answered).await?;
            }
            answer = Some(());
        }
    }
    let status = if answer.is_some() { "paid" } else { "failed" };
    let order = sqlx::query("UPDATE lab_orders SET status = ? WHERE buyer = ?").bind(status);
    order.bind(number(buyer)).execute(place.sql()).await?;
    if answer.is_none() {
        sqlx::query("UPDATE lab_stock SET units = units + 1").execute(place.sql()).await?;
    }
    Ok(())
}

fn number(buyer: usize) -> i64 {
    i64::try_from(buyer).unwrap_or(i64::MAX)
}
