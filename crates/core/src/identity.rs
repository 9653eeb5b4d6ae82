//! Whose data this is: a database, a gate and a queue that belong together carry one ledger id.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Sale;

/// Names one ledger: made with its schema, kept in backups. Gate keys and messages carry it, so that a fresh database never
/// adopts the gate or the messages of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LedgerId(pub Uuid);

impl std::fmt::Display for LedgerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The sales of one ledger as its gateways know them, kept in the gate: for a gateway that starts while the ledger is away,
/// and for a ledger that comes back from a backup without its newest sales.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSales {
    /// Whose sales they are.
    pub ledger_id: LedgerId,
    /// Every sale that is not closed out.
    pub sales: Vec<Sale>,
}
