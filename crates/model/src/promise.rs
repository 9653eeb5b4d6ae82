//! The promises, each a property that must hold in every state.

use crate::state::{Row, State};
use crate::{Protocol, heal};

/// Active orders never exceed the stock, in the ledger.
pub const NEVER_OVERSOLD: &str = "never oversold";
/// No user has two active orders.
pub const ONE_ORDER_A_USER: &str = "one order a user";
/// No order id has two rows.
pub const ONE_ROW_AN_ID: &str = "one row an id";
/// An order that was promised is never rejected, and at rest it is an active order.
pub const NEVER_LOST: &str = "never lost";
/// At rest the stock is what the gate has left and what is sold, and the gate holds exactly the active orders.
pub const CONSERVED: &str = "conserved";
/// No user is promised two different order ids.
pub const SAME_ANSWER: &str = "same answer";
/// Without further faults and orders, the system comes to rest.
pub const HEALS: &str = "heals";

pub(crate) fn never_oversold(model: &Protocol, state: &State) -> bool {
    state.ledger.sold() <= model.bounds.stock
}

pub(crate) fn one_order_a_user(_: &Protocol, state: &State) -> bool {
    no_user_twice(state.ledger.orders(Row::Active))
}

pub(crate) fn one_row_an_id(_: &Protocol, state: &State) -> bool {
    !state.ledger.second_row
}

pub(crate) fn never_lost(model: &Protocol, state: &State) -> bool {
    if model.bounds.overlapping_losses {
        return true;
    }
    let active = state.ledger.orders(Row::Active);
    let missing = state.ledger.without_row(model.safeguards);
    let rejected = state.promised & !active & !missing;
    let lost = state.promised & !active != 0 && state.is_at_rest(model.safeguards);
    rejected == 0 && !lost
}

pub(crate) fn conserved(model: &Protocol, state: &State) -> bool {
    let active = state.ledger.orders(Row::Active);
    let whole = state.gate.left + state.ledger.sold() == model.bounds.stock && state.gate.holders == active;
    whole || model.bounds.overlapping_losses || !state.is_at_rest(model.safeguards)
}

pub(crate) fn same_answer(model: &Protocol, state: &State) -> bool {
    model.bounds.overlapping_losses || no_user_twice(state.promised)
}

fn no_user_twice(orders: u8) -> bool {
    orders & orders >> 1 & 0b01_0101 == 0
}

pub(crate) fn heals(model: &Protocol, state: &State) -> bool {
    !model.healing || heal::comes_to_rest(model, state)
}
