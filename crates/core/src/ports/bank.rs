//! The bank: outside of seckill, reached over a network, and sometimes silent.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Fault, OrderId};

/// Charges cards and gives money back. Every call has a key; the bank does what a key asks for once, however often it is asked.
///
/// After [`Fault::Unknown`] it may have done it: ask for the key's state before trying again. After [`Fault::Unavailable`] it has
/// not.
#[async_trait]
pub trait Bank: Send + Sync {
    /// Charges a card.
    async fn charge(&self, charge: &Charge) -> Result<BankAnswer, Fault>;

    /// What became of the charge with this key; `None`: the bank has never heard of it.
    async fn charge_state(&self, key: Uuid) -> Result<Option<BankAnswer>, Fault>;

    /// Gives a charge's money back, or a part of it.
    async fn give_back(&self, refund: &GiveBack) -> Result<BankAnswer, Fault>;

    /// What became of the refund with this key; `None`: the bank has never heard of it.
    async fn give_back_state(&self, key: Uuid) -> Result<Option<BankAnswer>, Fault>;
}

/// Money to take from a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Names it.
    pub key: Uuid,
    /// What it is for.
    pub order_id: OrderId,
    /// In hundredths.
    pub amount_cents: u64,
    /// ISO 4217.
    pub currency: String,
    /// What the bank knows the card by. Never a card's number.
    pub card: String,
}

/// Money to give back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveBack {
    /// Names it.
    pub key: Uuid,
    /// The key of the charge whose money it is.
    pub charge: Uuid,
    /// In hundredths; all that a charge gives back together is its amount at the most.
    pub amount_cents: u64,
}

/// What the bank did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum BankAnswer {
    /// The money has moved.
    Succeeded,
    /// It has not, and will not under this key.
    Declined {
        /// Why, for the buyer.
        reason: String,
    },
}
