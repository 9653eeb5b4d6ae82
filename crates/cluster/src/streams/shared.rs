//! What the queue has in common with its publishers and consumers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{Cmd, ConnectionInfo, cmd};
use seckill_core::{Dependency, Fault, LedgerId};

use super::entry::{self, BODY, Entry, PARKED_AT, REASON};
use super::keys::Keys;
use super::scripts::Scripts;
use crate::identity::LedgerOfPlace;
use crate::newer_log::NewerLog;
use crate::queue::aside::{LONGEST_REASON, cut};
use crate::queue::intake::Intake;
use crate::redis::{Effect, Redis, Request, Run, call};

/// A consumer of which nothing was heard for so long is taken for dead.
pub(super) const SILENCE: Duration = Duration::from_secs(20);

pub(super) struct Shared {
    pub(super) server: ConnectionInfo,
    /// For everything but publishing and taking.
    pub(super) redis: Redis,
    pub(super) scripts: Scripts,
    pub(super) identity: LedgerOfPlace,
    pub(super) intake: Intake,
    pub(super) newer: NewerLog,
    /// When newer messages are looked through again; `None`: at once.
    pub(super) newer_look_at: tokio::sync::Mutex<Option<Instant>>,
    /// Whether it was logged already what a confirm is worth here.
    pub(super) confirm_logged: AtomicBool,
    ledger_noted: AtomicBool,
}

impl Shared {
    pub(super) fn new(server: ConnectionInfo, pool: usize, identity: LedgerOfPlace) -> Self {
        Self {
            redis: Redis::new(server.clone(), pool, Dependency::Queue, Run::Any),
            server,
            scripts: Scripts::new(),
            identity,
            intake: Intake::default(),
            newer: NewerLog::default(),
            newer_look_at: tokio::sync::Mutex::default(),
            confirm_logged: AtomicBool::new(false),
            ledger_noted: AtomicBool::new(false),
        }
    }

    /// The streams of this process's ledger.
    pub(super) async fn keys(&self) -> Result<Keys, Fault> {
        match self.identity.find(&self.redis, Dependency::Queue).await? {
            Some(ledger) => Ok(Keys::new(ledger)),
            None => Err(unavailable(
                "the ledger's id is not known yet: the ledger has not been reached, and the queue's Redis has not kept its id",
            )),
        }
    }

    /// The id that was read from the ledger itself, not from Redis.
    pub(super) fn ledger_for_sure(&self) -> Result<LedgerId, Fault> {
        let known = self.identity.known(Dependency::Queue)?;
        known.ok_or_else(|| {
            unavailable("the ledger has not been reached yet, so it is not known whose orders to take")
        })
    }

    /// Keeps the ledger's id in Redis once it is known, for a process that starts while the ledger is away.
    pub(super) async fn note_ledger(&self) {
        let Ok(Some(known)) = self.identity.known(Dependency::Queue) else { return };
        if self.ledger_noted.load(Ordering::Relaxed) {
            return;
        }
        let mut set = cmd("SET");
        set.arg(self.identity.key()).arg(known.to_string());
        match self.redis.send(Request::Command(&set), Effect::Write).await {
            Ok(_) => self.ledger_noted.store(true, Ordering::Relaxed),
            Err(fault) => tracing::debug!(%fault, "the ledger's id could not be noted"),
        }
    }

    /// Makes the stream and its group where they are missing, and a consumer.
    pub(super) async fn open(&self, keys: &Keys, consumer: Option<&str>) -> Result<(), Fault> {
        let script = &self.scripts.open;
        let mut open = call(script, std::slice::from_ref(&keys.orders));
        open.arg(consumer.unwrap_or_default());
        self.redis.send(Request::Script(script, &open), Effect::Read).await.map(drop)
    }

    /// Removes an entry for good.
    pub(super) async fn ack(&self, keys: &Keys, id: &str) -> Result<(), Fault> {
        let script = &self.scripts.ack;
        let mut ack = call(script, std::slice::from_ref(&keys.orders));
        ack.arg(id);
        self.redis.send(Request::Script(script, &ack), Effect::Write).await.map(drop)
    }

    /// Moves an entry to another stream in one step; false: it is there no more.
    pub(super) async fn shift(
        &self,
        redis: &Redis,
        (from, id): (&str, &str),
        to: &str,
        fields: &[(&str, &[u8])],
    ) -> Result<bool, Fault> {
        let script = &self.scripts.shift;
        let mut shift: Cmd = call(script, &[from.to_owned(), to.to_owned()]);
        shift.arg(id);
        for (field, value) in fields {
            shift.arg(field).arg(value);
        }
        entry::read(redis.send(Request::Script(script, &shift), Effect::Write).await?)
    }

    /// Moves a message from the queue to the parked ones.
    pub(super) async fn park(
        &self,
        redis: &Redis,
        keys: &Keys,
        (id, body): (&str, &[u8]),
        reason: &str,
    ) -> Result<(), Fault> {
        let reason = cut(reason, LONGEST_REASON);
        let now = seckill_core::now().timestamp_millis().to_string();
        let fields = [(BODY, body), (REASON, reason.as_bytes()), (PARKED_AT, now.as_bytes())];
        if self.shift(redis, (&keys.orders, id), &keys.parked, &fields).await? {
            metrics::counter!("seckill_parked_messages_total").increment(1);
            tracing::error!(entry = id, bytes = body.len(), reason, "parked a message");
        }
        Ok(())
    }

    /// Moves a message that is newer than this program out of the way.
    pub(super) async fn set_aside(&self, redis: &Redis, keys: &Keys, entry: &Entry) -> Result<(), Fault> {
        let fields = [(BODY, entry.body())];
        self.shift(redis, (&keys.orders, &entry.id), &keys.newer, &fields).await.map(drop)
    }

    /// Gives back what dead consumers hold, and what `leaving` holds, and removes these; the number of the
    /// consumers that are left.
    pub(super) async fn give_back(
        &self,
        redis: &Redis,
        keys: &Keys,
        leaving: Option<&str>,
    ) -> Result<u32, Fault> {
        let script = &self.scripts.give_back;
        let mut give_back = call(script, std::slice::from_ref(&keys.orders));
        give_back.arg(leaving.unwrap_or_default()).arg(SILENCE.as_millis().to_string());
        let (alive, silent, held): (u32, u32, u64) =
            entry::read(redis.send(Request::Script(script, &give_back), Effect::Write).await?)?;
        if silent > 0 {
            tracing::warn!(
                consumers = silent,
                batches = held,
                "consumers of the queue were silent for {SILENCE:?}; what they held comes again"
            );
        }
        Ok(alive)
    }
}

pub(super) fn unavailable(reason: impl std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::Queue, reason)
}

/// Shared, as publishers and consumers have it.
pub(super) type SharedQueue = Arc<Shared>;
