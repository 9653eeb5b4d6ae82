//! The names of the keys that the gate has in Redis.

use seckill_core::{LedgerId, SaleId};

/// Written by every look whether Redis takes writes.
pub(crate) const PROBE: &str = "seckill:probe";
/// How long that key lives, in milliseconds.
pub(crate) const PROBE_MS: u64 = 60_000;

/// The keys of one sale of one ledger. The braces are a hash tag: a Redis Cluster keeps all keys of a sale in one slot.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    ledger: LedgerId,
    sale: SaleId,
}

impl Keys {
    pub(super) fn new(ledger: LedgerId, sale: SaleId) -> Self {
        Self { ledger, sale }
    }

    fn of(self, name: &str) -> String {
        format!("seckill:{{{}:{}}}:{name}", self.ledger, self.sale)
    }

    pub(super) fn some<const N: usize>(self, names: [&str; N]) -> [String; N] {
        names.map(|name| self.of(name))
    }

    /// Those that a gate cannot do without.
    pub(super) fn main(self) -> [String; 4] {
        self.some(["meta", "stock", "buyers", "pending"])
    }

    pub(super) fn all(self) -> [String; 7] {
        self.some(["meta", "stock", "buyers", "pending", "progress", "held", "staged"])
    }

    pub(super) fn buyers(self) -> String {
        self.of("buyers")
    }
}

/// Where the sales of a ledger are kept.
pub(super) fn known_sales(ledger: LedgerId) -> String {
    format!("seckill:known:{{{ledger}}}")
}

/// Where the id of the ledger at `place`, `host:port/database`, is kept.
pub(crate) fn ledger_id(place: &str) -> String {
    format!("seckill:ledger:{{{place}}}")
}
