//! Sales, and their audits.

use seckill_core::effects::EffectCheck;
use seckill_core::{AuditReport, Phase, Sale, SaleId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A sale, as anybody sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SaleView {
    /// The sale, as the ledger has it.
    #[serde(flatten)]
    pub sale: Sale,
    /// Where the moment `as_of` lies relative to the sale's window.
    pub phase: Phase,
    /// When all of this was read; at most a tenth of a second ago.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
    /// Units that the gate has not set aside; `null` while the gate cannot say.
    pub remaining: Option<u32>,
    /// Orders that the gate has set aside.
    pub reserved_orders: Option<u64>,
    /// Of these, orders that the queue has yet to confirm.
    pub pending_orders: Option<u64>,
}

/// The newest sales.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SaleList {
    /// Newest first.
    pub sales: Vec<Sale>,
}

/// The fields of a JSON merge patch (RFC 7396). None of them can be removed, so `null` is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SalePatch {
    /// 1 to 200 characters.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// 1 to 200 characters.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// All units on sale since the beginning, the sold ones included; never fewer than before.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub stock: Option<u32>,
    /// Later than the sale's start, and not in the past.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
}

/// A value that may be left out, but must not be `null`.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An audit, and when it was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// What was counted.
    #[serde(flatten)]
    pub report: AuditReport,
    /// When the count began.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Timestamp,
}

/// What the refund events of a sale have caused at the subscribers that are part of seckill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectList {
    /// The sale.
    pub sale_id: SaleId,
    /// Empty for a sale without payments, which has no such events.
    pub effects: Vec<EffectCheck>,
}
