//! What goes wrong: faults of a back end, and wrong fields in a request. Outcomes such as "sold out" are not errors.

use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

/// A back end that the order's path depends on; its `Display` is the name that users know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// Where stock is pre-deducted.
    Gate,
    /// Where accepted orders wait.
    Queue,
    /// Where orders become true.
    Ledger,
    /// Charges cards. It is outside of seckill.
    Bank,
    /// Carries events to subscribers.
    Events,
    /// Where processes report how they are. No order depends on it.
    ControlPlane,
    /// Where buyers wait for a sale. No order depends on it.
    WaitingRooms,
    /// Where workers lease their shares of the drain rate. No order depends on it.
    CapacityLeases,
}

impl std::fmt::Display for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gate => "gate",
            Self::Queue => "queue",
            Self::Ledger => "ledger",
            Self::Bank => "bank",
            Self::Events => "event bus",
            Self::ControlPlane => "control plane",
            Self::WaitingRooms => "waiting room",
            Self::CapacityLeases => "budget of the drain rate",
        })
    }
}

/// A back end failed. What the caller may conclude differs by variant, and that is all that the variants are for.
#[derive(Debug, Clone, Error)]
pub enum Fault {
    /// Nothing was changed: the call did not reach the back end, or was refused before it had an effect.
    #[error("the {dependency} is unavailable: {reason}")]
    Unavailable {
        /// Who failed.
        dependency: Dependency,
        /// Why, for an operator.
        reason: String,
    },
    /// The back end answers, and refuses what this program was told to use: a wrong password, a missing database, an old
    /// schema. Nothing was changed; it will not get better by waiting, only by somebody doing something about it.
    #[error("the {dependency} cannot be used: {reason}")]
    Misconfigured {
        /// Who refused.
        dependency: Dependency,
        /// Why, and what to do, for an operator.
        reason: String,
    },
    /// The gate has no data for a sale that it should have, or data that cannot be trusted. Nothing was changed; a worker rebuilds
    /// the gate.
    #[error("the {dependency} has lost this sale: {reason}")]
    Lost {
        /// Who failed.
        dependency: Dependency,
        /// What is wrong with its data, for an operator.
        reason: String,
    },
    /// The call may or may not have taken effect, now or later.
    #[error("the {dependency} did not say how the call ended: {reason}")]
    Unknown {
        /// Who failed.
        dependency: Dependency,
        /// Why, for an operator.
        reason: String,
    },
    /// The back end answered something that this program never writes. Nothing was changed; trying again will not help.
    #[error("the {dependency} holds data that seckill cannot read: {reason}")]
    Corrupt {
        /// Who failed.
        dependency: Dependency,
        /// What was found, for an operator.
        reason: String,
    },
}

impl Fault {
    /// A fault after which nothing has changed.
    pub fn unavailable(dependency: Dependency, reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { dependency, reason: reason.to_string() }
    }

    /// A refusal that waiting does not cure.
    pub fn misconfigured(dependency: Dependency, reason: impl std::fmt::Display) -> Self {
        Self::Misconfigured { dependency, reason: reason.to_string() }
    }

    /// A fault after which anything may have happened.
    pub fn unknown(dependency: Dependency, reason: impl std::fmt::Display) -> Self {
        Self::Unknown { dependency, reason: reason.to_string() }
    }

    /// Data that is gone or cannot be trusted.
    pub fn lost(dependency: Dependency, reason: impl std::fmt::Display) -> Self {
        Self::Lost { dependency, reason: reason.to_string() }
    }

    /// Unreadable data.
    pub fn corrupt(dependency: Dependency, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { dependency, reason: reason.to_string() }
    }

    /// Whether the call may have taken effect all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// One wrong field of a request, and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field's name in the request.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl FieldError {
    /// `message` says what is wrong with `field` and what is allowed.
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}
