//! A claim on its way to its answer: what the handler hands over, what comes back, and why a claim is refused at once. Both
//! paths of an order use it, through the queue and direct.

use seckill_core::{Claim, Dependency, OrderId, SaleId, Timestamp, TraceParent, UserId, current_trace};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What becomes of a claim, for the one who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Reserved, and confirmed by the queue; or, in direct mode, committed.
    Accepted,
    /// This user has an order here already, and the queue has confirmed it; or, in direct mode, the ledger has it.
    Replayed { order_id: OrderId, quantity: u32 },
    /// Fewer units are left than wanted.
    SoldOut {
        /// Units left.
        remaining: u32,
    },
    /// More units than one user may have.
    OverLimit {
        /// Units one user may have.
        limit: u32,
    },
    /// Before the sale's first moment.
    NotOpen,
    /// After the sale's last moment.
    Closed,
    /// An operator has paused the sale. Nothing was deducted.
    Paused,
    /// It waited too long for its lane. Nothing was deducted.
    Overloaded,
    /// A part of the system is away. Nothing was deducted for this claim.
    Unavailable(Dependency),
    /// The gate has lost the sale and is rebuilt. Nothing was deducted for this claim.
    Rebuilding,
    /// In direct mode: the ledger no longer has the sale, or no longer the order that stood in the way.
    Gone,
    /// The claim may have been reserved, or is reserved and may have been queued, under this order id. If it was, the
    /// recoverer queues it. In direct mode: it may have been committed.
    Unknown { order_id: OrderId },
}

/// A claim and the one who waits for its answer.
pub(crate) struct Ticket {
    pub(crate) claim: Claim,
    /// The recorded trace that the request belongs to.
    pub(crate) trace: Option<TraceParent>,
    pub(crate) since: Instant,
    pub(crate) answer: oneshot::Sender<Answer>,
}

impl Ticket {
    /// A ticket that starts to wait now, and where its answer will come out.
    pub(crate) fn new(claim: Claim) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let trace = current_trace().filter(TraceParent::is_sampled);
        (Self { claim, trace, since: Instant::now(), answer }, receiver)
    }
}

/// Why a claim was not taken in. Nothing was deducted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The lane, or the channel to the direct writers, is full.
    Full,
    /// The gateway is shutting down, or the sale has gone.
    ShuttingDown,
}

impl<T> From<mpsc::error::TrySendError<T>> for NotTaken {
    fn from(error: mpsc::error::TrySendError<T>) -> Self {
        match error {
            mpsc::error::TrySendError::Full(_) => Self::Full,
            mpsc::error::TrySendError::Closed(_) => Self::ShuttingDown,
        }
    }
}

/// A claim as the gateway makes it: a new order id, the present moment.
pub(crate) fn new_claim(sale: SaleId, user_id: UserId, quantity: u32) -> Claim {
    let accepted_at: Timestamp = seckill_core::now();
    Claim { order_id: OrderId::generate_for(sale), user_id, quantity, accepted_at }
}
