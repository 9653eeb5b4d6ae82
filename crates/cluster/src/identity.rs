//! Whose gate keys and messages this process works with: the id of its ledger, learnt once.
//!
//! A process serves one ledger in its life. A database that is replaced under its url by one with another id would otherwise
//! get orders that were reserved for the first.

use std::sync::OnceLock;

use seckill_core::{Dependency, Fault, LedgerId};

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
