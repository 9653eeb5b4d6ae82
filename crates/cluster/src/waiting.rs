//! Waiting rooms on Redis, beside the gate: each call of the port as one script or command. What a script does is written in the
//! script; what they share is in `state.lua`. A room does not ask in which run its server is: when Redis loses it, arrivals get new
//! numbers, and no order is touched.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{ConnectionInfo, FromRedisValue, Script, Value, cmd, from_redis_value};
use seckill_core::waiting::{Demand, RoomSpec, RoomState, Seed, Step};
use seckill_core::{Arrival, Dependency, Fault, MAX_ARRIVALS, SaleId, UserId, WaitingRooms};

use crate::identity::LedgerOfPlace;
use crate::redis::{Effect, Redis, Request, Run, call};

/// Connections for the rooms of one gateway.
const POOL: usize = 8;

pub(crate) struct RedisRooms {
    redis: Redis,
    identity: LedgerOfPlace,
    open: Script,
    room: Script,
    arrive: Script,
    advance: Script,
}

/// A script with what all of them share in front of it.
macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("waiting/state.lua"), include_str!($file)))
    };
}

impl RedisRooms {
    pub(crate) fn new(server: ConnectionInfo, identity: LedgerOfPlace) -> Self {
        Self {
            redis: Redis::new(server, POOL, Dependency::WaitingRooms, Run::Any),
            identity,
            open: script!("waiting/open.lua"),
            room: script!("waiting/room.lua"),
            arrive: script!("waiting/arrive.lua"),
            advance: script!("waiting/advance.lua"),
        }
    }

    /// A key of a sale of this process's ledger, in the slot in which the gate of the sale is.
    async fn key(&self, sale: SaleId, name: &str) -> Result<String, Fault> {
        let Some(ledger) = self.identity.find(&self.redis, Dependency::WaitingRooms).await? else {
            let reason = "the ledger's id is not known yet: the ledger has not been reached, and Redis has not kept its id";
            return Err(Fault::unavailable(Dependency::WaitingRooms, reason));
        };
        Ok(format!("seckill:{{{ledger}:{sale}}}:{name}"))
    }

    async fn keys(&self, sale: SaleId) -> Result<[String; 2], Fault> {
        Ok([self.key(sale, "room").await?, self.key(sale, "arrivals").await?])
    }
}

#[async_trait]
impl WaitingRooms for RedisRooms {
    async fn open_room(&self, sale: SaleId, spec: &RoomSpec) -> Result<RoomState, Fault> {
        let mut open = call(&self.open, &self.keys(sale).await?);
        open.arg(String::from(spec.seed)).arg(spec.starts_ms).arg(spec.rate);
        open.arg(spec.ttl_ms).arg(spec.keep_until_ms);
        let reply = self.redis.send(Request::Script(&self.open, &open), Effect::Write).await?;
        state(reply)?.ok_or_else(|| corrupt("no answer to the opening of a room"))
    }

    async fn room(&self, sale: SaleId) -> Result<Option<RoomState>, Fault> {
        let room = call(&self.room, &self.keys(sale).await?);
        state(self.redis.send(Request::Script(&self.room, &room), Effect::Read).await?)
    }

    async fn arrive(&self, sale: SaleId, user: UserId, instead_of: Option<u64>) -> Result<Arrival, Fault> {
        let mut arrive = call(&self.arrive, &self.keys(sale).await?);
        let instead_of = instead_of.map_or_else(String::new, |number| number.to_string());
        arrive.arg(user.0).arg(instead_of).arg(MAX_ARRIVALS);
        let reply = self.redis.send(Request::Script(&self.arrive, &arrive), Effect::Write).await?;
        Ok(match read::<Option<u64>>(reply)? {
            None => Arrival::NoRoom,
            Some(0) => Arrival::Full,
            Some(number) => Arrival::Number(number),
        })
    }

    async fn number(&self, sale: SaleId, user: UserId) -> Result<Option<u64>, Fault> {
        let mut get = cmd("HGET");
        get.arg(self.key(sale, "arrivals").await?).arg(user.0);
        read(self.redis.send(Request::Command(&get), Effect::Read).await?)
    }

    async fn advance(&self, sale: SaleId, demand: Demand) -> Result<Option<RoomState>, Fault> {
        let mut advance = call(&self.advance, &self.keys(sale).await?);
        advance.arg(u8::from(demand.open)).arg(demand.remaining).arg(demand.orders);
        state(self.redis.send(Request::Script(&self.advance, &advance), Effect::Write).await?)
    }

    async fn spend(&self, sale: SaleId, word: &str, ttl: Duration) -> Result<bool, Fault> {
        let mut set = cmd("SET");
        set.arg(self.key(sale, &format!("spent:{word}")).await?).arg("1");
        set.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)).arg("NX");
        Ok(self.redis.send(Request::Command(&set), Effect::Write).await? != Value::Nil)
    }
}

/// Reads the room that a script answers with.
fn state(reply: Value) -> Result<Option<RoomState>, Fault> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let words: [String; 10] =
        read::<Vec<String>>(reply)?.try_into().map_err(|_| corrupt("a room of another number of fields"))?;
    let [seed, starts, rate, ttl, keep, now, arrivals, drawn, over, steps] = words;
    let steps: Vec<(u64, u64)> =
        if steps.is_empty() { Vec::new() } else { serde_json::from_str(&steps).map_err(corrupt)? };
    Ok(Some(RoomState {
        spec: RoomSpec {
            seed: Seed::try_from(seed).map_err(corrupt)?,
            starts_ms: number(&starts)?,
            rate: u32::try_from(number(&rate)?).map_err(corrupt)?,
            ttl_ms: number(&ttl)?,
            keep_until_ms: number(&keep)?,
        },
        now_ms: number(&now)?,
        arrivals: number(&arrivals)?,
        drawn: if drawn.is_empty() { None } else { Some(number(&drawn)?) },
        over: number(&over)?,
        steps: steps.into_iter().map(|(at_ms, upto)| Step { at_ms, upto }).collect(),
    }))
}

fn number(text: &str) -> Result<u64, Fault> {
    text.parse().map_err(|_| corrupt(format!("{text:?} instead of a number")))
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, Fault> {
    from_redis_value(value).map_err(corrupt)
}

fn corrupt(found: impl std::fmt::Display) -> Fault {
    Fault::corrupt(Dependency::WaitingRooms, format!("a waiting room in Redis: {found}"))
}
