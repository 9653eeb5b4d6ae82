//! One flash sale of one product, and its states. What somebody may open is in `new`, what may change later in `change`.

mod change;
mod new;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Admission, Timestamp};

pub use change::{NotChanged, SaleChange, SaleChanged};
pub use new::NewSale;

/// Names one sale; given by the ledger, counting from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SaleId(pub u64);

impl SaleId {
    /// The lowest 16 bits: what the ids of its orders carry.
    pub fn low_bits(self) -> u16 {
        let [.., high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

impl std::fmt::Display for SaleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which filling of the gate a sale is on. 0: the gate has not been opened yet, and no order may be taken. A gate that
/// lost its data is told from one that never had any by this number, so it is never filled a second time by mistake.
pub type Epoch = u32;

/// The path that a sale's orders take. It is chosen when the sale is created and never changes: gateways sell the sales of
/// their own mode and refuse the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Gate, queue, and a worker behind it: the peak is shaved.
    #[default]
    Queue,
    /// Every order straight into the ledger, without a gate: what the shaved peak is compared with.
    Direct,
}

impl Mode {
    /// What a ledger stores as the epoch of a new sale. A direct sale stores the highest number, so that programs that do
    /// not know the mode never fill a gate for it.
    pub fn stored_epoch(self) -> Epoch {
        match self {
            Self::Queue => 0,
            Self::Direct => Epoch::MAX,
        }
    }

    /// Reads what a ledger has stored: the mode, and the epoch of the gate.
    pub fn from_stored_epoch(stored: Epoch) -> (Self, Epoch) {
        if stored == Epoch::MAX { (Self::Direct, 0) } else { (Self::Queue, stored) }
    }
}

/// What a sale's gate can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// The gate takes claims, within the sale's window.
    #[default]
    Open,
    /// The gate was lost, and a worker fills it again from ledger and queue. No claim is taken meanwhile.
    Rebuilding,
    /// The sale is over, its audit was clean, and its gate has been removed. Retries are answered from the ledger.
    ClosedOut,
}

impl SaleState {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Rebuilding => "rebuilding",
            Self::ClosedOut => "closed_out",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Rebuilding, Self::ClosedOut].into_iter().find(|state| state.as_str() == text)
    }
}

/// What the rebuild of a sale's gate is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebuildStep {
    /// No worker has taken it up yet, or the one that had is gone.
    Waiting,
    /// What the old gate still holds and the ledger lacks is sent again.
    Resending,
    /// The time passes within which a gateway could still confirm an order of the old gate.
    Settling,
    /// The queue is drained up to a marker.
    Draining,
    /// The gate is filled from the ledger.
    Filling,
}

impl RebuildStep {
    const ALL: [Self; 5] = [Self::Waiting, Self::Resending, Self::Settling, Self::Draining, Self::Filling];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Resending => "resending",
            Self::Settling => "settling",
            Self::Draining => "draining",
            Self::Filling => "filling",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }
}

/// How far the rebuild of a sale's gate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebuild {
    /// What it is doing.
    pub step: RebuildStep,
    /// Orders that this step has done.
    pub done: u64,
    /// Orders that this step has to do; `None`: not known.
    pub total: Option<u64>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The worker that does it, while its lease holds.
    pub owner: Option<Uuid>,
}

/// One flash sale of one product, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sale {
    /// Its name for the system.
    pub id: SaleId,
    /// Its name for people.
    pub name: String,
    /// What is sold.
    pub product: String,
    /// Units on sale.
    pub stock: u32,
    /// Units of active orders in the ledger.
    pub sold: u32,
    /// Active orders in the ledger.
    pub orders: u64,
    /// Orders that the ledger has rejected.
    pub rejected_orders: u64,
    /// How long after its commit an order can be paid, in milliseconds; `None`: the sale has no payments, and a committed order
    /// stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_window_ms: Option<u64>,
    /// Orders that were active once and are not any more.
    #[serde(default, skip_serializing_if = "Ended::is_none")]
    pub ended: Ended,
    /// Who may order.
    #[serde(flatten)]
    pub admission: Admission,
    /// The price of one unit in hundredths of `currency`.
    pub price_cents: u64,
    /// ISO 4217.
    pub currency: String,
    /// Units that one user may order.
    pub per_user_limit: u32,
    /// The first moment of the sale.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// The first moment after the sale.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// The path of its orders.
    #[serde(default)]
    pub mode: Mode,
    /// The epoch of its gate; 0: the gate has not been filled yet.
    pub epoch: Epoch,
    /// What its gate can be used for.
    #[serde(default)]
    pub state: SaleState,
    /// How far the rebuild is; `None` unless the state is `rebuilding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Rebuild>,
    /// The epoch in which it was open last; orders of earlier ones are stale.
    #[serde(default)]
    pub open_epoch: Epoch,
    /// When the ledger took it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Whether buyers are asked to come back later. Who holds an order still gets it.
    #[serde(default)]
    pub paused: bool,
    /// Counts the changes that operators have made since it was created. A gate that has applied a smaller number lacks a
    /// change.
    #[serde(default)]
    pub revision: u32,
}

impl Sale {
    /// What becomes of `new` in queue mode under the id `id`: nothing is sold, and its gate is not filled yet.
    pub fn new(id: SaleId, new: NewSale) -> Self {
        Self {
            id,
            product: new.product().to_owned(),
            admission: new.admission(),
            name: new.name,
            stock: new.stock,
            sold: 0,
            orders: 0,
            rejected_orders: 0,
            payment_window_ms: new.payment_window_ms,
            ended: Ended::default(),
            price_cents: new.price_cents,
            currency: new.currency,
            per_user_limit: new.per_user_limit,
            starts_at: new.starts_at,
            ends_at: new.ends_at,
            mode: Mode::Queue,
            epoch: 0,
            state: SaleState::Open,
            rebuild: None,
            open_epoch: 0,
            created_at: crate::now(),
            paused: false,
            revision: 0,
        }
    }

    /// Whether it has a gate that has to be looked after.
    pub fn has_gate(&self) -> bool {
        self.mode == Mode::Queue && self.epoch > 0 && self.state != SaleState::ClosedOut
    }

    /// Where `now` lies relative to the sale's window.
    pub fn phase(&self, now: Timestamp) -> Phase {
        // The end first: a sale that was closed before its start has its end before its start.
        if now >= self.ends_at {
            Phase::Closed
        } else if now < self.starts_at {
            Phase::Upcoming
        } else {
            Phase::Open
        }
    }
}

/// The orders of one sale that were active and are not any more: cancelled or refunded. The numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// Such orders.
    pub orders: u64,
    /// Their units.
    pub units: u64,
    /// Of these, orders that the gate has taken back.
    pub returned_orders: u64,
    /// The units of those, which are on sale again.
    pub returned_units: u64,
}

impl Ended {
    /// Whether no order has ended.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Orders that the gate holds although they have ended.
    pub fn returning_orders(&self) -> u64 {
        self.orders.saturating_sub(self.returned_orders)
    }

    /// Units that the gate has set aside for orders that have ended.
    pub fn returning_units(&self) -> u64 {
        self.units.saturating_sub(self.returned_units)
    }
}

/// Where a moment lies relative to a sale's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before `starts_at`, unless it has ended already.
    Upcoming,
    /// From `starts_at` up to, not including, `ends_at`.
    Open,
    /// From `ends_at` on.
    Closed,
}

#[cfg(test)]
mod tests;
