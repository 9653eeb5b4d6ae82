//! What a worker does: take a message, commit it, acknowledge it; open and close its channel.

use crate::state::{Message, Row, State, bits, user};
use crate::{Action, Bounds, Safeguard, Safeguards, gateway};

pub(crate) fn actions(bounds: &Bounds, safeguards: Safeguards, state: &State, actions: &mut Vec<Action>) {
    for at in 0..bounds.workers {
        let worker = &state.workers[at as usize];
        if worker.hand.is_some() {
            actions.push(if worker.committed { Action::Acknowledge(at) } else { Action::Commit(at) });
        } else if worker.consumes {
            actions.extend(state.queue.front.iter().map(|message| Action::Take(at, message)));
            if state.left.duplicates > 0 {
                actions.extend(state.queue.front.iter().map(|message| Action::TakeCopy(at, message)));
            }
            if state.queue.front.is_empty() && state.queue.marker.is_some() {
                actions.push(Action::TakeMarker(at));
            }
            if safeguards.has(Safeguard::StepAside) && state.ledger.owner.is_some_and(|owner| owner != at) {
                actions.push(Action::StepAside(at));
            }
        } else {
            actions.push(Action::Consume(at));
        }
    }
}

pub(crate) fn take(safeguards: Safeguards, state: &mut State, at: u8, message: Message) {
    state.queue.front.remove(message);
    hold(safeguards, state, at, message, safeguards.has(Safeguard::AckAfterCommit));
}

/// A second copy of a message: the first one stays.
pub(crate) fn take_copy(safeguards: Safeguards, state: &mut State, at: u8, message: Message) {
    state.left.duplicates -= 1;
    hold(safeguards, state, at, message, false);
}

fn hold(safeguards: Safeguards, state: &mut State, at: u8, message: Message, unacked: bool) {
    let stale = !safeguards.has(Safeguard::StaleCheckInCommit) && is_stale(safeguards, state, message);
    let worker = &mut state.workers[at as usize];
    worker.hand = Some(message);
    worker.unacked = unacked;
    worker.stale = stale;
}

fn is_stale(safeguards: Safeguards, state: &State, message: Message) -> bool {
    let ledger = &state.ledger;
    if !safeguards.has(Safeguard::StaleCheck) {
        return false;
    }
    if safeguards.has(Safeguard::StaleByOpenEpoch) {
        return message.epoch < ledger.open_epoch;
    }
    ledger.owner.is_none() && message.epoch < ledger.epoch
}

/// One transaction: the order becomes a row, or it is recorded as rejected, or it is known already.
pub(crate) fn commit(bounds: &Bounds, safeguards: Safeguards, state: &mut State, at: u8) -> Option<()> {
    let older = safeguards.has(Safeguard::LedgerNotOlder) && state.gate.epoch > state.ledger.open_epoch;
    if state.lock.is_some() || older {
        return None;
    }
    let worker = state.workers[at as usize];
    let message = worker.hand?;
    let stale = if safeguards.has(Safeguard::StaleCheckInCommit) {
        is_stale(safeguards, state, message)
    } else {
        worker.stale
    };
    let ledger = &mut state.ledger;
    let order = message.order as usize;
    let yields = ledger.rows[order] == Row::Stale && !stale && safeguards.has(Safeguard::StaleYields);
    let known = ledger.rows[order] != Row::Missing && !yields;
    state.workers[at as usize].committed = true;
    state.workers[at as usize].stale = false;
    if known && safeguards.has(Safeguard::PrimaryKey) {
        return Some(());
    }
    let active = ledger.orders(Row::Active);
    let user_has_order = bits(active).any(|other| user(other) == user(message.order));
    let row = if stale {
        Row::Stale
    } else if user_has_order && (safeguards.has(Safeguard::UniqueUser) || known) {
        Row::UserHasOrder
    } else if ledger.sold() >= bounds.stock && safeguards.has(Safeguard::StockLimit) {
        Row::SoldOut
    } else {
        Row::Active
    };
    if known {
        ledger.second_row = true;
    } else {
        ledger.rows[order] = row;
    }
    Some(())
}

/// Reports a rejected order to the gate, then acknowledges.
pub(crate) fn acknowledge(safeguards: Safeguards, state: &mut State, at: u8) -> Option<()> {
    let worker = &mut state.workers[at as usize];
    let message = worker.hand.take()?;
    worker.committed = false;
    worker.unacked = false;
    let row = state.ledger.rows[message.order as usize];
    let final_rejection = match row {
        Row::Missing | Row::Active => false,
        Row::Stale => !safeguards.has(Safeguard::StaleYields),
        Row::UserHasOrder | Row::SoldOut => true,
    };
    if final_rejection {
        gateway::take_back(safeguards, state, message.order, row == Row::SoldOut);
    }
    Some(())
}

/// Opens a consumer. A worker that froze after it had asked the ledger does so on what it knew then.
pub(crate) fn consume(safeguards: Safeguards, state: &mut State, at: u8) -> Option<()> {
    let allowed = state.ledger.owner.is_none_or(|owner| owner == at);
    if !allowed {
        if safeguards.has(Safeguard::ConsumeWindow) || state.left.freezes == 0 {
            return None;
        }
        state.left.freezes -= 1;
    }
    state.workers[at as usize].consumes = true;
    Some(())
}

/// Closes the channel because another worker rebuilds.
pub(crate) fn step_aside(state: &mut State, at: u8) {
    let worker = &mut state.workers[at as usize];
    worker.consumes = false;
    worker.rebuild = None;
}
