//! The names of the streams that the queue has in Redis.

use seckill_core::LedgerId;

/// The streams of one ledger. The braces are a hash tag: a Redis Cluster keeps all of them in one slot, so that a script can move an
/// entry from one to another.
#[derive(Clone)]
pub(super) struct Keys {
    /// Whose orders they have.
    pub(super) ledger: LedgerId,
    /// Where accepted orders wait.
    pub(super) orders: String,
    /// Messages that wait for a human.
    pub(super) parked: String,
    /// Messages that wait for a newer program.
    pub(super) newer: String,
}

impl Keys {
    pub(super) fn new(ledger: LedgerId) -> Self {
        let of = |name: &str| format!("seckill:{{{ledger}}}:{name}");
        Self { ledger, orders: of("orders"), parked: of("orders:parked"), newer: of("orders:newer") }
    }
}
