//! The words, the rules and the ports of seckill. Nothing here does I/O.
//!
//! A [`Claim`] is one buyer's wish. The [`StockGate`] sets stock aside for it, the [`OrderQueue`] carries it in an
//! [`OrderBatch`], and the [`Ledger`] makes it true. The rule by which the ledger decides is [`decide`]; what anyone may
//! check afterwards is an [`AuditReport`].

// The other crates are read by those who work on them. What is here are the words and rules that all of them rely on.
#![warn(missing_docs)]

mod abort;
mod admission;
mod audit;
pub mod capacity;
mod claim;
mod control;
mod decide;
pub mod effects;
mod error;
mod event;
mod identity;
mod lifecycle;
mod message;
pub mod money;
mod opening;
mod order;
mod ports;
mod sale;
mod sold_out;
mod trace;
pub mod waiting;

pub use abort::{AbortPoint, abort_point, arm_abort_point};
pub use admission::{Admission, RoomTerms};
pub use audit::{AuditCounts, AuditReport, Verdict};
pub use claim::{
    Claim, Decision, Holder, HolderPage, Holding, PROMISE_WINDOW, Release, Reservation, ReservationId,
    Reserved,
};
pub use control::{
    ActiveFault, CrashOrder, DrainRate, FaultKind, Histogram, ProcessId, Readiness, Role, Settings, Snapshot,
};
pub use decide::{Known, Room, decide, decided_anew};
pub use error::{Dependency, Fault, FieldError};
pub use event::{
    Event, EventBody, EventMessage, EventOrder, EventPattern, MAX_EVENT_ORDERS, Orders, Refund,
    SubscriberName,
};
pub use identity::{KnownSales, LedgerId};
pub use lifecycle::{CancelReason, OrderRecord, OrderState, Overdue, Step};
pub use message::{MESSAGE_VERSION, Message, Unread};
pub use opening::{Change, Created, Opened, change_sale, create_sale, create_sale_once, fill_gate};
pub use order::{
    Fate, LedgerOrder, MAX_BATCH_ORDERS, Marker, Order, OrderBatch, OrderId, OrderStatus, RejectReason,
    UserId,
};
pub use ports::{
    Announcement, Around, Arrival, Backend, Bank, BankAnswer, CAPACITY_LEASE, Call, CapacityLeases, Changed,
    Charge, Consumer, ControlPlane, CreatedOnce, Delivery, DeliveryTag, Effect, EventBus, EventDelivery,
    EventPublisher, FateNews, Fates, FatesListener, FunnelCount, GateCondition, GateLevel, GiveBack, Heard,
    Ledger, LedgerTotals, LedgerWriter, Lifecycle, LifecycleTransaction, LockedSale, MAX_ARRIVALS,
    MAX_ORDERS_AT_ONCE, Notice, OrderQueue, OrderService, Outbox, OutboxDepth, OutboxEvent, OutboxState,
    ParkedDepth, ParkedMessage, PaymentAnswer, PaymentRequest, Publisher, QueueDepth, QueueProgress,
    RequestKey, SnapshotListener, StockGate, Subscription, Waiting, WaitingRooms,
};
pub use sale::{
    Ended, Epoch, Mode, NewSale, NotChanged, Phase, Rebuild, RebuildStep, Sale, SaleChange, SaleChanged,
    SaleId, SaleState,
};
pub use sold_out::{RETURN_HOLD, SOLD_OUT_LEASE, SoldOutSince};
pub use trace::{NoTraceParent, TraceParent, current_request, current_trace, in_request, in_trace};

/// A moment in UTC, to the millisecond: what every store of this system keeps.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// The present moment, cut to the millisecond so that it reads back from a store as it was written.
pub fn now() -> Timestamp {
    let millis = chrono::Utc::now().timestamp_millis();
    Timestamp::from_timestamp_millis(millis).expect("the clock is within the range of a timestamp")
}
