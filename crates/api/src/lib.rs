//! The HTTP API as types: one for each request and each answer. The gateway writes them, [`seckill-client`] reads them, and the
//! OpenAPI document is made from them, so that the API is defined once.
//!
//! Where a type of [`seckill_core`] is sent as it is, such as a `NewSale`, there is none here. Requests refuse fields that they do
//! not know, so that a misspelt one is not ignored. Answers take them: a newer gateway may say more.
//!
//! [`seckill-client`]: ../seckill_client/index.html

#![warn(missing_docs)]

mod admission;
mod events;
mod health;
mod money;
mod orders;
pub mod problem;
mod repairs;
mod sales;
mod workers;

pub use admission::{
    ChallengeView, CloudflareView, InletState, PlaceState, PlaceView, QueueingMethod, RoomView,
    TicketRequest, TicketView,
};
pub use events::{OutboxEventView, OutboxList, Redriven, SubscriberView};
pub use health::{DependencyReport, DependencyStatus, Readiness, ReadinessReport};
pub use money::{
    BalanceView, Coupon, Gift, PaymentBody, PaymentStatus, PaymentView, RefundBody, RefundList, RefundView,
    Timeline, TimelineStep,
};
pub use orders::{OrderList, OrderRequest, OrderView, Placed, Reason};
pub use problem::{Kind, KindView, ProblemKind};
pub use repairs::{ParkedList, Reconciled};
pub use sales::{AuditView, EffectList, SaleList, SalePatch, SaleView};
pub use workers::{Rate, WorkerView, WorkersBody, WorkersView};
