//! Many buyers of one product at once: a transaction for each of them, or a few transactions with hundreds of orders each. All of
//! them want the one row that has the stock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use sqlx::{Any, QueryBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

/// All of them come at the same moment.
const BUYERS: u64 = 3_000;
/// Fewer than buyers by so many at the least, so that the last batch does not fit as a whole.
const TOO_FEW: u64 = 200;
/// Orders in one transaction, at the most.
const BATCH: usize = 500;
/// How long a batch waits for more orders.
const LINGER: Duration = Duration::from_millis(10);
/// A wait that is too long.
const LONG: Duration = Duration::from_secs(2);

const ABOUT: About = About {
    name: "hot-row",
    question: text(
        "3,000 buyers want the same product at once, so each transaction changes the same row. Does a faster database help?",
        "3,000 位买家同时抢同一件商品，每个事务都要改同一行。换一台更快的数据库有用吗？",
    ),
    prediction: text(
        "MySQL lets one transaction at a time have the row, from its UPDATE to its COMMIT: 3,000 transactions stand in line. In batches of 500, six or seven do the same work.",
        "同一行同一时刻只能被一个事务持有，从 UPDATE 一直到 COMMIT：3,000 个事务排成一队。每 500 单合并成一批，六七个事务就做完同样的事。",
    ),
    without: text(
        "each buyer: one transaction that takes a unit from the stock and inserts the order",
        "每位买家一个事务：扣一件库存，插入一个订单",
    ),
    with: text(
        "500 buyers: one transaction that takes all their units from the stock with one UPDATE and inserts all their orders",
        "每 500 位买家一个事务：一条 UPDATE 扣掉全部件数，一次插入全部订单",
    ),
    look_at: text(
        "Transactions that had the row, and how long buyers waited for it; sold units are the same on both sides",
        "持有这一行的事务数，以及买家等待它的时间；两边卖出的件数相同",
    ),
    needs: Needs::Servers,
    columns: None,
    safeguard: safeguard!(
        "crates/cluster/src/ledger/commit.rs",
        "statements::add_if_it_fits(connection, *id, added, &sales[id])"
    ),
};

pub(super) struct HotRow;

#[async_trait]
impl Experiment for HotRow {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        place.table("lab_stock", "id BIGINT NOT NULL PRIMARY KEY, units BIGINT NOT NULL").await?;
        place.table("lab_orders", "id BIGINT NOT NULL PRIMARY KEY").await?;
        let stock = BUYERS - TOO_FEW - dice.below(TOO_FEW);
        let insert = sqlx::query("INSERT INTO lab_stock (id, units) VALUES (1, ?)");
        insert.bind(stock.cast_signed()).execute(place.sql()).await?;
        let transactions = AtomicU64::new(0);
        let began = Instant::now();
        let answers = match side {
            Side::Without => each_by_itself(place, &transactions).await,
            Side::With => in_batches(place, &transactions).await?,
        };
        let took = began.elapsed();
        let long = answers.iter().filter(|answer| answer.after > LONG).count() as u64;
        let bought = answers.iter().filter(|answer| answer.bought).count() as u64;
        let orders = place.count("SELECT COUNT(*) FROM lab_orders").await?;
        let left = place.count("SELECT units FROM lab_stock WHERE id = 1").await?;
        let mut waits: Vec<f64> = answers.iter().map(|answer| answer.after.as_secs_f64()).collect();
        waits.sort_by(f64::total_cmp);
        let p99 = waits[waits.len() * 99 / 100];
        Ok(Findings::default()
            .at_most(
                text("transactions on the row", "改这一行的事务"),
                BUYERS / 100,
                transactions.into_inner(),
            )
            .at_most(text("buyers who waited more than 2 s", "等待超过 2 秒的买家"), 0, long)
            .exactly(text("orders", "订单"), stock, orders)
            .exactly(text("buyers who were told that they have one", "被告知抢到的买家"), stock, bought)
            .exactly(text("units left", "剩余库存"), 0, left)
            .measure(text("wait of a buyer, p99", "买家等待时间 p99"), p99 * 1e3, "ms")
            .measure(text("orders a second", "每秒订单数"), orders as f64 / took.as_secs_f64(), ""))
    }
}

struct Answer {
    after: Duration,
    bought: bool,
}

async fn each_by_itself(place: &Place, transactions: &AtomicU64) -> Vec<Answer> {
    join_all((0..BUYERS).map(|buyer| async move {
        let began = Instant::now();
        // An error is a buyer without an order.
        let bought = buy(place, transactions, buyer).await.unwrap_or(false);
        Answer { after: began.elapsed(), bought }
    }))
    .await
}

async fn buy(place: &Place, transactions: &AtomicU64, buyer: u64) -> Result<bool, sqlx::Error> {
    let mut transaction = place.sql().begin().await?;
    transactions.fetch_add(1, Ordering::Relaxed);
    let taken = sqlx::query("UPDATE lab_stock SET units = units - 1 WHERE id = 1 AND units > 0")
        .execute(&mut *transaction)
        .await?;
    if taken.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    let insert = sqlx::query("INSERT INTO lab_orders (id) VALUES (?)");
    insert.bind(buyer.cast_signed()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

/// A buyer, and where to say whether there was a unit left.
type Waiting = (u64, oneshot::Sender<bool>);

async fn in_batches(place: &Place, transactions: &AtomicU64) -> Result<Vec<Answer>, Trouble> {
    let (line, mut waiting) = mpsc::unbounded_channel::<Waiting>();
    let buying = async move {
        let line = &line;
        // The line ends with this block: then nobody comes any more.
        Ok(join_all((0..BUYERS).map(|buyer| async move {
            let began = Instant::now();
            let (done, answer) = oneshot::channel();
            let bought = line.send((buyer, done)).is_ok() && answer.await.unwrap_or(false);
            Answer { after: began.elapsed(), bought }
        }))
        .await)
    };
    let writing = async {
        let mut batch: Vec<Waiting> = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            if batch.len() < BATCH {
                sleep(LINGER).await;
                while batch.len() < BATCH
                    && let Ok(one) = waiting.try_recv()
                {
                    batch.push(one);
                }
            }
            let buyers: Vec<u64> = batch.iter().map(|(buyer, _)| *buyer).collect();
            let bought = buy_all(place, transactions, &buyers).await?;
            for (at, (_, done)) in batch.drain(..).enumerate() {
                let _ = done.send(at < bought);
            }
        }
        Ok::<_, Trouble>(())
    };
    let (answers, ()) = tokio::try_join!(buying, writing)?;
    Ok(answers)
}

/// How many of these have a unit: the first ones.
async fn buy_all(place: &Place, transactions: &AtomicU64, buyers: &[u64]) -> Result<usize, Trouble> {
    let mut transaction = place.sql().begin().await?;
    transactions.fetch_add(1, Ordering::Relaxed);
    let select = sqlx::query_scalar("SELECT units FROM lab_stock WHERE id = 1 FOR UPDATE");
    let units: i64 = select.fetch_one(&mut *transaction).await?;
    let taken = buyers.len().min(usize::try_from(units).unwrap_or(0));
    if taken > 0 {
        let mut insert = QueryBuilder::<Any>::new("INSERT INTO lab_orders (id) ");
        insert.push_values(&buyers[..taken], |mut row, buyer| {
            row.push_bind(buyer.cast_signed());
        });
        insert.build().execute(&mut *transaction).await?;
        let update = sqlx::query("UPDATE lab_stock SET units = units - ? WHERE id = 1");
        update.bind(taken as i64).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(taken)
}
