//! Repairs that an operator asks for.

use seckill_core::ParkedMessage;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a reconciliation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Reconciled {
    /// Orders at the gate that were compared with the ledger.
    pub compared: u64,
    /// Orders that were sent again.
    pub sent_again: u64,
}

/// The messages that wait for a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkedList {
    /// Oldest first, 1,000 at the most.
    pub messages: Vec<ParkedMessage>,
}
