//! The control plane on Redis: snapshots by publish/subscribe, the settings in one hash, the newest load run in a string.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::aio::PubSubStream;
use deadpool_redis::redis::{Client, ConnectionInfo, FromRedisValue, Pipeline, Script, Value, cmd};
use futures_util::StreamExt;
use seckill_core::{ControlPlane, Dependency, Fault, Settings, Snapshot, SnapshotListener};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::redis::{Effect, Redis, Request, Run};

/// Where snapshots are published, before the number of the database: channels are one for all databases of a server.
const CHANNEL: &str = "seckill:snapshots";
/// A hash: `revision`, and `json` with the settings of that revision.
const SETTINGS: &str = "seckill:settings";
/// The newest load run, as JSON.
const LOAD: &str = "seckill:load";
/// Whoever starts a demonstration the next day has no use for it.
const LOAD_FORGOTTEN_AFTER_S: u64 = 86_400;
/// The longest that subscribing may take.
const SUBSCRIBE: Duration = Duration::from_secs(3);
/// One connection for this process's snapshots, and one for whoever changes settings meanwhile.
const POOL: usize = 2;
/// Puts settings in force if they follow those in force.
const CHANGE: &str = "
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
if revision + 1 ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'json', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";
/// Settings go with the demonstration: a system that is started again must not come up paused.
const FORGOTTEN_AFTER_MS: u64 = 10_000;

pub(crate) struct RedisControl {
    redis: Redis,
    server: ConnectionInfo,
    channel: String,
    change: Script,
}

impl RedisControl {
    pub(crate) fn new(server: ConnectionInfo) -> Self {
        let redis = Redis::new(server.clone(), POOL, Dependency::ControlPlane, Run::Any);
        let channel = format!("{CHANNEL}:{}", server.redis_settings().db());
        Self { redis, server, channel, change: Script::new(CHANGE) }
    }
}

#[async_trait]
impl ControlPlane for RedisControl {
    async fn exchange(&self, snapshot: &Snapshot) -> Result<Settings, Fault> {
        let mut calls = Pipeline::with_capacity(3);
        calls.cmd("PEXPIRE").arg(SETTINGS).arg(FORGOTTEN_AFTER_MS).ignore();
        calls.cmd("PUBLISH").arg(&self.channel).arg(json(snapshot)).ignore();
        calls.cmd("HMGET").arg(SETTINGS).arg("revision").arg("json");
        // Publishing changes nothing that is kept.
        let reply = self.redis.send(Request::Pipeline(&calls), Effect::Read).await?;
        let (settings,) = <(Stored,)>::from_redis_value(reply).map_err(|error| corrupt(SETTINGS, &error))?;
        Ok(read(settings))
    }

    async fn settings(&self) -> Result<Settings, Fault> {
        let mut call = cmd("HMGET");
        call.arg(SETTINGS).arg("revision").arg("json");
        let reply = self.redis.send(Request::Command(&call), Effect::Read).await?;
        Ok(read(Stored::from_redis_value(reply).map_err(|error| corrupt(SETTINGS, &error))?))
    }

    async fn change(&self, settings: &Settings) -> Result<bool, Fault> {
        let mut call = cmd("EVALSHA");
        call.arg(self.change.get_hash()).arg(1).arg(SETTINGS).arg(settings.revision).arg(json(settings));
        call.arg(FORGOTTEN_AFTER_MS);
        let reply = self.redis.send(Request::Script(&self.change, &call), Effect::Write).await?;
        Ok(reply == Value::Int(1))
    }

    async fn keep_load(&self, load: &Json) -> Result<(), Fault> {
        let mut call = cmd("SET");
        call.arg(LOAD).arg(load.to_string()).arg("EX").arg(LOAD_FORGOTTEN_AFTER_S);
        self.redis.send(Request::Command(&call), Effect::Write).await.map(drop)
    }

    async fn kept_load(&self) -> Result<Option<Json>, Fault> {
        let mut call = cmd("GET");
        call.arg(LOAD);
        let reply = self.redis.send(Request::Command(&call), Effect::Read).await?;
        let kept = Option::<String>::from_redis_value(reply).map_err(|error| corrupt(LOAD, &error))?;
        kept.map(|kept| serde_json::from_str(&kept)).transpose().map_err(|error| corrupt(LOAD, &error))
    }

    async fn listen(&self) -> Result<Box<dyn SnapshotListener>, Fault> {
        let subscribing = async {
            let client = Client::open(self.server.clone())?;
            let mut connection = client.get_async_pubsub().await?;
            connection.subscribe(&self.channel).await?;
            Ok::<_, deadpool_redis::redis::RedisError>(connection.into_on_message())
        };
        let late = || unavailable(&format!("Redis took longer than {SUBSCRIBE:?} to subscribe"));
        let messages = timeout(SUBSCRIBE, subscribing).await.map_err(|_| late())?;
        Ok(Box::new(Listener(messages.map_err(|error| unavailable(&error))?)))
    }
}

struct Listener(PubSubStream);

#[async_trait]
impl SnapshotListener for Listener {
    async fn next(&mut self) -> Result<Snapshot, Fault> {
        loop {
            let message = self.0.next().await.ok_or_else(|| unavailable(&"the connection has ended"))?;
            // A process of another version may say what this one cannot read; the others are heard all the same.
            match serde_json::from_slice(message.get_payload_bytes()) {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => tracing::debug!(%error, "a snapshot cannot be read"),
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain fields and string keys can be written as JSON")
}

/// The revision, and the settings as JSON.
type Stored = (Option<u64>, Option<String>);

/// A setting of another version that cannot be read is none, and the others hold: workers that are paused stay paused, whatever
/// the drain rate is. Whoever changes settings next replaces them all.
fn read((revision, json): Stored) -> Settings {
    let json: Json = json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    Settings {
        revision: revision.unwrap_or_default(),
        drain_rate: setting(&json, "drain_rate"),
        paused: setting(&json, "paused"),
        faults: setting(&json, "faults"),
        crash: setting(&json, "crash"),
        stop_load: setting(&json, "stop_load"),
    }
}

fn setting<T: DeserializeOwned + Default>(json: &Json, name: &str) -> T {
    json.get(name).and_then(|value| T::deserialize(value).ok()).unwrap_or_default()
}

fn corrupt(key: &str, found: &dyn std::fmt::Display) -> Fault {
    Fault::corrupt(Dependency::ControlPlane, format!("{key} in Redis: {found}"))
}

fn unavailable(reason: &dyn std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::ControlPlane, format!("cannot listen at Redis: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_setting_of_another_version_takes_no_other_one_with_it() {
        let redis = seckill_testkit::redis().await;
        let server = crate::config::redis(&redis.url).unwrap();
        let control = RedisControl::new(server.clone());
        let settings =
            Settings { revision: 1, paused: true, stop_load: Some("7".to_owned()), ..Settings::default() };
        let mut newer = serde_json::to_value(&settings).unwrap();
        newer["drain_rate"] = "by_the_moon".into();
        newer["not_yet_invented"] = 7.into();
        let mut connection = Client::open(server).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut put = cmd("HSET");
        put.arg(SETTINGS).arg("revision").arg(1).arg("json").arg(newer.to_string());
        put.query_async::<()>(&mut connection).await.unwrap();
        assert_eq!(control.settings().await.unwrap(), settings);
    }
}
