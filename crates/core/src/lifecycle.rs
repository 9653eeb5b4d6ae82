//! What becomes of an order after its commit: paying, running out of time, giving the money back. Pure rules.
//!
//! ```text
//!                     Pay                    RequestRefund                  FinishRefund
//!   committed ───────────────────▶ paid ───────────────────▶ refunding ───────────────────▶ refunded
//!       │                            ▲                        │      ▲
//!       │ Cancel                     │ DenyRefund   HoldRefund│      │ApproveRefund
//!       ▼           Pay              │                        ▼      │
//!   cancelled ──────────────┐        └───────────────────── refund_held
//!                           └──────────────────────────▶ refunding
//! ```
//!
//! Money that comes after an order was cancelled goes back by itself: the order is `refunding` without being active again. An
//! order that is paid is never cancelled.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Claim, OrderId, OrderStatus, SaleId, Timestamp};

/// Why an order was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// It was not paid within the sale's payment window.
    Expired,
    /// Its buyer did not want it any more.
    Buyer,
}

impl CancelReason {
    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Buyer => "buyer",
        }
    }

    /// Reads what [`Self::as_str`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Expired, Self::Buyer].into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Where an order of the ledger stands, and whether it has its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrderState {
    /// Never `queued` or `rejected`: such orders are not rows of the ledger's orders.
    pub status: OrderStatus,
    /// Whether it counts against the stock. One order of a user in a sale is active, at the most.
    pub active: bool,
}

/// What can happen to an order of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All of its amount has been charged.
    Pay,
    /// Its time to pay is over, or its buyer gives it back unpaid.
    Cancel,
    /// Its buyer wants the money back.
    RequestRefund,
    /// A human is to decide about the refund.
    HoldRefund,
    /// A human let a held refund go on.
    ApproveRefund,
    /// A human refused a held refund.
    DenyRefund,
    /// All of the money has gone back.
    FinishRefund,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 7] = [
        Self::Pay,
        Self::Cancel,
        Self::RequestRefund,
        Self::HoldRefund,
        Self::ApproveRefund,
        Self::DenyRefund,
        Self::FinishRefund,
    ];
}

impl OrderState {
    /// The state of an order that was just committed.
    pub const COMMITTED: Self = Self { status: OrderStatus::Committed, active: true };

    /// The state after `step`; `None`: in this state it cannot happen.
    pub fn after(self, step: Step) -> Option<Self> {
        use OrderStatus::{Cancelled, Committed, Paid, RefundHeld, Refunded, Refunding};
        let Self { status, active } = self;
        let (status, active) = match (status, step) {
            (Committed, Step::Pay) => (Paid, true),
            (Committed, Step::Cancel) => (Cancelled, false),
            // The money came too late: it goes back, and the units stay free.
            (Cancelled, Step::Pay) => (Refunding, false),
            (Paid, Step::RequestRefund) => (Refunding, true),
            (Refunding, Step::HoldRefund) => (RefundHeld, active),
            (RefundHeld, Step::ApproveRefund) => (Refunding, active),
            // Money for an order that does not exist any more cannot be kept.
            (RefundHeld, Step::DenyRefund) if active => (Paid, true),
            (Refunding, Step::FinishRefund) => (Refunded, false),
            _ => return None,
        };
        Some(Self { status, active })
    }
}

/// One order of the ledger, with all that the steps after its commit need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord {
    /// The sale it is for.
    pub sale_id: SaleId,
    /// Whose it is, and what for.
    pub claim: Claim,
    /// Price of all its units in hundredths.
    pub amount_cents: u64,
    /// Where it stands.
    pub state: OrderState,
    /// Why it was cancelled, where it was.
    pub cancelled: Option<CancelReason>,
    /// Counts its states from 1. Every event of the order carries it, so a reader sees when one came before its time.
    pub sequence: u32,
    /// When the ledger recorded it, by the ledger's clock.
    pub committed_at: Timestamp,
}

impl OrderRecord {
    /// The record after `step`, for whatever `cancelled` says; `None`: in its state that cannot happen.
    pub fn after(&self, step: Step, cancelled: Option<CancelReason>) -> Option<Self> {
        let state = self.state.after(step)?;
        Some(Self {
            state,
            cancelled: cancelled.or(self.cancelled),
            sequence: self.sequence + 1,
            ..self.clone()
        })
    }

    /// Whether `later`, the same order after one step, has given its units back.
    pub fn ends_with(&self, later: &Self) -> bool {
        self.state.active && !later.state.active
    }
}

/// An order whose time to pay is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overdue {
    /// The last moment for paying it, by the ledger's clock.
    pub pay_by: Timestamp,
    /// The order.
    pub order_id: OrderId,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use OrderStatus::{Cancelled, Committed, Paid, RefundHeld, Refunded, Refunding};

    /// Every state that can be reached, with the steps that lead there.
    fn reachable() -> HashSet<OrderState> {
        let mut seen = HashSet::from([OrderState::COMMITTED]);
        let mut open = vec![OrderState::COMMITTED];
        while let Some(state) = open.pop() {
            for next in Step::ALL.into_iter().filter_map(|step| state.after(step)) {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    }

    #[test]
    fn these_are_all_the_states() {
        let state = |status, active| OrderState { status, active };
        let all = HashSet::from([
            state(Committed, true),
            state(Paid, true),
            state(Cancelled, false),
            state(Refunding, true),
            state(Refunding, false),
            state(RefundHeld, true),
            state(RefundHeld, false),
            state(Refunded, false),
        ]);
        assert_eq!(reachable(), all);
    }

    #[test]
    fn these_are_all_the_transitions() {
        let mut table = Vec::new();
        for state in reachable() {
            for step in Step::ALL {
                if let Some(next) = state.after(step) {
                    let mark = if state.active { "" } else { " (not active)" };
                    table.push(format!("{:?}{mark} {step:?} {:?}", state.status, next.status));
                }
            }
        }
        table.sort();
        assert_eq!(
            table,
            [
                "Cancelled (not active) Pay Refunding",
                "Committed Cancel Cancelled",
                "Committed Pay Paid",
                "Paid RequestRefund Refunding",
                "RefundHeld (not active) ApproveRefund Refunding",
                "RefundHeld ApproveRefund Refunding",
                "RefundHeld DenyRefund Paid",
                "Refunding (not active) FinishRefund Refunded",
                "Refunding (not active) HoldRefund RefundHeld",
                "Refunding FinishRefund Refunded",
                "Refunding HoldRefund RefundHeld",
            ]
        );
    }

    proptest! {
        /// Whatever is tried in whatever order: units are given back once and never taken again, money that came in goes back
        /// before the order ends, and nothing paid is cancelled.
        #[test]
        fn units_come_back_once_and_money_is_never_kept_for_nothing(
            steps in prop::collection::vec(prop::sample::select(Step::ALL.to_vec()), 0..40)
        ) {
            let (mut state, mut money, mut given_back) = (OrderState::COMMITTED, false, 0);
            for step in steps {
                let Some(next) = state.after(step) else { continue };
                if step == Step::Pay {
                    prop_assert!(!money, "paid twice");
                    money = true;
                }
                if step == Step::FinishRefund {
                    prop_assert!(money, "nothing to give back");
                    money = false;
                }
                prop_assert!(state.active || !next.active, "units were taken again");
                given_back += i32::from(state.active && !next.active);
                prop_assert!(!(money && next.status == Cancelled), "money for a cancelled order is kept");
                state = next;
            }
            prop_assert_eq!(given_back, i32::from(!state.active));
            let keeps_money = matches!(state.status, Paid | Refunding | RefundHeld);
            prop_assert_eq!(money, keeps_money);
            prop_assert!(!(money && state.status == Refunded));
        }
    }
}
