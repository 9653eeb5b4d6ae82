//! What happens to orders after their commit: transactions in which state, effects and events are written together, and the
//! outbox that such events wait in.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::effects::RefundEffects;
use crate::money::{Entry, Money, OpenRefunds, Request, Saga, SagaKind, SagaState};
use crate::{Event, EventMessage, Fault, OrderId, OrderRecord, Overdue, SaleId, Timestamp, UserId};

/// Changes of orders after their commit. It is the ledger's database, so that all of a change is one transaction.
#[async_trait]
pub trait Lifecycle: Send + Sync {
    /// Begins a transaction. Dropped without [`LifecycleTransaction::commit`] it changes nothing. Keep it short, and call nothing
    /// else that writes before it has ended: a back end may have one writer at a time, and such a call would wait for itself.
    async fn begin(&self) -> Result<Box<dyn LifecycleTransaction>, Fault>;

    /// Orders whose time to pay is over by the ledger's clock and that come after `after`, soonest first, `limit` at the most.
    /// Changes nothing.
    async fn overdue(&self, after: Option<Overdue>, limit: u32) -> Result<Vec<Overdue>, Fault>;

    /// The points of a user, as the subscriber `loyalty` has counted them. Changes nothing.
    async fn points(&self, user: UserId) -> Result<i64, Fault>;

    /// What the subscriber `notifications` has written for an order, oldest first. Changes nothing.
    async fn notices(&self, order: OrderId) -> Result<Vec<Notice>, Fault>;

    /// What the subscriber `funnel` has counted for a sale. Changes nothing.
    async fn funnel(&self, sale: SaleId) -> Result<Vec<FunnelCount>, Fault>;

    /// Orders whose saga of this kind is running and due by the ledger's clock, the longest due first. Changes nothing.
    async fn due_sagas(&self, kind: SagaKind, limit: u32) -> Result<Vec<OrderId>, Fault>;

    /// Up to `limit` sagas in this state, by order id. Changes nothing.
    async fn sagas(&self, kind: SagaKind, state: SagaState, limit: u32) -> Result<Vec<Saga>, Fault>;

    /// The refunds that have not come to their end, with up to `limit` running and as many held ones. Changes nothing.
    async fn open_refunds(&self, limit: u32) -> Result<OpenRefunds, Fault>;

    /// The saga of an order. Changes nothing.
    async fn find_saga(&self, kind: SagaKind, order: OrderId) -> Result<Option<Saga>, Fault>;

    /// What a user has with us, in hundredths. Changes nothing.
    async fn balance(&self, user: UserId) -> Result<u64, Fault>;

    /// The money of one sale, added up at one moment. Counts rows. Changes nothing.
    async fn money(&self, sale: SaleId) -> Result<Money, Fault>;

    /// What the refund events of one sale have caused at the subscribers that are part of seckill, beside what the ledger says has
    /// happened, all at one moment. For a sale that does not exist every count is 0. Counts rows. Changes nothing.
    async fn refund_effects(&self, sale: SaleId) -> Result<RefundEffects, Fault>;
}

/// One transaction. After any fault drop it: it is rolled back.
#[async_trait]
pub trait LifecycleTransaction: Send {
    /// Reads orders and locks them until the transaction ends; in the order of their ids. Orders that do not exist are left out;
    /// so are those that another transaction has locked, where `skip_locked` says so.
    async fn lock_orders(&mut self, orders: &[OrderId], skip_locked: bool)
    -> Result<Vec<OrderRecord>, Fault>;

    /// Writes the state, the cancel reason and the sequence of orders that are locked and were read as `from`; `to` has the same
    /// orders one step later, all of them in one state and of one sequence step. What leaves the active orders is taken off
    /// the sale's totals, and counts as returning until [`Effect::Returned`].
    async fn move_orders(&mut self, from: &[OrderRecord], to: &[OrderRecord]) -> Result<(), Fault>;

    /// Puts an event into the outbox.
    async fn add_event(&mut self, event: &Event) -> Result<(), Fault>;

    /// Records that `consumer` has taken in the event of this id; false: it had before, in a transaction that was committed, and
    /// the caller has nothing to do. If another transaction is about to record the same, waits for its end. The unique key
    /// decides; nobody looks first.
    async fn first_time(&mut self, consumer: &str, event: Uuid) -> Result<bool, Fault>;

    /// Writes what an event has caused.
    async fn apply(&mut self, effect: &Effect) -> Result<(), Fault>;

    /// The saga of an order, which is locked until the transaction ends. Lock the order itself first.
    async fn saga(&mut self, kind: SagaKind, order: OrderId) -> Result<Option<Saga>, Fault>;

    /// Writes a saga, in place of the one that the order had of this kind.
    async fn put_saga(&mut self, saga: &Saga) -> Result<(), Fault>;

    /// Writes entries. Those of one transfer are written once: a second entry of the same transfer and account is
    /// [`Fault::Corrupt`].
    async fn add_entries(&mut self, entries: &[Entry]) -> Result<(), Fault>;

    /// Adds to what a user has with us, or takes from it; false: there is not so much, and nothing was changed.
    async fn change_balance(&mut self, user: UserId, cents: i64) -> Result<bool, Fault>;

    /// Makes a coupon of this worth; false: there is one of this code, and nothing was changed.
    async fn add_coupon(&mut self, code: &str, cents: u64) -> Result<bool, Fault>;

    /// Uses a coupon for an order: its worth, or `None` where there is none of this code or it is used for another order.
    async fn use_coupon(&mut self, code: &str, order: OrderId) -> Result<Option<u64>, Fault>;

    /// Makes a coupon valid again that was used for the order; otherwise nothing happens.
    async fn free_coupon(&mut self, code: &str, order: OrderId) -> Result<(), Fault>;

    /// Records a request under its idempotency key, unless the user has used the key before: then says so. `hash` stands for all
    /// that the request asks for. If another transaction is about to record the same key, waits for its end.
    async fn request(&mut self, user: UserId, key: &str, hash: &[u8; 32]) -> Result<Request, Fault>;

    /// Records how a request was answered.
    async fn answer_request(&mut self, user: UserId, key: &str, answer: &str) -> Result<(), Fault>;

    /// Makes all of it durable. After [`Fault::Unavailable`] none of it is; after [`Fault::Unknown`] all or none of it is.
    async fn commit(self: Box<Self>) -> Result<(), Fault>;
}

/// What an event has caused at a subscriber that is part of seckill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The gate has taken back orders that had ended: their units are on sale again.
    Returned {
        /// The sale.
        sale: SaleId,
        /// Orders.
        orders: u64,
        /// Their units.
        units: u64,
    },
    /// A user got points, or lost them.
    Points {
        /// The user.
        user: UserId,
        /// Added; below 0: taken away.
        points: i64,
    },
    /// Users are told something.
    Notices(Vec<Notice>),
    /// Orders of a sale have come to a stage.
    Counted {
        /// The sale.
        sale: SaleId,
        /// What is added.
        count: FunnelCount,
    },
}

/// What a user is told about an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The order.
    pub order_id: OrderId,
    /// Who is told.
    pub user_id: UserId,
    /// The type of the event that it is about.
    pub kind: String,
    /// The order's sequence in that event.
    pub sequence: u32,
    /// When the event's state was changed.
    pub at: Timestamp,
}

/// How many orders of a sale have come to one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunnelCount {
    /// The type of the events counted, such as `order.paid`.
    pub stage: String,
    /// Orders.
    pub orders: u64,
    /// Their units.
    pub units: u64,
    /// Their amounts in hundredths.
    pub amount_cents: u64,
}

/// Events that were written with the state that they tell of, and wait to be published: the outbox table.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes up to `limit` events that are due, oldest first, for as long as `lease`: until then nobody else gets them, and then
    /// they are due again. Two callers at once get different ones.
    async fn claim(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxEvent>, Fault>;

    /// Records that the bus has these events. May be called again.
    async fn mark_sent(&self, events: &[Uuid]) -> Result<(), Fault>;

    /// Records that the bus refused an event, and why: it is due again after `retry_after`, or parked for a human where that is
    /// `None`. One that was sent meanwhile stays as it is.
    async fn mark_failed(
        &self,
        event: Uuid,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), Fault>;

    /// Up to `limit` events in `state`, oldest first. Changes nothing.
    async fn list(&self, state: OutboxState, limit: u32) -> Result<Vec<OutboxEvent>, Fault>;

    /// One event, whatever its state. Changes nothing.
    async fn find(&self, event: Uuid) -> Result<Option<OutboxEvent>, Fault>;

    /// Makes an event due now with no attempts counted; also one that was sent, which its readers then get once more and take
    /// once; false: there is none.
    async fn redrive(&self, event: Uuid) -> Result<bool, Fault>;

    /// Removes a parked event for good; false: none is parked under this id.
    async fn discard(&self, event: Uuid) -> Result<bool, Fault>;

    /// What waits. Changes nothing.
    async fn depth(&self) -> Result<OutboxDepth, Fault>;

    /// Up to `limit` events of `kinds` that were sent so long ago and that `consumer` has not taken in, oldest first. Where nothing
    /// waits for the consumer any more, the bus has lost them. Costs a look for each event of that age. Changes nothing.
    async fn not_taken_in(
        &self,
        consumer: &str,
        kinds: &[&str],
        ages: RangeInclusive<Duration>,
        limit: u32,
    ) -> Result<Vec<Uuid>, Fault>;

    /// Removes up to `limit` events that were sent longer ago than `age`; how many. What the inbox remembers stays: a copy of an
    /// event may come to a subscriber that was away for longer than any age. Also forgets requests under idempotency keys that are
    /// older than that.
    async fn forget_sent(&self, age: Duration, limit: u32) -> Result<u64, Fault>;
}

/// Where an event of the outbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// The bus does not have it yet, as far as is known.
    Pending,
    /// The bus has it.
    Sent,
    /// The bus refused it too often: it waits for a human.
    Parked,
}

impl OutboxState {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Parked => "parked",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Sent, Self::Parked].into_iter().find(|state| state.as_str() == text)
    }
}

/// One event of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The event.
    pub message: EventMessage,
    /// What it is about.
    pub subject: String,
    /// Where it stands.
    pub state: OutboxState,
    /// How often it was taken to be published.
    pub attempts: u32,
    /// When it is due next, by the ledger's clock.
    pub next_attempt_at: Timestamp,
    /// When it was written.
    pub created_at: Timestamp,
    /// Why the bus refused it last.
    pub error: Option<String>,
}

/// What waits in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxDepth {
    /// Events that are not sent and not parked.
    pub pending: u64,
    /// Parked events.
    pub parked: u64,
    /// When the oldest pending event was written.
    pub oldest_pending: Option<Timestamp>,
    /// The ledger's clock.
    pub now: Timestamp,
}
