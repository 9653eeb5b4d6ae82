//! Whose gate keys and messages this process works with: the id of its ledger, learnt once.
//!
//! A process serves one ledger in its life. A database that is replaced under its url by one with another id would otherwise
//! get orders that were reserved for the first.

use std::sync::{Arc, OnceLock};

use deadpool_redis::redis::{FromRedisValue, cmd};
use seckill_core::{Dependency, Fault, LedgerId};

use crate::gate::keys;
use crate::redis::{Effect, Redis, Request};

/// The ledger id of this process, shared by gate, queue and ledger.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    known: OnceLock<LedgerId>,
    /// Another id that was found later; from then on nothing works any more.
    other: OnceLock<LedgerId>,
}

impl Identity {
    /// Takes in the id that a connection to the ledger has read.
    ///
    /// # Errors
    /// [`Fault::Misconfigured`] when it is another than before: the process has to be started again.
    pub(crate) fn learn(&self, id: LedgerId) -> Result<(), Fault> {
        let known = *self.known.get_or_init(|| id);
        if known != id {
            let _ = self.other.set(id);
        }
        self.check(Dependency::Ledger)
    }

    /// The id; `None`: the ledger has not been reached yet.
    ///
    /// # Errors
    /// [`Fault::Misconfigured`] once another id was found.
    pub(crate) fn known(&self, dependency: Dependency) -> Result<Option<LedgerId>, Fault> {
        self.check(dependency)?;
        Ok(self.known.get().copied())
    }

    fn check(&self, dependency: Dependency) -> Result<(), Fault> {
        match (self.known.get(), self.other.get()) {
            (Some(known), Some(other)) => Err(Fault::misconfigured(
                dependency,
                format!(
                    "the database is another one than when this process started (ledger {other}, not {known}): start \
                     this process again"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// The same, where Redis may help: it keeps the id of the ledger under the name of its database, for a process that starts while the
/// ledger is away.
pub(crate) struct LedgerOfPlace {
    identity: Arc<Identity>,
    /// The database of the ledger, `host:port/database`.
    place: String,
    /// The id that Redis has kept, for as long as the ledger has not been reached.
    kept: OnceLock<LedgerId>,
}

impl LedgerOfPlace {
    pub(crate) fn new(identity: Arc<Identity>, place: String) -> Self {
        Self { identity, place, kept: OnceLock::new() }
    }

    /// The key under which Redis keeps the id.
    pub(crate) fn key(&self) -> String {
        keys::ledger_id(&self.place)
    }

    /// As [`Identity::known`].
    pub(crate) fn known(&self, dependency: Dependency) -> Result<Option<LedgerId>, Fault> {
        self.identity.known(dependency)
    }

    /// The id, from Redis where the ledger has not been reached; `None`: Redis has not kept it either.
    pub(crate) async fn find(
        &self,
        redis: &Redis,
        dependency: Dependency,
    ) -> Result<Option<LedgerId>, Fault> {
        if let Some(known) = self.known(dependency)? {
            return Ok(Some(known));
        }
        if let Some(kept) = self.kept.get() {
            return Ok(Some(*kept));
        }
        let mut get = cmd("GET");
        get.arg(self.key());
        let found = redis.send(Request::Command(&get), Effect::Read).await?;
        let text = Option::<String>::from_redis_value(found)
            .map_err(|error| Fault::corrupt(dependency, error.to_string()))?;
        let Some(text) = text else { return Ok(None) };
        let id = text
            .parse()
            .map_err(|_| Fault::corrupt(dependency, format!("{text:?} instead of a ledger id")))?;
        Ok(Some(*self.kept.get_or_init(|| LedgerId(id))))
    }
}
