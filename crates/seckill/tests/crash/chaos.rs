//! Everything at once: in rounds of a minute processes are killed and frozen and servers restarted at random, and in each round one
//! of the three stores loses what it has. A seed fixes the order of events, and replays them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seckill_testkit::{DataCopy, PrivateRedis};
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use tokio::time::{sleep, sleep_until};

use crate::bed::{GATEWAY, QUEUE, Servers, say, turn};
use crate::buyers::Buyers;
use crate::check::{audit_now, check};
use crate::process::{Role, Urls};

/// The load of one round.
const ROUND: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
const STOCK: u32 = 2_500;
const WORKER: &[&str] = &["--drain-rate", "400"];

#[derive(Debug, Clone, Copy)]
enum Event {
    KillGateway(usize),
    KillWorker(usize),
    FreezeGateway(usize),
    ThawGateway(usize),
    FreezeWorker(usize),
    ThawWorker(usize),
    RestartRedis,
    RestartRabbit,
    RestartStreams,
    RestartMySql,
    CopyMySql,
    Lose(Loss),
}

/// What one store loses; one in each round.
#[derive(Debug, Clone, Copy)]
enum Loss {
    RedisEmpty,
    RedisCut,
    QueuePurged,
    QueueDeleted,
    RabbitEmpty,
    StreamsEmpty,
    StreamsCut,
    MySqlOlder,
}

const LOSSES: [Loss; 6] = [
    Loss::RedisEmpty,
    Loss::QueuePurged,
    Loss::MySqlOlder,
    Loss::RedisCut,
    Loss::RabbitEmpty,
    Loss::QueueDeleted,
];

/// Where the orders wait in Redis Streams. RabbitMQ has nothing of these sales then; gateways and workers have to bear its loss.
const LOSSES_ON_STREAMS: [Loss; 6] = [
    Loss::RedisEmpty,
    Loss::StreamsEmpty,
    Loss::MySqlOlder,
    Loss::RedisCut,
    Loss::RabbitEmpty,
    Loss::StreamsCut,
];

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers in every version of this program.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The events of one round and when they are due, in their order.
fn schedule(random: &mut Random, loss: Loss, on_streams: bool) -> Vec<(Duration, Event)> {
    let mut events = vec![(8_000, Event::CopyMySql), (20_000 + random.below(20_000), Event::Lose(loss))];
    let mut at = 1_000;
    while at < ROUND.as_millis() as u64 {
        at += 1_000 + random.below(4_000);
        let (which, thaw) = ((random.next() % 2) as usize, at + 2_000 + random.below(14_000));
        match random.below(12) {
            0..=2 => events.push((at, Event::KillGateway(which))),
            3..=5 => events.push((at, Event::KillWorker(which))),
            6 => events.extend([(at, Event::FreezeGateway(which)), (thaw, Event::ThawGateway(which))]),
            7 | 8 => events.extend([(at, Event::FreezeWorker(which)), (thaw, Event::ThawWorker(which))]),
            9 => events.push((at, Event::RestartRedis)),
            10 if on_streams => events.push((at, Event::RestartStreams)),
            10 => events.push((at, Event::RestartRabbit)),
            _ => events.push((at, Event::RestartMySql)),
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(at, event)| (Duration::from_millis(at), event)).collect()
}

#[derive(Default)]
struct Totals {
    accepted: usize,
    sold: u64,
    kills: u32,
    freezes: u32,
    restarts: u32,
    lost: Vec<Loss>,
    rebuilds: Vec<Duration>,
}

/// The system, and the copy of MySQL's data that a restore goes back to.
struct System {
    servers: Servers,
    /// What the orders wait in, unless it is RabbitMQ.
    streams: Option<PrivateRedis>,
    gateways: Vec<Role>,
    workers: Vec<Role>,
    copy: Option<DataCopyOfMySql>,
    totals: Totals,
}

type DataCopyOfMySql = DataCopy<<seckill_testkit::PrivateMySql as HasKind>::Kind>;

/// Names the kind of a server, which the test kit does not name.
trait HasKind {
    type Kind;
}

impl<K> HasKind for seckill_testkit::PrivateServer<K> {
    type Kind = K;
}

impl System {
    async fn start(on_streams: bool) -> Self {
        let mut servers = Servers::start().await;
        let streams = if on_streams { Some(PrivateRedis::start().await) } else { None };
        servers.urls.queue_redis = streams.as_ref().map(PrivateRedis::url);
        let urls = &servers.urls;
        let gateways = vec![urls.gateway(GATEWAY).await, urls.gateway(GATEWAY).await];
        let workers = vec![urls.worker(WORKER).await, urls.worker(WORKER).await];
        Self { servers, streams, gateways, workers, copy: None, totals: Totals::default() }
    }

    async fn cause(&mut self, event: Event, buyers: &Buyers) {
        let Servers { redis, rabbit, mysql, urls } = &self.servers;
        match event {
            Event::KillGateway(which) => {
                self.gateways[which].kill().await;
                self.gateways[which] = urls.gateway(GATEWAY).await;
                buyers.send_to(&self.gateways.iter().collect::<Vec<_>>());
                self.totals.kills += 1;
            }
            Event::KillWorker(which) => {
                self.workers[which].kill().await;
                self.workers[which] = urls.worker(WORKER).await;
                self.totals.kills += 1;
            }
            Event::FreezeGateway(which) => {
                self.gateways[which].freeze().await;
                self.totals.freezes += 1;
            }
            Event::FreezeWorker(which) => {
                self.workers[which].freeze().await;
                self.totals.freezes += 1;
            }
            Event::ThawGateway(which) => self.gateways[which].thaw().await,
            Event::ThawWorker(which) => self.workers[which].thaw().await,
            Event::RestartRedis => redis.restart().await,
            Event::RestartRabbit => rabbit.restart().await,
            Event::RestartStreams => self.streams().restart().await,
            Event::RestartMySql => mysql.restart().await,
            Event::CopyMySql => self.copy = Some(mysql.copy_data().await),
            Event::Lose(loss) => {
                self.lose(loss).await;
                self.totals.lost.push(loss);
            }
        }
        if matches!(
            event,
            Event::RestartRedis | Event::RestartRabbit | Event::RestartStreams | Event::RestartMySql
        ) {
            self.totals.restarts += 1;
        }
    }

    fn streams(&self) -> &PrivateRedis {
        self.streams.as_ref().expect("only a system on streams is scheduled this")
    }

    async fn lose(&self, loss: Loss) {
        let Servers { redis, rabbit, mysql, .. } = &self.servers;
        match loss {
            Loss::RedisEmpty => redis.restart_empty().await,
            Loss::RedisCut => cut(redis).await,
            Loss::StreamsEmpty => self.streams().restart_empty().await,
            Loss::StreamsCut => cut(self.streams()).await,
            Loss::QueuePurged => rabbit.vhost().purge_queue(QUEUE).await,
            Loss::QueueDeleted => rabbit.vhost().delete_queue(QUEUE).await,
            Loss::RabbitEmpty => rabbit.restart_empty().await,
            Loss::MySqlOlder => {
                let copy = self.copy.as_ref().expect("every round begins with a copy");
                mysql.restart_from(copy).await;
            }
        }
    }

    /// One round: a sale under load, with the events of the schedule; then everything heals and is checked.
    async fn round(&mut self, events: Vec<(Duration, Event)>) {
        // Who was frozen when the last round ended goes on.
        for role in self.gateways.iter().chain(&self.workers) {
            role.thaw().await;
        }
        let sale = self.gateways[0].open_sale(STOCK).await;
        let buyers = Buyers::of(sale, &self.gateways.iter().collect::<Vec<_>>());
        let users = (ROUND.as_millis() / PAUSE.as_millis()) as u64;
        let load = buyers.ordering(1..=users, PAUSE);
        let rebuilds = Rebuilds::watch(&self.servers.urls, sale);
        let begin = tokio::time::Instant::now();
        for (at, event) in events {
            sleep_until(begin + at).await;
            say(&format!("  {:5.1} s  {event:?}", begin.elapsed().as_secs_f64()));
            self.cause(event, &buyers).await;
        }
        for role in self.gateways.iter().chain(&self.workers) {
            role.thaw().await;
        }
        load.await.unwrap();
        say(&format!("  {:5.1} s  every buyer has a final answer", begin.elapsed().as_secs_f64()));
        buyers.retry_all().await;
        say(&format!("  {:5.1} s  every retry got the same order", begin.elapsed().as_secs_f64()));
        let (_, report) = audit_now(&self.gateways[0], sale).await;
        say(&format!("           {report:?}"));
        let sold = check(&self.servers.urls, &self.gateways[0], sale, STOCK, &buyers).await;
        let rebuilt = rebuilds.end();
        self.totals.accepted += buyers.promised().len();
        self.totals.sold += u64::from(sold);
        say(&format!(
            "  {:5.1} s  sale {sale} is clean: {sold} units sold, {rebuilt:.1?} rebuilding",
            begin.elapsed().as_secs_f64()
        ));
        self.totals.rebuilds.extend(rebuilt);
    }
}

/// Kills a Redis, and takes the newest eighth of its file away.
async fn cut(redis: &PrivateRedis) {
    redis.kill().await;
    redis.cut_append_only_file(redis.append_only_bytes() / 8);
    redis.start_again().await;
}

/// Watches in SQL how long a sale is rebuilt.
struct Rebuilds {
    task: tokio::task::JoinHandle<()>,
    seen: Arc<Mutex<Vec<Duration>>>,
}

impl Rebuilds {
    fn watch(urls: &Urls, sale: u64) -> Self {
        let seen = Arc::<Mutex<Vec<Duration>>>::default();
        let (url, record) = (urls.mysql.clone(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut since: Option<Instant> = None;
            loop {
                sleep(Duration::from_millis(100)).await;
                let Ok(mut mysql) = MySqlConnection::connect(&url).await else { continue };
                let state = sqlx::query_scalar::<_, String>("SELECT state FROM sales WHERE id = ?");
                match state.bind(sale).fetch_one(&mut mysql).await.as_deref() {
                    Ok("rebuilding") => {
                        since.get_or_insert_with(Instant::now);
                    }
                    Ok("open") => record.lock().unwrap().extend(since.take().map(|since| since.elapsed())),
                    _ => {}
                }
            }
        });
        Self { task, seen }
    }

    fn end(self) -> Vec<Duration> {
        self.task.abort();
        self.seen.lock().unwrap().clone()
    }
}

/// A number in the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// Whether the orders are to wait in Redis Streams.
fn on_streams() -> bool {
    match std::env::var("SECKILL_CHAOS_QUEUE").unwrap_or_default().as_str() {
        "" | "rabbitmq" => false,
        "redis-streams" => true,
        other => panic!("SECKILL_CHAOS_QUEUE={other}: it is rabbitmq or redis-streams"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once() {
    let _turn = turn("everything_at_once").await;
    let minutes = number("SECKILL_CHAOS_MINUTES");
    let now = || u64::from(std::process::id()) ^ seckill_core::now().timestamp_millis().unsigned_abs();
    let seed = number("SECKILL_CHAOS_SEED").unwrap_or_else(|| now() % 1_000_000);
    // To replay a later round alone.
    let from = number("SECKILL_CHAOS_ROUND").unwrap_or(1) as usize;
    let on_streams = on_streams();
    let queue = if on_streams { "redis-streams" } else { "rabbitmq" };
    say(&format!("everything_at_once: SECKILL_CHAOS_SEED={seed} SECKILL_CHAOS_QUEUE={queue} replays this"));
    let mut random = Random(seed);
    let losses = if on_streams { LOSSES_ON_STREAMS } else { LOSSES };
    let first = random.below(losses.len() as u64) as usize;
    let begin = Instant::now();
    let mut system = System::start(on_streams).await;
    for round in 0.. {
        let loss = losses[(first + round) % losses.len()];
        let events = schedule(&mut random, loss, on_streams);
        if round + 1 < from {
            continue;
        }
        say(&format!("round {}: {loss:?}", round + 1));
        system.round(events).await;
        if begin.elapsed() >= Duration::from_secs(60 * minutes.unwrap_or(0)) {
            break;
        }
    }
    let Totals { accepted, sold, kills, freezes, restarts, lost, rebuilds } = system.totals;
    say(&format!(
        "seed {seed}, queue {queue}, {:.0} minutes: {accepted} orders accepted, {sold} units sold; {kills} processes killed, {freezes} frozen, \
         {restarts} servers restarted; stores lost: {} {lost:?}; {} rebuilds: {rebuilds:.1?}; 0 oversold, 0 lost, 0 doubled",
        begin.elapsed().as_secs_f64() / 60.0,
        lost.len(),
        rebuilds.len(),
    ));
}
