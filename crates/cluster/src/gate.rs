//! The gate on Redis: each call of the port as one script or command. Which keys a sale has is in `keys`, how a request
//! reaches Redis in [`crate::redis`], how an answer is read in `reply`, and what a script does in the script.

pub(crate) mod keys;
mod reply;
mod scripts;

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{Cmd, ConnectionInfo, Pipeline, Script, Value, cmd};
use seckill_core::{
    Claim, Dependency, Epoch, Fault, GateCondition, GateLevel, HolderPage, Holding, KnownSales, LedgerId,
    MAX_BATCH_ORDERS, Marker, QueueProgress, RETURN_HOLD, Release, Reservation, ReservationId, Reserved,
    Sale, SaleId, SoldOutSince, StockGate, UserId,
};
use uuid::Uuid;

use self::keys::Keys;
use self::scripts::Scripts;
use crate::config::ClusterConfig;
use crate::identity::LedgerOfPlace;
use crate::redis::{Effect, Redis, Request, Run, call};

/// Sales asked for in one pipeline.
const HOLDINGS_AT_ONCE: usize = 500;
/// Entries, holders or orders that one call of a script takes.
const AT_ONCE: usize = 500;
/// How long a worker's report of what it holds is believed, in milliseconds.
const HELD_MS: u64 = 10_000;

/// Connections for reads on behalf of those who poll. A pool of their own, so that polls keep no claim waiting.
const POLL_POOL: usize = 16;

pub(crate) struct RedisGate {
    redis: Redis,
    polls: Redis,
    scripts: Scripts,
    identity: LedgerOfPlace,
}

impl RedisGate {
    pub(crate) fn new(server: ConnectionInfo, config: &ClusterConfig, identity: LedgerOfPlace) -> Self {
        let run = if config.gate_durable { Run::Any } else { Run::Named };
        Self {
            polls: Redis::new(server.clone(), POLL_POOL, Dependency::Gate, run),
            redis: Redis::new(server, config.redis_pool_size, Dependency::Gate, run),
            scripts: Scripts::new(),
            identity,
        }
    }

    async fn run(&self, script: &Script, effect: Effect, call: &Cmd) -> Result<Value, Fault> {
        self.redis.send(Request::Script(script, call), effect).await
    }

    /// A call of a script that writes nothing, on behalf of somebody who polls.
    async fn look(&self, script: &Script, call: &Cmd) -> Result<Value, Fault> {
        self.polls.send(Request::Script(script, call), Effect::Read).await
    }

    /// A call of a script that writes and whose answer does not matter.
    async fn write(&self, script: &Script, call: &Cmd) -> Result<(), Fault> {
        self.run(script, Effect::Write, call).await.map(drop)
    }

    /// The keys of a sale of this process's ledger.
    async fn keys(&self, sale: SaleId) -> Result<Keys, Fault> {
        match self.ledger().await? {
            Some(ledger) => Ok(Keys::new(ledger, sale)),
            None => Err(Fault::unavailable(
                Dependency::Gate,
                "the ledger's id is not known yet: the ledger has not been reached, and Redis has not kept its id",
            )),
        }
    }

    async fn ledger(&self) -> Result<Option<LedgerId>, Fault> {
        self.identity.find(&self.redis, Dependency::Gate).await
    }
}

#[async_trait]
impl StockGate for RedisGate {
    async fn open(&self, sale: &Sale, epoch: Epoch) -> Result<(), Fault> {
        let script = &self.scripts.open;
        let mut open = call(script, &self.keys(sale.id).await?.all());
        add_sale(open.arg(epoch), sale).arg(millis(RETURN_HOLD));
        self.write(script, &open).await
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
        let script = &self.scripts.reserve;
        let mut reserve = call(script, &self.keys(sale).await?.main());
        reserve.arg(epoch).arg(settled.len());
        for id in settled {
            reserve.arg(id.to_string());
        }
        let mut id = Uuid::encode_buffer();
        for claim in claims {
            reserve
                .arg(&*claim.order_id.0.hyphenated().encode_lower(&mut id))
                .arg(claim.user_id.0)
                .arg(claim.quantity)
                .arg(claim.accepted_at.timestamp_millis());
        }
        let reply = self.redis.send(Request::ScriptInRun(script, &mut reserve), Effect::Write).await?;
        // Not "corrupt": that would promise that nothing has changed.
        reply::reserved(reply, claims.len()).map_err(|found| Fault::unknown(Dependency::Gate, found))
    }

    async fn apply_change(&self, sale: &Sale) -> Result<(), Fault> {
        let mut change = call(&self.scripts.change, &self.keys(sale.id).await?.main());
        self.write(&self.scripts.change, add_sale(&mut change, sale).arg(millis(RETURN_HOLD))).await
    }

    async fn settle(&self, sale: SaleId, settled: &[ReservationId]) -> Result<(), Fault> {
        let keys = self.keys(sale).await?.some(["meta", "pending"]);
        for some in settled.chunks(AT_ONCE) {
            let mut settle = call(&self.scripts.settle, &keys);
            for id in some {
                settle.arg(id.to_string());
            }
            self.write(&self.scripts.settle, &settle).await?;
        }
        Ok(())
    }

    async fn stranded(&self, sale: SaleId, age: Duration, limit: usize) -> Result<Vec<Reservation>, Fault> {
        let script = &self.scripts.stranded;
        let mut stranded = call(script, &self.keys(sale).await?.some(["pending"]));
        stranded.arg(millis(age)).arg(limit);
        reply::reservations(self.run(script, Effect::Read, &stranded).await?).map_err(corrupt)
    }

    async fn holdings(&self, user: UserId, sales: &[SaleId]) -> Result<Vec<Holding>, Fault> {
        let mut holdings = Vec::new();
        for some in sales.chunks(HOLDINGS_AT_ONCE) {
            let mut lookups = Pipeline::with_capacity(some.len());
            for sale in some {
                lookups.cmd("HGET").arg(self.keys(*sale).await?.buyers()).arg(user.0);
            }
            let reply = self.polls.send(Request::Pipeline(&lookups), Effect::Read).await?;
            holdings.extend(reply::holdings(reply, some).map_err(corrupt)?);
        }
        Ok(holdings)
    }

    async fn level(&self, sale: SaleId) -> Result<Option<GateLevel>, Fault> {
        let script = &self.scripts.level;
        let level = call(script, &self.keys(sale).await?.main());
        reply::level(self.look(script, &level).await?).map_err(corrupt)
    }

    async fn condition(&self, sale: SaleId, epoch: Epoch) -> Result<GateCondition, Fault> {
        let script = &self.scripts.condition;
        let mut condition = call(script, &self.keys(sale).await?.main());
        condition.arg(epoch);
        let reply = self.polls.send(Request::ScriptInRun(script, &mut condition), Effect::Read).await?;
        reply::condition(reply).map_err(corrupt)
    }

    async fn fence(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        let mut fence = call(&self.scripts.fence, &self.keys(sale).await?.some(["meta"]));
        fence.arg(epoch);
        self.write(&self.scripts.fence, &fence).await
    }

    async fn holders(&self, sale: SaleId, cursor: Option<u64>, limit: usize) -> Result<HolderPage, Fault> {
        let mut scan = cmd("HSCAN");
        scan.arg(self.keys(sale).await?.buyers()).arg(cursor.unwrap_or(0)).arg("COUNT").arg(limit.max(1));
        let reply = self.redis.send(Request::Command(&scan), Effect::Read).await?;
        reply::holders(reply).map_err(corrupt)
    }

    async fn stage_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        first: bool,
        holders: &[Claim],
    ) -> Result<(), Fault> {
        let keys = self.keys(sale).await?.some(["staged"]);
        let mut first = first;
        let mut rest = holders;
        // Also without holders: what was staged before has to go.
        while first || !rest.is_empty() {
            let (some, later) = rest.split_at(rest.len().min(AT_ONCE));
            let mut stage = call(&self.scripts.stage, &keys);
            stage.arg(epoch).arg(u8::from(first));
            for claim in some {
                stage.arg(claim.user_id.0).arg(reply::settled_holder(claim));
            }
            self.write(&self.scripts.stage, &stage).await?;
            (first, rest) = (false, later);
        }
        Ok(())
    }

    async fn finish_refill(
        &self,
        sale: &Sale,
        epoch: Epoch,
        remaining: u32,
        holders: u64,
    ) -> Result<(), Fault> {
        let mut refill = call(&self.scripts.refill, &self.keys(sale.id).await?.all());
        add_sale(refill.arg(epoch), sale).arg(remaining).arg(holders).arg(millis(RETURN_HOLD));
        self.write(&self.scripts.refill, &refill).await
    }

    async fn release(&self, sale: SaleId, orders: &[Release]) -> Result<(), Fault> {
        let keys = self.keys(sale).await?.main();
        for some in orders.chunks(AT_ONCE) {
            let mut release = call(&self.scripts.release, &keys);
            release.arg(millis(RETURN_HOLD));
            for order in some {
                release.arg(order.order_id.to_string()).arg(order.user_id.0);
                release.arg(u8::from(order.returns_units));
            }
            self.write(&self.scripts.release, &release).await?;
        }
        Ok(())
    }

    async fn make_marker(&self, sale: SaleId, every: Duration) -> Result<Option<Marker>, Fault> {
        let script = &self.scripts.marker;
        let mut make = call(script, &self.keys(sale).await?.some(["meta", "progress"]));
        make.arg(millis(every));
        let made = reply::maybe_millis(self.run(script, Effect::Write, &make).await?);
        Ok(made.map_err(|found| Fault::unknown(Dependency::Gate, found))?.map(Marker::new))
    }

    async fn marker_passed(&self, sale: SaleId, marker: &Marker) -> Result<(), Fault> {
        let mut passed = call(&self.scripts.passed, &self.keys(sale).await?.some(["meta", "progress"]));
        passed.arg(marker.made_ms);
        self.write(&self.scripts.passed, &passed).await
    }

    async fn report_held(&self, sale: SaleId, worker: Uuid, oldest_ms: Option<u64>) -> Result<(), Fault> {
        let mut held = call(&self.scripts.held, &self.keys(sale).await?.some(["meta", "held"]));
        let oldest = oldest_ms.map_or_else(String::new, |oldest| oldest.to_string());
        held.arg(worker.to_string()).arg(oldest).arg(HELD_MS);
        self.write(&self.scripts.held, &held).await
    }

    async fn mark_resending(&self, sale: SaleId) -> Result<(), Fault> {
        let resending = call(&self.scripts.resending, &self.keys(sale).await?.some(["meta"]));
        self.write(&self.scripts.resending, &resending).await
    }

    async fn mark_reconciled(&self, sale: SaleId, made_ms: u64) -> Result<(), Fault> {
        let keys = self.keys(sale).await?.some(["meta", "progress"]);
        let mut reconciled = call(&self.scripts.reconciled, &keys);
        reconciled.arg(made_ms);
        self.write(&self.scripts.reconciled, &reconciled).await
    }

    async fn progress(&self, sale: SaleId) -> Result<Option<QueueProgress>, Fault> {
        let script = &self.scripts.progress;
        let mut progress = call(script, &self.keys(sale).await?.some(["meta", "progress", "held"]));
        progress.arg(HELD_MS);
        reply::progress(self.look(script, &progress).await?).map_err(corrupt)
    }

    async fn remove(&self, sale: SaleId) -> Result<(), Fault> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(&self.keys(sale).await?.all());
        self.redis.send(Request::Command(&unlink), Effect::Write).await.map(drop)
    }

    async fn keep_known_sales(&self, known: &KnownSales) -> Result<(), Fault> {
        let json = serde_json::to_string(known).expect("plain fields can be written as JSON");
        // One command, so that neither is there without the other.
        let mut keep = cmd("MSET");
        keep.arg(keys::known_sales(known.ledger_id)).arg(json);
        keep.arg(self.identity.key()).arg(known.ledger_id.to_string());
        self.redis.send(Request::Command(&keep), Effect::Write).await.map(drop)
    }

    async fn known_sales(&self) -> Result<Option<KnownSales>, Fault> {
        let Some(ledger) = self.ledger().await? else { return Ok(None) };
        let mut get = cmd("GET");
        get.arg(keys::known_sales(ledger));
        reply::known_sales(self.redis.send(Request::Command(&get), Effect::Read).await?).map_err(corrupt)
    }

    async fn sold_out(&self, sale: SaleId, epoch: Epoch) -> Result<Option<SoldOutSince>, Fault> {
        let script = &self.scripts.sold_out;
        let mut sold_out = call(script, &self.keys(sale).await?.main());
        sold_out.arg(epoch);
        let reply = self.redis.send(Request::ScriptInRun(script, &mut sold_out), Effect::Read).await?;
        reply::sold_out(reply).map_err(corrupt)
    }

    /// Writes, since a replica that is read-only, a Redis that is full, and one that cannot save still answer PING.
    async fn ping(&self) -> Result<(), Fault> {
        let mut probe = cmd("SET");
        probe.arg(keys::PROBE).arg("1").arg("PX").arg(keys::PROBE_MS);
        self.redis.send(Request::Command(&probe), Effect::Read).await.map(drop)
    }
}

/// The arguments of a script that are the sale's.
fn add_sale<'a>(call: &'a mut Cmd, sale: &Sale) -> &'a mut Cmd {
    call.arg(sale.created_at.timestamp_millis())
        .arg(sale.starts_at.timestamp_millis())
        .arg(sale.ends_at.timestamp_millis())
        .arg(sale.per_user_limit)
        .arg(sale.stock)
        .arg(u8::from(sale.paused))
        .arg(sale.revision)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn corrupt(found: String) -> Fault {
    Fault::corrupt(Dependency::Gate, found)
}
