//! The fates on Redis, by publish/subscribe: one message a commit. Redis keeps none of it, and that is right: whoever was away
//! asks the ledger.

mod wire;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::aio::{PubSubSink, PubSubStream};
use deadpool_redis::redis::{Client, ConnectionInfo, RedisError, Value, cmd};
use futures_util::StreamExt;
use seckill_core::{Dependency, FateNews, Fates, FatesListener, Fault, Heard};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::redis::{Effect, Redis, Request, Run};

/// Where fates are published, before the number of the database: channels are one for all databases of a server. Several
/// ledgers may use it; an order id names one order among all of them.
const CHANNEL: &str = "seckill:fates";
/// The longest that subscribing may take, and the answer to a question whether the connection is alive.
const PATIENCE: Duration = Duration::from_secs(3);
/// A listener that has heard nothing for so long asks whether its connection is alive.
const SILENCE: Duration = Duration::from_secs(5);
/// News that may wait to be published, each of up to 2,000 orders; one more is dropped.
const WAITING: usize = 64;
/// How long to wait after a fault before it is tried to tell listeners of the gap.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct RedisFates {
    server: ConnectionInfo,
    channel: String,
    /// To the task that publishes; it starts with the first news.
    waiting: OnceLock<mpsc::Sender<FateNews>>,
    gap: Arc<AtomicBool>,
}

impl RedisFates {
    pub(crate) fn new(server: ConnectionInfo) -> Self {
        let channel = format!("{CHANNEL}:{}", server.redis_settings().db());
        Self { server, channel, waiting: OnceLock::new(), gap: Arc::default() }
    }

    fn publish_in_background(&self) -> mpsc::Sender<FateNews> {
        let (sender, waiting) = mpsc::channel(WAITING);
        let publisher = Announcer {
            redis: Redis::new(self.server.clone(), 1, Dependency::ControlPlane, Run::Any),
            channel: self.channel.clone(),
            gap: Arc::clone(&self.gap),
        };
        tokio::spawn(publisher.run(waiting));
        sender
    }
}

#[async_trait]
impl Fates for RedisFates {
    fn announce(&self, news: FateNews) {
        let waiting = self.waiting.get_or_init(|| self.publish_in_background());
        if waiting.try_send(news).is_err() {
            dropped();
            self.gap.store(true, Relaxed);
        }
    }

    async fn listen(&self) -> Result<Box<dyn FatesListener>, Fault> {
        let subscribing = async {
            let client = Client::open(self.server.clone())?;
            let (mut sink, messages) = client.get_async_pubsub().await?.split();
            sink.subscribe(&self.channel).await?;
            Ok::<_, RedisError>(Listener { sink, messages, heard: Instant::now() })
        };
        let late = || unavailable(&format!("Redis took longer than {PATIENCE:?} to subscribe"));
        let listener = timeout(PATIENCE, subscribing).await.map_err(|_| late())?;
        Ok(Box::new(listener.map_err(|error| unavailable(&error))?))
    }
}

/// Publishes what a process announces, in its order.
struct Announcer {
    redis: Redis,
    channel: String,
    /// Whether something was dropped that listeners have not been told of.
    gap: Arc<AtomicBool>,
}

impl Announcer {
    async fn run(self, mut waiting: mpsc::Receiver<FateNews>) {
        loop {
            let patience = if self.gap.load(Relaxed) { PAUSE } else { Duration::MAX };
            let next = match timeout(patience, waiting.recv()).await {
                Ok(None) => return,
                Ok(Some(news)) => Some(news),
                Err(_elapsed) => None,
            };
            if self.gap.swap(false, Relaxed) && !self.publish(&wire::gap()).await {
                self.gap.store(true, Relaxed);
                // Nobody would hear the news either.
                next.into_iter().for_each(|_| dropped());
                continue;
            }
            if let Some(news) = next
                && !self.publish(&wire::write(&news)).await
            {
                dropped();
                self.gap.store(true, Relaxed);
            }
        }
    }

    async fn publish(&self, message: &str) -> bool {
        let mut publish = cmd("PUBLISH");
        publish.arg(&self.channel).arg(message);
        let published = self.redis.send(Request::Command(&publish), Effect::Read).await;
        if let Err(fault) = &published {
            tracing::debug!(error = %fault, "the fates of orders cannot be announced");
        }
        published.is_ok()
    }
}

fn dropped() {
    metrics::counter!("seckill_fates_dropped_total").increment(1);
}

struct Listener {
    sink: PubSubSink,
    messages: PubSubStream,
    /// When the connection was last seen alive.
    heard: Instant,
}

#[async_trait]
impl FatesListener for Listener {
    async fn next(&mut self) -> Result<Heard, Fault> {
        loop {
            let left = SILENCE.saturating_sub(self.heard.elapsed());
            let Ok(message) = timeout(left, self.messages.next()).await else {
                // A connection whose other end has vanished without a word is as silent as one with nothing to tell.
                let alive = timeout(PATIENCE, self.sink.ping::<Value>()).await;
                let late = || unavailable(&format!("no answer to PING within {PATIENCE:?}"));
                alive.map_err(|_| late())?.map_err(|error| unavailable(&error))?;
                self.heard = Instant::now();
                continue;
            };
            let message = message.ok_or_else(|| unavailable(&"the connection has ended"))?;
            self.heard = Instant::now();
            return Ok(wire::read(message.get_payload_bytes()).unwrap_or_else(|error| {
                // A process of another version may say what this one cannot read.
                tracing::debug!(%error, "an announcement cannot be read");
                Heard::Gap
            }));
        }
    }
}

fn unavailable(reason: &dyn std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::ControlPlane, format!("cannot listen at Redis for the fates: {reason}"))
}
