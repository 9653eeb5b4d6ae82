//! What a test stands on: a database, a vhost and a Redis database of its own on shared servers, or servers of its own.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use seckill_core::AbortPoint;
use seckill_testkit::{PrivateMySql, PrivateRabbit, PrivateRedis, TestCluster};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::process::{Role, Urls};

/// The queue that the orders wait in.
pub(crate) const QUEUE: &str = "seckill.orders";
/// A gateway whose recoverer does not wait for long.
pub(crate) const GATEWAY: &[&str] = &["--stranded-after", "1s", "--order-rate-limit", "0"];
/// Every repair is over by then; only a failing test waits for so long.
pub(crate) const HEALED: Duration = Duration::from_secs(240);

/// Tests that run at the same time; each of them runs several processes.
static TURNS: Semaphore = Semaphore::const_new(2);

/// A test's turn on the machine. Prints how long it took.
pub(crate) struct Turn {
    name: &'static str,
    begin: Instant,
    _permit: SemaphorePermit<'static>,
}

/// Waits until the machine has room for one more test.
pub(crate) async fn turn(name: &'static str) -> Turn {
    let permit = TURNS.acquire().await.unwrap();
    Turn { name, begin: Instant::now(), _permit: permit }
}

impl Drop for Turn {
    fn drop(&mut self) {
        say(&format!("{}: {:.1} s", self.name, self.begin.elapsed().as_secs_f64()));
    }
}

/// Prints a line that the test harness does not keep back.
pub(crate) fn say(line: &str) {
    // Without a terminal there is nobody to read it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A place of a test's own on the shared servers.
pub(crate) struct Bed {
    pub(crate) cluster: TestCluster,
    pub(crate) urls: Urls,
    /// What the orders wait in, unless it is RabbitMQ.
    pub(crate) streams: Option<PrivateRedis>,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let cluster = seckill_testkit::cluster().await;
        let urls = Urls::from(&cluster);
        urls.migrate().await;
        Self { cluster, urls, streams: None }
    }

    /// The same, with orders that wait in streams of a Redis of their own.
    pub(crate) async fn on_streams() -> Self {
        let (mut bed, redis) = tokio::join!(Self::start(), PrivateRedis::start());
        bed.urls.queue_redis = Some(redis.url());
        bed.streams = Some(redis);
        bed
    }

    /// Loses every message that waits.
    pub(crate) async fn lose_queue(&self) {
        match &self.streams {
            Some(redis) => redis.restart_empty().await,
            None => self.cluster.vhost().purge_queue(QUEUE).await,
        }
    }
}

/// Three servers of a test's own.
pub(crate) struct Servers {
    pub(crate) redis: PrivateRedis,
    pub(crate) rabbit: PrivateRabbit,
    pub(crate) mysql: PrivateMySql,
    pub(crate) urls: Urls,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let (redis, rabbit, mysql) =
            tokio::join!(PrivateRedis::start(), PrivateRabbit::start(), PrivateMySql::start());
        Self::of(redis, rabbit, mysql).await
    }

    /// These three, with a schema.
    pub(crate) async fn of(redis: PrivateRedis, rabbit: PrivateRabbit, mysql: PrivateMySql) -> Self {
        let urls = Urls { redis: redis.url(), amqp: rabbit.url(), mysql: mysql.url(), queue_redis: None };
        urls.migrate().await;
        Self { redis, rabbit, mysql, urls }
    }
}

impl Urls {
    /// A role that kills itself at the `nth` time that it passes `point`.
    pub(crate) async fn armed(&self, role: &str, args: &[&str], point: AbortPoint, nth: u64) -> Role {
        let at = format!("{}:{nth}", point.name());
        let mut environment = self.environment();
        environment.push(("SECKILL_ABORT_AT", &at));
        Role::start(role, args, &environment).await
    }
}

/// Waits until the process has killed itself.
pub(crate) async fn died(role: &mut Role, point: AbortPoint) {
    let status = role.ended(HEALED).await;
    assert_eq!(status.signal(), Some(9), "{}: {status}\n{}", point.name(), role.log());
}

impl Role {
    /// Freezes the process (SIGSTOP): its connections stay open, and it does nothing.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Lets a frozen process go on (SIGCONT).
    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }
}
