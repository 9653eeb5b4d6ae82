//! A claim that the gate has reserved is an order: how it travels, and what can become of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{CancelReason, Claim, Epoch, OrderRecord, SaleId, Timestamp, TraceParent};

/// Orders in one order batch, at the most: one group commit, one message.
pub const MAX_BATCH_ORDERS: usize = 256;

/// Names one order: a UUIDv7, so ids sort by the time they were made and new rows land at the end of the primary key.
///
/// Its last 16 bits are the lowest 16 bits of the sale's id, in network order, so that whoever is asked about an order knows at
/// which gate to look for it. 58 bits stay that make it unique within its millisecond. The bits are a hint and no promise: two
/// sales may share them, and ids that were made elsewhere hold any bits there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct OrderId(pub Uuid);

impl OrderId {
    /// A new id that names no sale, later than every id made before by this process.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// A new id of an order in `sale`, later than every id made before by this process.
    pub fn generate_for(sale: SaleId) -> Self {
        let mut bytes = Uuid::now_v7().into_bytes();
        // The counter that orders the ids of one millisecond is further in front.
        bytes[14..].copy_from_slice(&sale.low_bits().to_be_bytes());
        Self(Uuid::from_bytes(bytes))
    }

    /// The [lowest 16 bits](SaleId::low_bits) of its sale's id, where it was made by [`Self::generate_for`].
    pub fn sale_bits(self) -> u16 {
        let [.., high, low] = self.0.into_bytes();
        u16::from_be_bytes([high, low])
    }
}

impl std::fmt::Display for OrderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for OrderId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Names one user: the `sub` of the bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct UserId(pub u64);

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The orders of one group commit, or a marker without orders: one message of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderBatch {
    /// Names the message, for logs and traces; nothing is deduplicated by it.
    pub batch_id: Uuid,
    /// The sale of all its orders.
    pub sale_id: SaleId,
    /// The gate's filling that the orders were reserved from.
    pub epoch: Epoch,
    /// 1 to [`MAX_BATCH_ORDERS`] orders; none in a marker.
    pub orders: Vec<Claim>,
    /// The moment by the gate's clock, in milliseconds since 1970, at which the oldest of the orders was set aside; `None`:
    /// the sender does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_aside_ms: Option<u64>,
    /// What a marker says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<Marker>,
    /// The trace that its orders came with, or the one that was begun for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<TraceParent>,
}

/// A message that carries no order. Where it comes out of the queue, everything that was published before it has come out
/// too, except for what a consumer held and has not given back yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Marker {
    /// Names it.
    pub id: Uuid,
    /// The gate's clock when it was made, in milliseconds since 1970. Orders set aside earlier were published earlier, or are
    /// in the pending log.
    pub made_ms: u64,
}

impl Marker {
    /// A marker made at `made_ms` by the gate's clock.
    pub fn new(made_ms: u64) -> Self {
        Self { id: Uuid::now_v7(), made_ms }
    }
}

impl OrderBatch {
    /// A batch under a new id.
    pub fn new(sale_id: SaleId, epoch: Epoch, orders: Vec<Claim>) -> Self {
        Self {
            batch_id: Uuid::now_v7(),
            sale_id,
            epoch,
            orders,
            set_aside_ms: None,
            marker: None,
            traceparent: None,
        }
    }

    /// The same, with the moment at which the oldest of the orders was set aside.
    pub fn set_aside_at(self, millis: u64) -> Self {
        Self { set_aside_ms: Some(millis), ..self }
    }

    /// The same, as a part of a trace.
    pub fn in_trace(self, traceparent: Option<TraceParent>) -> Self {
        Self { traceparent, ..self }
    }

    /// A message that carries `marker` and no order.
    pub fn marker(sale_id: SaleId, epoch: Epoch, marker: Marker) -> Self {
        Self { marker: Some(marker), ..Self::new(sale_id, epoch, Vec::new()) }
    }

    /// Its orders, each with its sale and epoch, as the ledger takes them.
    pub fn into_orders(self) -> impl ExactSizeIterator<Item = Order> {
        let (sale_id, epoch) = (self.sale_id, self.epoch);
        self.orders.into_iter().map(move |claim| Order { sale_id, epoch, claim })
    }
}

/// One order on its way into the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The sale it is for.
    pub sale_id: SaleId,
    /// The epoch of the gate that has set it aside.
    pub epoch: Epoch,
    /// Whose it is, and what for.
    pub claim: Claim,
}

/// What the ledger made of one order that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is a row now.
    Committed,
    /// It was a row before: a redelivery.
    AlreadyCommitted,
    /// It is recorded as rejected now.
    Rejected(RejectReason),
    /// It was recorded as rejected before: a redelivery.
    AlreadyRejected(RejectReason),
}

/// Why the ledger would not have an order that the gate had let through. Only a gate that lost data makes such orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// It would oversell the sale.
    SoldOut,
    /// The user has another active order in this sale.
    UserHasOrder,
    /// The ledger has no such sale.
    UnknownSale,
    /// No units, or more than one user may have.
    BadQuantity,
    /// The sale's gate has been rebuilt since the order was set aside. Nobody was promised such an order: the rebuild waited
    /// for every promise.
    StaleEpoch,
}

impl RejectReason {
    /// Every reason there is.
    pub const ALL: [Self; 5] =
        [Self::SoldOut, Self::UserHasOrder, Self::UnknownSale, Self::BadQuantity, Self::StaleEpoch];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::UserHasOrder => "user_has_order",
            Self::UnknownSale => "unknown_sale",
            Self::BadQuantity => "bad_quantity",
            Self::StaleEpoch => "stale_epoch",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Reserved, and on its way to the ledger.
    Queued,
    /// A row of the ledger.
    Committed,
    /// Recorded by the ledger as rejected.
    Rejected,
    /// Paid in full.
    Paid,
    /// Given back unpaid, by its buyer or because its time was over.
    Cancelled,
    /// Its money is going back.
    Refunding,
    /// A human is to decide whether its money goes back.
    RefundHeld,
    /// Its money has gone back.
    Refunded,
}

impl OrderStatus {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Refunding => "refunding",
            Self::RefundHeld => "refund_held",
            Self::Refunded => "refunded",
        }
    }

    /// Reads what [`Self::as_str`] writes for an order that the ledger has committed once; `None` for anything else.
    pub fn parse_committed(text: &str) -> Option<Self> {
        use OrderStatus::{Cancelled, Committed, Paid, RefundHeld, Refunded, Refunding};
        [Committed, Paid, Cancelled, Refunding, RefundHeld, Refunded]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// An order that the ledger has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerOrder {
    /// The sale it is for.
    pub sale_id: SaleId,
    /// Whose it is, and what for.
    pub claim: Claim,
    /// Price of all its units in hundredths; 0 when rejected.
    pub amount_cents: u64,
    /// Where it stands: rejected, or committed and what came after.
    pub status: OrderStatus,
    /// Why it was rejected; `None` when it was committed.
    pub rejected: Option<RejectReason>,
    /// Why it was cancelled; `None` when it was not.
    pub cancelled: Option<CancelReason>,
    /// Counts its states since its commit from 1; 0 when rejected. Of two readings the one with the higher number is newer.
    pub sequence: u32,
    /// When the ledger recorded it, by the ledger's clock.
    pub recorded_at: Timestamp,
}

impl LedgerOrder {
    /// `order` as it is when it has just been committed.
    pub fn committed(order: &Order, amount_cents: u64, recorded_at: Timestamp) -> Self {
        Self {
            sale_id: order.sale_id,
            claim: order.claim,
            amount_cents,
            status: OrderStatus::Committed,
            rejected: None,
            cancelled: None,
            sequence: 1,
            recorded_at,
        }
    }

    /// `order` as it is when it has just been rejected.
    pub fn rejected(order: &Order, reason: RejectReason, recorded_at: Timestamp) -> Self {
        Self {
            amount_cents: 0,
            status: OrderStatus::Rejected,
            rejected: Some(reason),
            sequence: 0,
            ..Self::committed(order, 0, recorded_at)
        }
    }
}

impl From<&OrderRecord> for LedgerOrder {
    fn from(record: &OrderRecord) -> Self {
        Self {
            sale_id: record.sale_id,
            claim: record.claim,
            amount_cents: record.amount_cents,
            status: record.state.status,
            rejected: None,
            cancelled: record.cancelled,
            sequence: record.sequence,
            recorded_at: record.committed_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_shown_as_the_json_that_the_design_names() {
        let at = Timestamp::from_timestamp_millis(1_700_000_000_123).unwrap();
        let claim =
            Claim { order_id: OrderId(Uuid::nil()), user_id: UserId(7), quantity: 1, accepted_at: at };
        let batch = OrderBatch {
            batch_id: Uuid::nil(),
            sale_id: SaleId(3),
            epoch: 1,
            orders: vec![claim],
            set_aside_ms: None,
            marker: None,
            traceparent: None,
        };
        let json = serde_json::to_value(&batch).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "batch_id": "00000000-0000-0000-0000-000000000000", "sale_id": 3, "epoch": 1,
                "orders": [{"order_id": "00000000-0000-0000-0000-000000000000", "user_id": 7, "quantity": 1,
                            "accepted_at": "2023-11-14T22:13:20.123Z"}],
            })
        );
        assert_eq!(serde_json::from_value::<OrderBatch>(json).unwrap(), batch);
    }

    #[test]
    fn an_id_names_its_sale_and_is_later_than_those_before() {
        let sale = SaleId(0x7_1234);
        let ids: Vec<_> = (0..10_000).map(|_| OrderId::generate_for(sale)).collect();
        assert!(ids.is_sorted_by(|one, next| one < next));
        for id in ids {
            assert_eq!((id.sale_bits(), sale.low_bits()), (0x1234, 0x1234));
            assert_eq!((id.0.get_version_num(), id.0.get_variant()), (7, uuid::Variant::RFC4122));
        }
    }

    #[test]
    fn a_reject_reason_reads_back_as_written() {
        assert_eq!(RejectReason::parse("sold_out"), Some(RejectReason::SoldOut));
        assert_eq!(RejectReason::parse("nonsense"), None);
    }

    #[test]
    fn a_status_reads_back_as_written_once_the_order_was_committed() {
        use OrderStatus::{Cancelled, Committed, Paid, Queued, RefundHeld, Refunded, Refunding, Rejected};
        let after = [Committed, Paid, Cancelled, Refunding, RefundHeld, Refunded];
        let words = ["committed", "paid", "cancelled", "refunding", "refund_held", "refunded"];
        assert_eq!(after.map(OrderStatus::as_str), words);
        assert_eq!(words.map(OrderStatus::parse_committed), after.map(Some));
        assert_eq!([Queued, Rejected].map(OrderStatus::as_str), ["queued", "rejected"]);
        assert_eq!(["queued", "rejected", ""].map(OrderStatus::parse_committed), [None; 3]);
    }

    #[test]
    fn a_batch_says_when_its_oldest_order_was_set_aside() {
        let batch = OrderBatch::new(SaleId(1), 1, Vec::new());
        assert_eq!((batch.set_aside_ms, batch.set_aside_at(5).set_aside_ms), (None, Some(5)));
        assert_eq!(UserId(42).to_string(), "42");
    }
}
