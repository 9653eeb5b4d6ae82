//! Capacity leases on Redis, beside the gate: a hash for each ledger, and one script that decides by the server's clock.

use async_trait::async_trait;
use deadpool_redis::redis::{ConnectionInfo, FromRedisValue, Script, cmd};
use seckill_core::capacity::{Capacity, CapacityGrant, CapacityRequest};
use seckill_core::{CAPACITY_LEASE, CapacityLeases, Dependency, Fault};
use uuid::Uuid;

use crate::identity::LedgerOfPlace;
use crate::redis::{Effect, Redis, Request, Run, call};

/// One connection for the requests of this process's worker, and one for when that has to be replaced.
const POOL: usize = 2;

pub(crate) struct RedisLeases {
    redis: Redis,
    identity: LedgerOfPlace,
    lease: Script,
}

impl RedisLeases {
    pub(crate) fn new(server: ConnectionInfo, identity: LedgerOfPlace) -> Self {
        Self {
            redis: Redis::new(server, POOL, Dependency::CapacityLeases, Run::Named),
            identity,
            lease: Script::new(include_str!("capacity/lease.lua")),
        }
    }

    /// The budget protects the ledger, so the workers of one ledger share one.
    async fn key(&self) -> Result<String, Fault> {
        let Some(ledger) = self.identity.find(&self.redis, Dependency::CapacityLeases).await? else {
            let reason = "the ledger's id is not known yet: the ledger has not been reached, and Redis has not kept its id";
            return Err(Fault::unavailable(Dependency::CapacityLeases, reason));
        };
        Ok(format!("seckill:{{{ledger}}}:capacity"))
    }
}

#[async_trait]
impl CapacityLeases for RedisLeases {
    async fn lease(&self, request: &CapacityRequest) -> Result<CapacityGrant, Fault> {
        let CapacityRequest { worker, number, total, wants, has } = request;
        let mut lease = call(&self.lease, &[self.key().await?]);
        lease.arg(worker.to_string()).arg(number);
        for capacity in [total, wants, has] {
            lease.arg(capacity.thousandths());
        }
        lease.arg(u64::try_from(CAPACITY_LEASE.as_millis()).unwrap_or(u64::MAX));
        let reply = self.redis.send(Request::ScriptInRun(&self.lease, &mut lease), Effect::Write).await?;
        let (share, safe, workers, learning): (String, String, u32, bool) =
            FromRedisValue::from_redis_value(reply).map_err(corrupt)?;
        let capacity = |text: &str| {
            text.parse()
                .map(Capacity::from_thousandths)
                .map_err(|_| corrupt(format!("{text:?} instead of a number")))
        };
        Ok(CapacityGrant { share: capacity(&share)?, safe: capacity(&safe)?, workers, learning })
    }

    async fn release(&self, worker: Uuid) -> Result<(), Fault> {
        let mut release = cmd("HDEL");
        release.arg(self.key().await?).arg(worker.to_string());
        self.redis.send(Request::Command(&release), Effect::Write).await.map(|_| ())
    }
}

fn corrupt(found: impl std::fmt::Display) -> Fault {
    Fault::corrupt(Dependency::CapacityLeases, format!("the leases in Redis: {found}"))
}
