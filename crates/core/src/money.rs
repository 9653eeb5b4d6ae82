//! Money: how an order is paid and how the money goes back. Both take several steps, one of them at a bank outside, so each is a
//! saga: its state is a row of the ledger, and whoever finds the row can go on with it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{OrderId, SaleId, Timestamp, UserId};

/// What a saga is about. An order has one of each kind at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SagaKind {
    /// Paying the order. Its body is a [`Payment`].
    Payment,
    /// Giving the order's money back. Its body is a [`MoneyBack`].
    Refund,
}

impl SagaKind {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Payment, Self::Refund].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a saga stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SagaState {
    /// Steps are left.
    Running,
    /// A human is to decide.
    Held,
    /// It has come to its end.
    Succeeded,
    /// It has ended without its purpose, and everything that it took has been given back.
    Failed,
}

impl SagaState {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Held, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// One saga, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saga {
    /// What it is about.
    pub kind: SagaKind,
    /// The order.
    pub order_id: OrderId,
    /// Where it stands.
    pub state: SagaState,
    /// When somebody has to look after it, by the ledger's clock, where its next step has not been heard of; `None`: nobody has.
    /// Where it is held: since when a human is to decide.
    pub due_at: Option<Timestamp>,
    /// How often somebody has.
    pub attempts: u32,
    /// A [`Payment`] or a [`MoneyBack`] in JSON.
    pub body: String,
}

/// The refunds that have not come to their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRefunds {
    /// Refunds with steps left.
    pub running: u64,
    /// Refunds that wait for a human.
    pub held: u64,
    /// Since when the longest held one waits.
    pub oldest_held: Option<Timestamp>,
    /// The ledger's clock.
    pub now: Timestamp,
    /// The newest running ones by order id, and then the newest held ones.
    pub newest: Vec<Saga>,
}

/// The ways in which an order can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A card, charged by the bank.
    Card,
    /// What the user has with us.
    Balance,
    /// A coupon, which is used as a whole.
    Coupon,
}

impl Way {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Balance => "balance",
            Self::Coupon => "coupon",
        }
    }
}

/// The amounts of one payment, by the way in which they are paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Parts {
    /// Charged to the card.
    pub card_cents: u64,
    /// Taken from the user's balance.
    pub balance_cents: u64,
    /// Worth of the coupon.
    pub coupon_cents: u64,
}

impl Parts {
    /// All of it; `None`: more than fits.
    pub fn total(self) -> Option<u64> {
        self.card_cents.checked_add(self.balance_cents)?.checked_add(self.coupon_cents)
    }

    /// Each way with its amount, without those that are not used.
    pub fn ways(self) -> impl Iterator<Item = (Way, u64)> {
        let all = [
            (Way::Card, self.card_cents),
            (Way::Balance, self.balance_cents),
            (Way::Coupon, self.coupon_cents),
        ];
        all.into_iter().filter(|(_, cents)| *cents > 0)
    }
}

/// How an order is paid: the body of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The sale.
    pub sale_id: SaleId,
    /// Who pays.
    pub user_id: UserId,
    /// The idempotency key of the request, which gets its answer when the payment ends.
    pub request_key: String,
    /// ISO 4217.
    pub currency: String,
    /// What is paid in which way; together the order's amount.
    pub parts: Parts,
    /// What the bank knows the card by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// The coupon's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<String>,
    /// The key of the charge at the bank.
    pub charge: Uuid,
    /// Why it failed, for the buyer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How an order's money goes back: the body of a saga.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoneyBack {
    /// The sale.
    pub sale_id: SaleId,
    /// Who gets the money.
    pub user_id: UserId,
    /// Why the buyer wants it, or that it came too late.
    pub reason: String,
    /// Whether the order's units go back on sale at the end.
    pub returns_units: bool,
    /// Whether the money may go back.
    pub approved: bool,
    /// Who decided, and why, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The key of the charge whose money goes back to the card.
    pub charge: Uuid,
    /// One for each way in which the order was paid.
    pub transfers: Vec<Transfer>,
}

/// One part of the money on its way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transfer {
    /// Where it goes.
    pub way: Way,
    /// Names it, in the entries and at the bank.
    pub key: Uuid,
    /// How much.
    pub cents: u64,
    /// The coupon that is valid again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<String>,
    /// Whether it is there.
    pub done: bool,
}

/// One line of double-entry bookkeeping. The entries of one transfer sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The charge or the transfer that it belongs to.
    pub transfer: Uuid,
    /// The order.
    pub order_id: OrderId,
    /// Its sale.
    pub sale_id: SaleId,
    /// `bank`, `coupons`, `user:7`, or `sale:3`.
    pub account: String,
    /// Money that came into the account; below 0: that left it.
    pub cents: i64,
}

/// The account of a sale's income. Income leaves it to the other side, so it is negative there.
pub fn sale_account(sale: SaleId) -> String {
    format!("sale:{sale}")
}

/// The account for one way of paying.
pub fn way_account(way: Way, user: UserId) -> String {
    match way {
        Way::Card => "bank".to_owned(),
        Way::Balance => format!("user:{user}"),
        Way::Coupon => "coupons".to_owned(),
    }
}

/// The entries of money that comes in for an order (`sign` 1) or goes back (`sign` -1).
pub fn entries(
    transfer: Uuid,
    order_id: OrderId,
    sale_id: SaleId,
    user: UserId,
    ways: impl Iterator<Item = (Way, u64)>,
    sign: i64,
) -> Vec<Entry> {
    let entry = |account: String, cents: i64| Entry { transfer, order_id, sale_id, account, cents };
    let signed = |cents: u64| sign * i64::try_from(cents).unwrap_or(i64::MAX);
    let mut entries: Vec<Entry> =
        ways.map(|(way, cents)| entry(way_account(way, user), signed(cents))).collect();
    let total: i64 = entries.iter().map(|entry| entry.cents).sum();
    if total != 0 {
        entries.push(entry(sale_account(sale_id), -total));
    }
    entries
}

/// The money of one sale, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Money {
    /// Came in for orders of the sale, in hundredths.
    pub charged_cents: u64,
    /// Went back.
    pub refunded_cents: u64,
    /// Amounts of the orders that are paid.
    pub paid_cents: u64,
    /// Amounts of the orders whose money is going back, as a whole.
    pub refunding_cents: u64,
    /// All entries added up: 0.
    pub entries_sum: i64,
    /// Transfers whose own entries do not add up to zero: 0.
    pub unbalanced: u64,
}

impl Money {
    /// What is wrong, in sentences. While refunds run, a part of their money has gone back already.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.entries_sum != 0 || self.unbalanced != 0 {
            findings.push(format!(
                "the entries of the sale sum to {} and not to 0; {} transfers are unbalanced",
                self.entries_sum, self.unbalanced
            ));
        }
        let held = i128::from(self.charged_cents) - i128::from(self.refunded_cents);
        let (least, most) =
            (i128::from(self.paid_cents), i128::from(self.paid_cents) + i128::from(self.refunding_cents));
        if held < least || held > most {
            findings.push(format!(
                "{} cents were charged and {} refunded, but the paid orders amount to {} and {} are going back",
                self.charged_cents, self.refunded_cents, self.paid_cents, self.refunding_cents
            ));
        }
        findings
    }
}

/// What a request with an idempotency key is: the same key has the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Nobody has sent it before.
    New,
    /// It was sent before, with the same body, and answered so; `None`: it is still under way.
    Repeated(Option<String>),
    /// The key was used for another body.
    Differs,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_entries_of_a_transfer_sum_to_zero(card in 0..1_000_000u64, balance in 0..1_000u64, coupon in 0..1_000u64) {
            let parts = Parts { card_cents: card, balance_cents: balance, coupon_cents: coupon };
            let id = OrderId(Uuid::nil());
            for sign in [1, -1] {
                let entries = entries(Uuid::nil(), id, SaleId(1), UserId(7), parts.ways(), sign);
                prop_assert_eq!(entries.iter().map(|entry| entry.cents).sum::<i64>(), 0);
                prop_assert!(entries.iter().all(|entry| entry.cents != 0));
            }
        }
    }

    #[test]
    fn money_that_is_missing_or_too_much_is_found() {
        let good = Money { charged_cents: 500, refunded_cents: 200, paid_cents: 300, ..Money::default() };
        assert!(good.findings().is_empty());
        assert_eq!(Money { paid_cents: 200, ..good }.findings().len(), 1);
        assert_eq!(Money { paid_cents: 400, ..good }.findings().len(), 1);
        assert!(Money { paid_cents: 200, refunding_cents: 100, ..good }.findings().is_empty());
        assert!(Money { paid_cents: 200, refunding_cents: 200, ..good }.findings().is_empty());
        assert_eq!(Money { entries_sum: 1, ..good }.findings().len(), 1);
    }
}
