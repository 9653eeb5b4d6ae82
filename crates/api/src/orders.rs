//! Orders.

use seckill_core::{CancelReason, OrderId, OrderStatus, RejectReason, SaleId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of an order. The quantity is any JSON number, so that the refusal of -1 or 1.5 says what is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// Units wanted; 1 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub quantity: Option<serde_json::Number>,
}

impl OrderRequest {
    /// An order of so many units.
    pub fn units(quantity: u32) -> Self {
        Self { quantity: Some(quantity.into()) }
    }
}

/// An accepted or replayed order, as its buyer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placed {
    /// The order.
    pub order_id: OrderId,
    /// The sale.
    pub sale_id: SaleId,
    /// Its units.
    pub quantity: u32,
    /// `queued` for a new order in a sale with a queue.
    pub status: OrderStatus,
}

/// An order, as its buyer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderView {
    /// The order.
    pub order_id: OrderId,
    /// The sale.
    pub sale_id: SaleId,
    /// Its units.
    pub quantity: u32,
    /// Where it stands.
    pub status: OrderStatus,
    /// The price of all its units in hundredths, once it is in the ledger and was not rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_cents: Option<u64>,
    /// Why it was rejected or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The last moment for paying it, while that has not happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pay_by: Option<Timestamp>,
    /// When the gateway took the request.
    #[schema(value_type = String, format = DateTime)]
    pub accepted_at: Timestamp,
    /// When the ledger recorded it, by the ledger's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub recorded_at: Option<Timestamp>,
}

/// Why an order was rejected or cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Reason {
    /// The ledger would not have it.
    Rejected(RejectReason),
    /// It was given back unpaid.
    Cancelled(CancelReason),
}

/// A user's orders in one sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderList {
    /// Oldest first.
    pub orders: Vec<OrderView>,
}
