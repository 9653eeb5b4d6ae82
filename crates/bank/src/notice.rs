//! What the bank reports by webhook.

use seckill_core::{BankAnswer, OrderId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The body of a webhook. It may come twice, late, out of order, or never: it says when to look, and a query says what is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankNotice {
    #[serde(rename = "type")]
    pub kind: NoticeKind,
    /// The key of the charge or the refund.
    pub key: Uuid,
    /// What the charge was for. A refund of an unknown charge has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    #[serde(rename = "charge.succeeded")]
    ChargeSucceeded,
    #[serde(rename = "charge.declined")]
    ChargeDeclined,
    #[serde(rename = "refund.succeeded")]
    RefundSucceeded,
    #[serde(rename = "refund.declined")]
    RefundDeclined,
}

impl NoticeKind {
    pub(crate) fn of_charge(answer: &BankAnswer) -> Self {
        match answer {
            BankAnswer::Succeeded => Self::ChargeSucceeded,
            BankAnswer::Declined { .. } => Self::ChargeDeclined,
        }
    }

    pub(crate) fn of_refund(answer: &BankAnswer) -> Self {
        match answer {
            BankAnswer::Succeeded => Self::RefundSucceeded,
            BankAnswer::Declined { .. } => Self::RefundDeclined,
        }
    }
}
