//! The ports: what the gateway and the worker need of a back end. No other trait is needed of one.
//!
//! Every method may be called again after any [`Fault`](crate::Fault). The fault's variant says what it leaves behind; where
//! a method has more to say about it, its documentation does. A future that is dropped before it is done counts as
//! [`Fault::Unknown`](crate::Fault::Unknown).

mod bank;
mod capacity;
mod control;
mod events;
mod fates;
mod gate;
mod ledger;
mod lifecycle;
mod queue;
mod service;
mod waiting;
mod wrapped;

use std::sync::Arc;

pub use bank::{Bank, BankAnswer, Charge, GiveBack};
pub use capacity::{CAPACITY_LEASE, CapacityLeases};
pub use control::{ControlPlane, SnapshotListener};
pub use events::{EventBus, EventDelivery, EventPublisher, Subscription, Waiting};
pub use fates::{Announcement, FateNews, Fates, FatesListener, Heard};
pub use gate::{GateCondition, GateLevel, QueueProgress, StockGate};
pub use ledger::{
    CreatedOnce, Ledger, LedgerTotals, LedgerWriter, LockedSale, MAX_ORDERS_AT_ONCE, RequestKey,
};
pub use lifecycle::{
    Effect, FunnelCount, Lifecycle, LifecycleTransaction, Notice, Outbox, OutboxDepth, OutboxEvent,
    OutboxState,
};
pub use queue::{
    Consumer, Delivery, DeliveryTag, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth,
};
pub use service::{Changed, OrderService, PaymentAnswer, PaymentRequest};
pub use waiting::{Arrival, MAX_ARRIVALS, WaitingRooms};
pub use wrapped::{Around, Call};

/// One back end: a set of ports that belong together.
#[derive(Clone)]
pub struct Backend {
    /// `embedded` or `cluster`.
    pub name: &'static str,
    /// Where stock is pre-deducted.
    pub gate: Arc<dyn StockGate>,
    /// Where accepted orders wait.
    pub queue: Arc<dyn OrderQueue>,
    /// Where orders become true.
    pub ledger: Arc<dyn Ledger>,
    /// Where orders change after their commit.
    pub lifecycle: Arc<dyn Lifecycle>,
    /// Where events wait that were written with what they tell of.
    pub outbox: Arc<dyn Outbox>,
    /// Carries events to subscribers.
    pub events: Arc<dyn EventBus>,
    /// Where processes report how they are.
    pub control: Arc<dyn ControlPlane>,
    /// Tells gateways what the ledger did with orders.
    pub fates: Arc<dyn Fates>,
    /// Where buyers wait for a sale.
    pub waiting: Arc<dyn WaitingRooms>,
    /// Where workers lease their shares of the drain rate.
    pub capacity: Arc<dyn CapacityLeases>,
}
