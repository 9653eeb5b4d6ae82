//! The gate on Redis: which keys a sale has, and each call as one script or command. How a request reaches Redis is in
//! [`crate::redis`], how an answer is read in `reply`; what a script does is told in the script.

mod reply;

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{Cmd, ConnectionInfo, Pipeline, Script, cmd};
use seckill_core::{
    Claim, Dependency, Epoch, Fault, GateLevel, Holding, MAX_BATCH_ORDERS, Reservation, ReservationId,
    Reserved, Sale, SaleId, StockGate, UserId,
};

use crate::redis::{Effect, Redis, Request};

/// Sales asked for in one pipeline.
const HOLDINGS_AT_ONCE: usize = 500;
/// Entries removed by one command.
const SETTLED_AT_ONCE: usize = 1_000;

/// The gate on Redis.
pub(crate) struct RedisGate {
    redis: Redis,
    open: Script,
    reserve: Script,
    stranded: Script,
    level: Script,
}

impl RedisGate {
    pub(crate) fn new(server: ConnectionInfo, pool_size: usize) -> Self {
        Self {
            redis: Redis::new(server, pool_size, Dependency::Gate),
            open: Script::new(include_str!("gate/open.lua")),
            reserve: Script::new(include_str!("gate/reserve.lua")),
            stranded: Script::new(include_str!("gate/stranded.lua")),
            level: Script::new(include_str!("gate/level.lua")),
        }
    }

    async fn run(&self, script: &Script, effect: Effect, call: &Cmd) -> Result<Reply, Fault> {
        self.redis.send(Request::Script(script, call), effect).await
    }
}

type Reply = deadpool_redis::redis::Value;

#[async_trait]
impl StockGate for RedisGate {
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault> {
        let mut call = script_call(&self.open, &all_keys(sale.id));
        call.arg(epoch)
            .arg(sale.starts_at.timestamp_millis())
            .arg(sale.ends_at.timestamp_millis())
            .arg(sale.per_user_limit)
            .arg(sale.stock);
        self.run(&self.open, Effect::Write, &call).await.map(drop)
    }

    async fn reserve(
        &self,
        sale: SaleId,
        epoch: Epoch,
        settled: &[ReservationId],
        claims: &[Claim],
    ) -> Result<Reserved, Fault> {
        if claims.len() > MAX_BATCH_ORDERS {
            let reason = format!("{} claims in one call, {MAX_BATCH_ORDERS} are allowed", claims.len());
            return Err(Fault::unavailable(Dependency::Gate, reason));
        }
        let mut call = script_call(&self.reserve, &all_keys(sale));
        call.arg(epoch).arg(settled.len());
        for id in settled {
            call.arg(id.to_string());
        }
        let mut id = uuid::Uuid::encode_buffer();
        for claim in claims {
            call.arg(&*claim.order_id.0.hyphenated().encode_lower(&mut id))
                .arg(claim.user_id.0)
                .arg(claim.quantity)
                .arg(claim.accepted_at.timestamp_millis());
        }
        let reply = self.run(&self.reserve, Effect::Write, &call).await?;
        // Not "corrupt": that would promise that nothing has changed.
        reply::reserved(reply, claims.len()).map_err(|found| Fault::unknown(Dependency::Gate, found))
    }

    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault> {
        for some in settled.chunks(SETTLED_AT_ONCE) {
            let mut call = cmd("XDEL");
            call.arg(key(sale, "pending"));
            for id in some {
                call.arg(id.to_string());
            }
            self.redis.send(Request::Command(&call), Effect::Write).await?;
        }
        Ok(())
    }

    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault> {
        let mut call = script_call(&self.stranded, &[key(sale, "pending")]);
        call.arg(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)).arg(limit);
        reply::reservations(self.run(&self.stranded, Effect::Read, &call).await?).map_err(corrupt)
    }

    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault> {
        let mut holdings = Vec::new();
        for some in sales.chunks(HOLDINGS_AT_ONCE) {
            let mut lookups = Pipeline::with_capacity(some.len());
            for sale in some {
                lookups.cmd("HGET").arg(key(*sale, "buyers")).arg(user.0);
            }
            let reply = self.redis.send(Request::Pipeline(&lookups), Effect::Read).await?;
            holdings.extend(reply::holdings(reply, some).map_err(corrupt)?);
        }
        Ok(holdings)
    }

    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault> {
        let call = script_call(&self.level, &all_keys(sale));
        reply::level(self.run(&self.level, Effect::Read, &call).await?).map_err(corrupt)
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.redis.send(Request::Command(&cmd("PING")), Effect::Read).await.map(drop)
    }
}

/// One key of a sale. The braces are a hash tag: a Redis Cluster keeps all keys of a sale in one slot.
fn key(sale: SaleId, name: &str) -> String {
    format!("sale:{{{sale}}}:{name}")
}

fn all_keys(sale: SaleId) -> [String; 4] {
    ["meta", "stock", "buyers", "pending"].map(|name| key(sale, name))
}

/// The beginning of a call by hash; its arguments follow.
fn script_call(script: &Script, keys: &[String]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}

fn corrupt(found: String) -> Fault {
    Fault::corrupt(Dependency::Gate, found)
}
