//! What has become of an order, for the crowd that asks: from memory, then the gate, then the ledger, which is asked so many
//! times a second and no more.
//!
//! Memory holds what the ledger's writers announce ([`Fates`](seckill_core::Fates)) and what was read a moment ago. What can
//! change is remembered for a second, so a lost announcement makes no answer wrong for longer than that. Many who ask for one
//! order at once share one read; many orders that are asked for at once share one statement.

mod ledger_reads;
mod listen;
mod memory;
mod waiters;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use seckill_core::{
    Backend, Claim, Fault, Holding, LedgerOrder, OrderId, OrderStatus, RejectReason, SaleId, UserId,
};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use crate::directory::Directory;
use crate::directory::of_orders::with_holders;
use ledger_reads::{LedgerReads, Turns};
pub(crate) use memory::Known;
use memory::Memory;
pub(crate) use waiters::Waiter;
use waiters::Waiters;

/// What reading orders may cost.
#[derive(Debug, Clone, Copy)]
pub struct StatusConfig {
    /// Statements a second that read orders from the ledger, for however many who ask.
    pub ledger_reads: NonZeroU32,
    /// Of these, statements for orders that no gate holds: ids that somebody made up, orders of past sales, and those that have
    /// ended. As often an order is looked for that is not where its id says.
    pub unknown_reads: NonZeroU32,
    /// The longest wait for a statement's turn; then the answer is 503 `overloaded`.
    pub patience: Duration,
    /// Orders that are remembered; some 400 bytes each.
    pub remembered: u64,
    /// How often the orders that event streams wait for are looked up, whatever was announced.
    pub check_every: Duration,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            ledger_reads: const { NonZeroU32::new(500).expect("500 is not zero") },
            unknown_reads: const { NonZeroU32::new(100).expect("100 is not zero") },
            patience: Duration::from_secs(2),
            remembered: 100_000,
            check_every: Duration::from_secs(15),
        }
    }
}

/// How long it is remembered that a user has no such order, and what orders a user has in a sale.
const MISS: Duration = Duration::from_secs(1);
/// Users' questions that are under way or were answered with no lately.
const MAX_QUESTIONS: u64 = 100_000;
/// The longest that a repeated request waits for the status of its order.
const REPLAY_PATIENCE: Duration = Duration::from_millis(250);

/// Why it cannot be said how an order stands.
#[derive(Debug, Clone)]
pub(crate) enum NotKnown {
    /// A part of the system is away.
    Fault(Fault),
    /// More is asked than the ledger may be asked.
    TooMany,
    /// A gate that has lost its sale does not know who holds an order there.
    Rebuilding,
}

impl From<Fault> for NotKnown {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

type Found = Option<Arc<Known>>;

/// A "no" is remembered. What was found is in memory; here it only goes to those who asked at the same time.
struct OnlyMisses;

impl Expiry<(OrderId, UserId), Found> for OnlyMisses {
    fn expire_after_create(&self, _: &(OrderId, UserId), found: &Found, _: Instant) -> Option<Duration> {
        Some(if found.is_some() { Duration::ZERO } else { MISS })
    }
}

/// What this gateway knows of orders, and how it learns more.
pub(crate) struct Statuses {
    backend: Backend,
    directory: Arc<Directory>,
    memory: Memory,
    /// Of orders that a gate holds, or may hold.
    reads: LedgerReads,
    /// Of orders that no gate holds: ids that somebody made up, orders of past sales, and those that have ended.
    unheld: LedgerReads,
    /// What is done for an id beyond one look at its gate and one at the ledger.
    unknown: Arc<Turns>,
    /// Held across the question for one sale: those who ask for orders of the same sale meanwhile find it known then.
    new_sale: Mutex<()>,
    questions: Cache<(OrderId, UserId), Found>,
    of_users: Cache<(UserId, SaleId), Arc<[Arc<Known>]>>,
    waiters: Arc<Waiters>,
    check_every: Duration,
    /// Something may have been missed: the orders that streams wait for are looked up now.
    check_now: Notify,
}

impl Statuses {
    /// Must be called within a Tokio runtime.
    pub(crate) fn new(backend: Backend, directory: Arc<Directory>, config: StatusConfig) -> Self {
        let turns = |rate| Arc::new(Turns::new(rate, config.patience));
        let (all, unknown) = (turns(config.ledger_reads), turns(config.unknown_reads));
        let reads = |turns| LedgerReads::start(Arc::clone(&backend.ledger), turns, config.patience);
        let questions = Cache::builder().max_capacity(MAX_QUESTIONS).expire_after(OnlyMisses).build();
        let of_users = Cache::builder().max_capacity(config.remembered / 10).time_to_live(MISS).build();
        Self {
            reads: reads(vec![Arc::clone(&all)]),
            unheld: reads(vec![turns(config.unknown_reads), all]),
            unknown,
            new_sale: Mutex::default(),
            backend,
            directory,
            memory: Memory::new(config.remembered),
            questions,
            of_users,
            waiters: Arc::default(),
            check_every: config.check_every,
            check_now: Notify::new(),
        }
    }

    /// The user's order as it stood within the last second; `None`: the user has no such order, and gate and ledger agree
    /// about that. Another user's order is as good as none.
    pub(crate) async fn find(&self, id: OrderId, user: UserId) -> Result<Found, NotKnown> {
        if let Some(known) = self.memory.get(id) {
            metrics::counter!("seckill_order_reads_total", "source" => "memory").increment(1);
            return Ok(known.is_of(user).then_some(known));
        }
        let found = self.questions.try_get_with((id, user), self.look_up(id, user)).await;
        found.map_err(|error: Arc<NotKnown>| (*error).clone())
    }

    /// The user's order as it is now, for a request that changes it or has changed it.
    pub(crate) async fn find_now(&self, id: OrderId, user: UserId) -> Result<Found, NotKnown> {
        let named = with_holders(&self.directory.named_by(id));
        let held = self.holding(id, user, &named).await;
        match (self.backend.ledger.order(id).await?, held) {
            (Some(order), _) => Ok(self.recorded(order, user)),
            (None, Ok(Some(holding))) => Ok(Some(self.queued(&holding, user))),
            (None, _) => self.find(id, user).await,
        }
    }

    /// Reads the gate before the ledger. The other way round an order that reaches the ledger between the two reads, and leaves
    /// the gate, would seem to be in neither.
    async fn look_up(&self, id: OrderId, user: UserId) -> Result<Found, NotKnown> {
        let direct = self.directory.is_direct();
        if !direct && self.directory.named_by(id).is_empty() {
            self.look_for_a_new_sale(id).await?;
        }
        let asked = with_holders(&self.directory.named_by(id));
        let held = self.holding(id, user, &asked).await;
        let reads = if matches!(held, Ok(None)) && !direct { &self.unheld } else { &self.reads };
        if let Some(order) = reads.order(id).await? {
            return Ok(self.recorded(order, user));
        }
        match held? {
            Some(holding) => Ok(Some(self.queued(&holding, user))),
            None => self.look_everywhere(id, user, &asked).await,
        }
    }

    /// Looks whether the id names a sale that was created since the directory was refreshed.
    async fn look_for_a_new_sale(&self, id: OrderId) -> Result<(), NotKnown> {
        let _one_at_a_time = self.new_sale.lock().await;
        if self.directory.named_by(id).is_empty() {
            self.unknown.take().await?;
            self.reads.turn().await?;
            self.directory.take_in_newest(id).await?;
        }
        Ok(())
    }

    /// Looks for an order at the gates that its id does not name: it was made by an older version, or by nobody.
    async fn look_everywhere(&self, id: OrderId, user: UserId, asked: &[SaleId]) -> Result<Found, NotKnown> {
        if !self.directory.is_direct() {
            self.unknown.take().await?;
        }
        let others = self.directory.may_hold_orders(asked);
        if !others.is_empty() {
            if let Some(holding) = self.holding(id, user, &others).await? {
                return Ok(Some(self.queued(&holding, user)));
            }
            // It may have left one of these gates since the ledger was asked.
            if let Some(order) = self.reads.order(id).await? {
                return Ok(self.recorded(order, user));
            }
        }
        if self.directory.gates_are_sound().await? { Ok(None) } else { Err(NotKnown::Rebuilding) }
    }

    async fn holding(&self, id: OrderId, user: UserId, sales: &[SaleId]) -> Result<Option<Holding>, Fault> {
        if sales.is_empty() {
            return Ok(None);
        }
        metrics::counter!("seckill_order_reads_total", "source" => "gate").increment(1);
        let held = self.backend.gate.holdings(user, sales).await?;
        Ok(held.into_iter().find(|holding| holding.order_id == id))
    }

    /// The status of an order that a repeated request got as its answer: what is known, or can be read at once. The request
    /// does not fail where that is nothing.
    pub(crate) async fn of_replayed(&self, id: OrderId, user: UserId) -> OrderStatus {
        let known = match self.memory.get(id) {
            Some(known) => Some(known),
            None => match timeout(REPLAY_PATIENCE, self.reads.order(id)).await {
                Ok(Ok(Some(order))) => self.recorded(order, user),
                _ => None,
            },
        };
        known.filter(|known| known.is_of(user)).map_or(OrderStatus::Queued, |known| known.status())
    }

    /// Takes in an order that this gateway has just accepted.
    pub(crate) async fn accepted(&self, sale_id: SaleId, claim: Claim) {
        self.memory.accepted(sale_id, claim);
        let of_user = (claim.user_id, sale_id);
        if self.of_users.contains_key(&of_user) {
            Box::pin(self.of_users.invalidate(&of_user)).await;
        }
    }

    /// The user's orders in the sale, oldest first, as they stood within the last second.
    pub(crate) async fn of_user(&self, user: UserId, sale: SaleId) -> Result<Vec<Arc<Known>>, NotKnown> {
        let read = self.of_users.try_get_with((user, sale), self.read_of_user(user, sale)).await;
        let orders = read.map_err(|error: Arc<NotKnown>| (*error).clone())?;
        // What was announced since then is newer.
        let newest = |known: &Arc<Known>| {
            let now = self.memory.get(known.id()).filter(|now| now.stage() > known.stage());
            now.unwrap_or_else(|| Arc::clone(known))
        };
        Ok(orders.iter().map(newest).collect())
    }

    async fn read_of_user(&self, user: UserId, sale: SaleId) -> Result<Arc<[Arc<Known>]>, NotKnown> {
        metrics::counter!("seckill_order_reads_total", "source" => "gate").increment(1);
        let held = self.backend.gate.holdings(user, &[sale]).await?;
        self.reads.turn().await?;
        let recorded = self.backend.ledger.orders_of(user, sale).await?;
        let queued =
            held.into_iter().find(|held| recorded.iter().all(|order| order.claim.order_id != held.order_id));
        let recorded = recorded.into_iter().map(|order| Arc::new(Known::Recorded(order)));
        let orders: Vec<_> =
            recorded.chain(queued.map(|holding| Arc::new(queued_order(&holding, user)))).collect();
        for order in &orders {
            self.remember(Arc::clone(order));
        }
        // An order that has ended is not the last word: its buyer may have ordered again since.
        if orders.iter().all(|order| has_ended(order.status())) && !self.directory.gates_are_sound().await? {
            return Err(NotKnown::Rebuilding);
        }
        Ok(orders.into())
    }

    /// Waits for the turn of one statement that reads the orders of a user from the ledger.
    pub(crate) async fn ledger_turn(&self) -> Result<(), NotKnown> {
        self.reads.turn().await
    }

    /// Waits for news of an order, until it is dropped.
    pub(crate) fn wait_for(&self, id: OrderId) -> Waiter {
        self.waiters.wait_for(id)
    }

    fn recorded(&self, order: LedgerOrder, user: UserId) -> Found {
        let known = Arc::new(Known::Recorded(order));
        self.remember(Arc::clone(&known));
        known.is_of(user).then_some(known)
    }

    fn queued(&self, holding: &Holding, user: UserId) -> Arc<Known> {
        let known = Arc::new(queued_order(holding, user));
        self.remember(Arc::clone(&known));
        known
    }

    fn remember(&self, known: Arc<Known>) {
        let stays = self.stays(&known);
        self.memory.put(known, stays);
    }

    /// Whether the order is at its end, whatever anybody does.
    fn stays(&self, known: &Known) -> bool {
        let Known::Recorded(order) = known else { return false };
        match (order.status, order.rejected) {
            // May be sent again and decided anew.
            (OrderStatus::Rejected, Some(RejectReason::StaleEpoch)) => false,
            (OrderStatus::Rejected | OrderStatus::Refunded, _) => true,
            (OrderStatus::Committed, _) => {
                let desk = self.directory.get(order.sale_id);
                desk.is_some_and(|desk| desk.sale.payment_window_ms.is_none())
            }
            _ => false,
        }
    }
}

fn queued_order(holding: &Holding, user_id: UserId) -> Known {
    let Holding { sale_id, order_id, quantity, accepted_at } = *holding;
    Known::Queued { sale_id, claim: Claim { order_id, user_id, quantity, accepted_at } }
}

/// Whether the buyer of an order with this status may order again.
pub(crate) fn has_ended(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Rejected | OrderStatus::Cancelled | OrderStatus::Refunded)
}
