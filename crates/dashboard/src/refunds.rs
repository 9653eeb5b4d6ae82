//! The refunds that have not come to their end, as the page shows them: where each one is on its way, and nothing about its buyer.

use seckill_core::money::{MoneyBack, OpenRefunds, Saga, SagaState};
use seckill_core::{OrderId, Timestamp};
use serde::Serialize;

/// Running and held refunds that are shown, of each.
pub(crate) const SHOWN: u32 = 4;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RefundsView {
    running: u64,
    held: u64,
    /// How long the longest held one has waited; `None` where none is held.
    held_age_seconds: Option<f64>,
    newest: Vec<RefundView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct RefundView {
    order_id: OrderId,
    amount_cents: u64,
    step: RefundStep,
    /// Ways in which the money goes back, and how many of them are done.
    transfers: usize,
    transfers_done: usize,
}

/// What a refund waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum RefundStep {
    /// That risk control decides.
    RiskControl,
    /// That the money is back in every way in which it was paid.
    Transfers,
    /// That the order is marked as refunded.
    End,
    /// That a human decides.
    Held,
}

impl From<OpenRefunds> for RefundsView {
    fn from(open: OpenRefunds) -> Self {
        let age = |since: Timestamp| (open.now - since).num_milliseconds().max(0) as f64 / 1_000.0;
        Self {
            running: open.running,
            held: open.held,
            held_age_seconds: open.oldest_held.map(age),
            newest: open.newest.iter().filter_map(RefundView::of).collect(),
        }
    }
}

impl RefundView {
    /// `None` where the saga cannot be read.
    fn of(saga: &Saga) -> Option<Self> {
        let MoneyBack { approved, transfers, .. } = serde_json::from_str(&saga.body).ok()?;
        let done = transfers.iter().filter(|transfer| transfer.done).count();
        let step = match saga.state {
            SagaState::Held => RefundStep::Held,
            _ if !approved => RefundStep::RiskControl,
            _ if done < transfers.len() => RefundStep::Transfers,
            _ => RefundStep::End,
        };
        Some(Self {
            order_id: saga.order_id,
            amount_cents: transfers.iter().map(|transfer| transfer.cents).sum(),
            step,
            transfers: transfers.len(),
            transfers_done: done,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seckill_core::money::{SagaKind, Transfer, Way};
    use seckill_core::{SaleId, UserId, now};
    use serde_json::json;

    use super::*;

    fn saga(state: SagaState, approved: bool, done: [bool; 2]) -> Saga {
        let transfer =
            |way, done| Transfer { way, key: OrderId::generate().0, cents: 500, coupon: None, done };
        let back = MoneyBack {
            sale_id: SaleId(1),
            user_id: UserId(987_654),
            reason: "a secret of the buyer".to_owned(),
            returns_units: true,
            approved,
            decision: None,
            charge: OrderId::generate().0,
            transfers: vec![transfer(Way::Card, done[0]), transfer(Way::Balance, done[1])],
        };
        let body = serde_json::to_string(&back).expect("plain JSON");
        let order_id = OrderId::generate();
        Saga { kind: SagaKind::Refund, order_id, state, due_at: None, attempts: 0, body }
    }

    #[test]
    fn a_refund_is_shown_at_its_step_and_without_its_buyer() {
        let newest = vec![
            saga(SagaState::Running, false, [false, false]),
            saga(SagaState::Running, true, [true, false]),
            saga(SagaState::Running, true, [true, true]),
            saga(SagaState::Held, false, [false, false]),
        ];
        let now = now();
        let oldest_held = Some(now - Duration::from_secs(90));
        let view = json!(RefundsView::from(OpenRefunds { running: 3, held: 1, oldest_held, now, newest }));
        let steps: Vec<_> = view["newest"].as_array().unwrap().iter().map(|one| &one["step"]).collect();
        assert_eq!(steps, ["risk_control", "transfers", "end", "held"]);
        assert_eq!(
            (&view["held_age_seconds"], &view["newest"][0]["amount_cents"]),
            (&json!(90.0), &json!(1_000))
        );
        assert_eq!(
            (&view["newest"][1]["transfers_done"], &view["newest"][1]["transfers"]),
            (&json!(1), &json!(2))
        );
        let text = view.to_string();
        assert!(!text.contains("987654") && !text.contains("secret"), "{text}");
    }
}
