//! What buyers and operators may ask for after an order was committed. The gateway asks, and does not know how it is done.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::money::Parts;
use crate::{Fault, OrderId, OrderStatus, UserId};

/// Changes of an order after its commit. Whose order it is has been checked before.
#[async_trait]
pub trait OrderService: Send + Sync {
    /// Gives an unpaid order back. Asking again is safe.
    async fn cancel(&self, order: OrderId) -> Result<Changed, Fault>;

    /// Pays an order. The same key with the same request has the same answer, and is charged once. After [`Fault::Unknown`] it may
    /// be under way; ask again with the same key.
    async fn pay(&self, order: OrderId, request: &PaymentRequest) -> Result<PaymentAnswer, Fault>;

    /// Asks for a paid order's money back. Asking again is safe.
    async fn request_refund(&self, order: OrderId, reason: &str) -> Result<Changed, Fault>;

    /// Decides about a refund that is held; `decision` says who and why. Asking again is safe.
    async fn decide_refund(&self, order: OrderId, approve: bool, decision: &str) -> Result<Changed, Fault>;

    /// The bank says that it has news of an order's payment: asks it at once instead of in a while. Asking again is safe.
    async fn look_up_payment(&self, order: OrderId) -> Result<(), Fault>;
}

/// How a buyer wants to pay an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PaymentRequest {
    /// Who pays.
    pub user_id: UserId,
    /// The request's idempotency key: 1 to 255 visible ASCII characters.
    #[serde(skip)]
    pub key: String,
    /// What is paid in which way.
    pub parts: Parts,
    /// ISO 4217.
    pub currency: String,
    /// What the bank knows the card by, where a part is paid by card.
    pub card: Option<String>,
    /// The coupon's code, where a part is paid by coupon.
    pub coupon: Option<String>,
}

/// How a request to pay was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum PaymentAnswer {
    /// The order is paid.
    Paid {
        /// Names the payment.
        payment_id: Uuid,
    },
    /// The bank refused. Nothing was charged, and what was taken in other ways has been given back.
    Declined {
        /// Why, for the buyer.
        reason: String,
    },
    /// The order had run out of time before the money came. The money goes back by itself.
    TooLate {
        /// Names the payment.
        payment_id: Uuid,
    },
    /// The bank has not said how it ended; it is asked until it does. The same request later gets the answer.
    Processing,
    /// The order stands where it cannot be paid. Nothing was charged.
    NotPossible {
        /// Where it stands.
        status: OrderStatus,
    },
    /// The parts do not add up to the order's amount. Nothing was charged.
    WrongAmount {
        /// What they have to add up to.
        amount_cents: u64,
    },
    /// The user has not so much with us. Nothing was charged.
    BalanceTooLow,
    /// There is no such coupon, it is used, or it is worth another amount. Nothing was charged.
    BadCoupon,
    /// A payment of the order is under way. Nothing was charged by this request.
    UnderWay,
    /// The key was used for another request. Nothing was charged by this one.
    KeyReused,
    /// The ledger has no such order.
    NoSuchOrder,
}

/// What came of asking for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The order is as it was asked for, now or since earlier.
    Done,
    /// It stands where that cannot happen; nothing was changed.
    NotPossible(OrderStatus),
    /// The ledger has no such order; nothing was changed.
    NoSuchOrder,
}
