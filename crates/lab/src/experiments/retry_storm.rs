//! Clients whose call has failed: they try again at once, or after a pause that grows and differs for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use sqlx::AnyPool;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::experiment::{About, Dice, Experiment, Findings, Needs, Place, Side, Trouble, safeguard, text};

const CLIENTS: usize = 300;
/// The service is away for so long at the start, and for a part of [`AWAY_MORE`], which the dice choose.
const AWAY: Duration = Duration::from_millis(500);
const AWAY_MORE: u64 = 200;
/// Calls that the service works at, at the same time.
const WORKERS: usize = 8;
/// Calls that may wait for a worker; one more is refused.
const WAITING: usize = 16;
/// What the work of a call takes at least.
const WORK: Duration = Duration::from_millis(10);
/// From the client to the service and back; stands for a network.
const TRIP: Duration = Duration::from_millis(2);
/// The first pause is at most so long, each later one at most twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Calls for each client served that are in order.
const IN_ORDER: u64 = 20;
/// Calls are counted for each slot of so many milliseconds.
const SLOT_MS: usize = 100;
const SLOTS: usize = 300;

const ABOUT: About = About {
    name: "retry-storm",
    question: text(
        "A call has failed. May the client try again at once?",
        "调用失败了，客户端可以立刻重试吗？",
    ),
    prediction: text(
        "While the service is away or full, every client calls as fast as it can: a hundred calls and more for each client served.",
        "服务不可用或已满时，每个客户端都全速重试：每成功服务一个客户端，要承受上百次调用。",
    ),
    without: text("A client whose call has failed calls again at once", "失败后立刻重试"),
    with: text(
        "A client waits a random time below a bound that doubles from 50 ms to 2 s",
        "随机等待一段时间再重试，等待上限从 50 ms 起逐次翻倍，最多 2 s",
    ),
    look_at: text(
        "Calls for each client served: all but one of them are for nothing",
        "看每服务一个客户端的调用次数：除了一次，其余都是白费",
    ),
    needs: Needs::Nothing,
    columns: None,
    safeguard: safeguard!("crates/gateway/src/retry.rs", "ExponentialBuilder::default()"),
};

pub(super) struct RetryStorm;

#[async_trait]
impl Experiment for RetryStorm {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    async fn run(&self, place: &Place, side: Side, dice: &mut Dice) -> Result<Findings, Trouble> {
        place.table("lab_served", "client BIGINT NOT NULL PRIMARY KEY").await?;
        let away = AWAY + Duration::from_millis(dice.below(AWAY_MORE));
        let service = Arc::new(Service::new(place.sql().clone(), away));
        // A task each, so that they call at the same time; they end with the run.
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let service = Arc::clone(&service);
            clients.spawn(async move { client(&service, side, number).await });
        }
        while let Some(served) = clients.join_next().await {
            served.expect("a client does not panic")?;
        }
        let seconds = service.began.elapsed().as_secs_f64();

        let served = place.count("SELECT COUNT(*) FROM lab_served").await?;
        let calls: Vec<u64> = service.calls.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
        let all: u64 = calls.iter().sum();
        let peak = calls.iter().max().copied().unwrap_or_default() * (1_000 / SLOT_MS as u64);
        Ok(Findings::default()
            .exactly(text("clients served", "成功的客户端"), CLIENTS as u64, served)
            .at_most(
                text("calls for each client served", "每服务一个客户端的调用次数"),
                IN_ORDER,
                all / served.max(1),
            )
            .measure(text("calls", "调用总数"), all as f64, "")
            .measure(text("calls a second at the peak", "峰值每秒调用"), peak as f64, "")
            .measure(text("all served after", "全部成功所用时间"), seconds, "s"))
    }
}

/// A service in front of a database, which does little at a time.
struct Service {
    sql: AnyPool,
    began: Instant,
    away: Duration,
    workers: Semaphore,
    /// One for each call that is in work or waits.
    room: Semaphore,
    calls: Vec<AtomicU64>,
}

/// Why a call has failed. Nothing was done.
enum Refused {
    /// Nobody answers.
    Away,
    Overloaded,
}

impl Service {
    fn new(sql: AnyPool, away: Duration) -> Self {
        Self {
            sql,
            began: Instant::now(),
            away,
            workers: Semaphore::new(WORKERS),
            room: Semaphore::new(WORKERS + WAITING),
            calls: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    async fn call(&self, client: usize) -> Result<Result<(), Refused>, Trouble> {
        sleep(TRIP).await;
        let since = self.began.elapsed();
        let slot = since.as_millis() as usize / SLOT_MS;
        self.calls[slot.min(SLOTS - 1)].fetch_add(1, Ordering::Relaxed);
        if since < self.away {
            return Ok(Err(Refused::Away));
        }
        let Ok(_room) = self.room.try_acquire() else { return Ok(Err(Refused::Overloaded)) };
        let _worker = self.workers.acquire().await.expect("nobody closes it");
        let client = i64::try_from(client).unwrap_or(i64::MAX);
        sqlx::query("INSERT INTO lab_served (client) VALUES (?)").bind(client).execute(&self.sql).await?;
        sleep(WORK).await;
        Ok(Ok(()))
    }
}

/// Calls until it is served.
async fn client(service: &Service, side: Side, number: usize) -> Result<(), Trouble> {
    let mut bound = FIRST_PAUSE;
    while let Err(Refused::Away | Refused::Overloaded) = service.call(number).await? {
        match side {
            Side::Without => {}
            Side::With => {
                let pause = bound.mul_f64(rand::rng().random_range(0.0..1.0));
                sleep(pause).await;
                bound = (bound * 2).min(LONGEST_PAUSE);
            }
        }
    }
    Ok(())
}
