//! Paying an order, and giving its money back.

use seckill_core::money::{MoneyBack, SagaState};
use seckill_core::{OrderId, OrderStatus, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// How a buyer wants to pay: in up to three ways, which add up to the order's amount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentBody {
    /// What the bank knows the card by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Charged to the card; by default all that the other ways leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card_cents: Option<u64>,
    /// Taken from what the user has with us, in hundredths.
    #[serde(default)]
    pub balance_cents: u64,
    /// The code of a coupon, which is used as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<String>,
    /// What the coupon is worth, in hundredths.
    #[serde(default)]
    pub coupon_cents: u64,
}

/// A payment, as its buyer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentView {
    /// The order.
    pub order_id: OrderId,
    /// How far it is.
    pub status: PaymentStatus,
    /// Names the payment once it has been made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Uuid>,
}

/// How far a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// All of the amount has been charged.
    Paid,
    /// The bank has not said how it ended. The same request, sent again a moment later, gets the answer.
    Processing,
}

/// Why a buyer wants the money back, or why an operator decides so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundBody {
    /// 200 characters at the most; a blank one stands for the usual words.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub reason: String,
}

/// A refund, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefundView {
    /// The order.
    pub order_id: OrderId,
    /// How far it is.
    pub state: SagaState,
    /// What goes back, and why.
    #[serde(flatten)]
    pub refund: MoneyBack,
}

/// Refunds in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefundList {
    /// By order id, 1,000 at the most.
    pub refunds: Vec<RefundView>,
}

/// Money that an operator gives to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gift {
    /// In hundredths.
    #[schema(minimum = 1, maximum = 100_000_000_000_u64)]
    pub cents: u64,
}

/// What a user has with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BalanceView {
    /// The user.
    pub user_id: UserId,
    /// In hundredths.
    pub balance_cents: u64,
}

/// A coupon that an operator makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Coupon {
    /// 1 to 64 visible ASCII characters.
    #[schema(pattern = "^[!-~]{1,64}$")]
    pub code: String,
    /// In hundredths.
    #[schema(minimum = 1, maximum = 100_000_000_000_u64)]
    pub cents: u64,
}

/// What happened to an order, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timeline {
    /// The order.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// By time.
    pub steps: Vec<TimelineStep>,
}

/// One step of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineStep {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Milliseconds since the step before; not in the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_previous_ms: Option<i64>,
    /// `order.accepted`, or the type of the event that told of it.
    pub what: String,
}
