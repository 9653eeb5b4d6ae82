//! One spike of requests: each writes to the database by itself, or all are put into a queue, and one writer takes them from it at a
//! pace that the database can keep.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use sqlx::{Any, QueryBuilder};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::experiment::queue::{Consumer, Producer};
use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

/// All of them come at the same moment.
const REQUESTS: u64 = 1_500;
const PRODUCERS: usize = 4;
/// Requests in one message, and with that orders in one transaction, at the most.
const BATCH: usize = 50;
/// Orders a second that the writer asks of the database.
const RATE: u32 = 1_000;
const WINDOW: Duration = Duration::from_millis(200);
/// What the writer may begin within a window: what the rate allows, and one batch.
const PEAK: u64 = 200 + BATCH as u64;
/// Somebody else has the row of the stock for so long, and up to `HELD_MORE` longer.
const HELD: Duration = Duration::from_millis(2_200);
const HELD_MORE_MS: u64 = 300;

const ABOUT: About = About {
    name: "peak-shaving",
    question: text(
        "1,500 requests come at once, and the database is slow just then. What does a queue between the two change?",
        "1,500 个请求同时到来，数据库恰好变慢。中间加一个队列，改变了什么？",
    ),
    prediction: text(
        "Without the queue every request waits for the database with a transaction of its own. With it, each is answered when the queue has it, and the database sees one writer with large transactions at a steady pace.",
        "没有队列，每个请求都带着自己的事务等数据库。有队列，消息入队即可应答，数据库只看到一个写入者，用大事务匀速写入。",
    ),
    without: text(
        "each request: one transaction that takes a unit from the stock and inserts the order",
        "每个请求一个事务：扣库存、插入订单",
    ),
    with: text(
        "each request: into a message, answered after the confirm; one writer inserts a message's orders in one transaction, 1,000 orders a second",
        "每个请求先进消息，收到确认后应答；一个写入者按每秒 1,000 单写库，一条消息一个事务",
    ),
    look_at: text(
        "Late or failed answers: an error, or an answer that came only when the row of the stock was free again. And what the database had to do at the same time",
        "迟到或失败的应答：报错，或者要等到库存行的锁被释放才得到的应答；以及数据库同一时刻的负担",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!(
        "crates/worker/src/drain.rs",
        "count = self.pace.admit(self.orders.len()) => count"
    ),
};

pub(super) struct PeakShaving;

#[async_trait]
impl Experiment for PeakShaving {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        place.table("lab_stock", "id BIGINT NOT NULL PRIMARY KEY, units BIGINT NOT NULL").await?;
        place.table("lab_orders", "id BIGINT NOT NULL PRIMARY KEY").await?;
        let units = i64::try_from(REQUESTS).unwrap_or(i64::MAX);
        sqlx::query("INSERT INTO lab_stock (id, units) VALUES (1, ?)")
            .bind(units)
            .execute(place.sql())
            .await?;
        let held = HELD + Duration::from_millis(dice.below(HELD_MORE_MS));
        let database = Database::default();
        let (answers, free) = match side {
            Side::Without => without(place, &database, held).await?,
            Side::With => with(place, &database, held).await?,
        };
        let late = answers.iter().filter(|answer| !answer.accepted || answer.at >= free).count() as u64;
        let accepted = answers.iter().filter(|answer| answer.accepted).count() as u64;
        let orders = place.count("SELECT COUNT(*) FROM lab_orders").await?;
        let mut waits: Vec<f64> =
            answers.iter().map(|answer| (answer.at - answer.from).as_secs_f64()).collect();
        waits.sort_by(f64::total_cmp);
        let p99 = waits[waits.len() * 99 / 100];
        Ok(Findings::default()
            .at_most(text("late or failed answers", "迟到或失败的应答"), 0, late)
            .at_most(text("transactions", "事务数"), REQUESTS / 10, database.transactions())
            .at_most(
                text("transactions open at once", "同时打开的事务"),
                1,
                database.most.load(Ordering::Relaxed),
            )
            .at_most(text("orders in the busiest 200 ms", "最忙 200 毫秒内的订单"), PEAK, database.busiest())
            .exactly(
                text("accepted requests without an order", "已受理却没有订单的请求"),
                0,
                accepted.abs_diff(orders),
            )
            .measure(text("wait for the answer, p99", "应答等待时间 p99"), p99 * 1e3, "ms"))
    }
}

/// What one request was told.
struct Answer {
    from: Instant,
    at: Instant,
    accepted: bool,
}

/// What the database is asked to do.
#[derive(Default)]
struct Database {
    /// When each transaction began, and how many orders it writes.
    begun: Mutex<Vec<(Instant, u64)>>,
    open: AtomicU64,
    most: AtomicU64,
}

impl Database {
    /// A transaction begins.
    fn begin(&self, orders: usize) -> Open<'_> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push((Instant::now(), orders as u64));
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        Open(self)
    }

    fn transactions(&self) -> u64 {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Orders of the transactions that began within one window, at the most.
    fn busiest(&self) -> u64 {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.sort_unstable();
        let window = |from: usize| {
            let end = begun[from].0 + WINDOW;
            begun[from..].iter().take_while(|(at, _)| *at < end).map(|(_, orders)| orders).sum()
        };
        (0..begun.len()).map(window).max().unwrap_or_default()
    }
}

struct Open<'a>(&'a Database);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Somebody else's long transaction, such as a correction by hand: it has the row of the stock before the spike comes. Says when
/// that was free again.
async fn hold(transaction: sqlx::Transaction<'static, Any>, held: Duration) -> Result<Instant, Trouble> {
    sleep(held).await;
    let free = Instant::now();
    // Nothing else can be committed before this.
    transaction.commit().await?;
    Ok(free)
}

async fn take_row(place: &Place) -> Result<sqlx::Transaction<'static, Any>, Trouble> {
    let mut transaction = place.sql().begin().await?;
    sqlx::query("UPDATE lab_stock SET units = units WHERE id = 1").execute(&mut *transaction).await?;
    Ok(transaction)
}

async fn without(
    place: &Place,
    database: &Database,
    held: Duration,
) -> Result<(Vec<Answer>, Instant), Trouble> {
    let row = take_row(place).await?;
    let requests = async {
        Ok(join_all((0..REQUESTS).map(|id| async move {
            let from = Instant::now();
            let written = write_order(place, database, id).await;
            Answer { from, at: Instant::now(), accepted: written.is_ok() }
        }))
        .await)
    };
    tokio::try_join!(requests, hold(row, held))
}

async fn write_order(place: &Place, database: &Database, id: u64) -> Result<(), sqlx::Error> {
    let mut transaction = place.sql().begin().await?;
    let _open = database.begin(1);
    sqlx::query("UPDATE lab_stock SET units = units - 1 WHERE id = 1 AND units > 0")
        .execute(&mut *transaction)
        .await?;
    let id = id.cast_signed();
    sqlx::query("INSERT INTO lab_orders (id) VALUES (?)").bind(id).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// A request on its way to the queue, and who waits for the answer.
type Waiting = (u64, oneshot::Sender<()>);

async fn with(place: &Place, database: &Database, held: Duration) -> Result<(Vec<Answer>, Instant), Trouble> {
    let queue = place.queue("peak-shaving").await?;
    let consumer = queue.consumer().await?;
    let mut lanes = Vec::with_capacity(PRODUCERS);
    let mut publishing = Vec::with_capacity(PRODUCERS);
    for _ in 0..PRODUCERS {
        let (lane, requests) = mpsc::unbounded_channel();
        lanes.push(lane);
        publishing.push(publish(queue.producer().await?, requests));
    }
    let row = take_row(place).await?;
    let requests = async move {
        let lanes = &lanes;
        // The lanes end with this block: then nothing more comes.
        Ok(join_all((0..REQUESTS).map(|id| async move {
            let from = Instant::now();
            let (done, answer) = oneshot::channel();
            let lane = &lanes[id as usize % PRODUCERS];
            let accepted = lane.send((id, done)).is_ok() && answer.await.is_ok();
            Answer { from, at: Instant::now(), accepted }
        }))
        .await)
    };
    let sent = AtomicBool::new(false);
    let publishing = async {
        try_join_all(publishing).await?;
        sent.store(true, Ordering::Relaxed);
        Ok(())
    };
    let writing = write_orders(place, database, consumer, &sent);
    let (answers, (), (), free) = tokio::try_join!(requests, publishing, writing, hold(row, held))?;
    Ok((answers, free))
}

/// Puts the requests that wait into one message, and answers them all when the queue has it.
async fn publish(
    mut producer: Producer,
    mut requests: mpsc::UnboundedReceiver<Waiting>,
) -> Result<(), Trouble> {
    let mut waiting = Vec::with_capacity(BATCH);
    while requests.recv_many(&mut waiting, BATCH).await > 0 {
        let ids: Vec<u64> = waiting.iter().map(|(id, _)| *id).collect();
        producer.send_all(Uuid::now_v7(), &ids).await?;
        for (_, done) in waiting.drain(..) {
            // A buyer who has gone away has the order all the same.
            let _ = done.send(());
        }
    }
    Ok(())
}

/// The only one that writes. It has time: nobody waits for it.
async fn write_orders(
    place: &Place,
    database: &Database,
    mut consumer: Consumer,
    sent: &AtomicBool,
) -> Result<(), Trouble> {
    let mut next = Instant::now();
    let mut written = 0;
    while written < REQUESTS {
        // Asked before the queue is: what was sent up to here is in it.
        let all_sent = sent.load(Ordering::Relaxed);
        let Some(message) = consumer.next().await? else {
            if all_sent {
                break;
            }
            continue;
        };
        let orders = message.bodies.len();
        sleep_until(next).await;
        next = Instant::now() + Duration::from_secs(1) * u32::try_from(orders).unwrap_or(u32::MAX) / RATE;
        write_batch(place, database, &message.bodies).await?;
        consumer.ack(message).await?;
        written += orders as u64;
    }
    Ok(())
}

async fn write_batch(place: &Place, database: &Database, ids: &[u64]) -> Result<(), Trouble> {
    let mut transaction = place.sql().begin().await?;
    let _open = database.begin(ids.len());
    let mut insert = QueryBuilder::<Any>::new("INSERT INTO lab_orders (id) ");
    insert.push_values(ids, |mut row, id| {
        row.push_bind(id.cast_signed());
    });
    insert.build().execute(&mut *transaction).await?;
    sqlx::query("UPDATE lab_stock SET units = units - ? WHERE id = 1")
        .bind(ids.len() as i64)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}
