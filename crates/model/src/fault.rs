//! What goes wrong: processes that die or freeze, and stores that lose what they have.

use crate::state::{Gate, Queue, State};
use crate::{Action, Bounds, Safeguards};

pub(crate) fn actions(bounds: &Bounds, safeguards: Safeguards, state: &State, actions: &mut Vec<Action>) {
    let left = &state.left;
    for at in 0..bounds.workers {
        if left.crashes > 0 {
            actions.push(Action::WorkerDies(at));
        }
        if left.freezes > 0 && state.workers[at as usize].consumes {
            actions.push(Action::BrokerClosesChannel(at));
            if state.workers[at as usize].hand.is_some() {
                actions.push(Action::ConnectionBreaks(at));
            }
        }
        if left.freezes > 0 && state.lock == Some(at) {
            actions.push(Action::DatabaseEndsSession(at));
        }
    }
    if left.gate_older > 0 && state.older_gate.is_none() {
        actions.push(Action::GateIsSaved);
    }
    if left.ledger_older > 0 && state.backup.is_none() {
        actions.push(Action::LedgerIsSaved);
    }
    if state.lost && !bounds.overlapping_losses && !state.is_whole(safeguards) {
        return;
    }
    if left.gate_wiped > 0 {
        actions.push(Action::GateIsWiped);
    }
    if state.older_gate.is_some() {
        actions.push(Action::GateIsOlder);
    }
    if left.queue_lost > 0 {
        actions.push(Action::QueueIsLost);
    }
    if state.backup.is_some() {
        actions.push(Action::LedgerIsOlder);
    }
}

/// The broker gives what the worker held to others.
fn give_back(state: &mut State, at: u8) {
    let worker = &mut state.workers[at as usize];
    worker.consumes = false;
    let unacked = std::mem::take(&mut worker.unacked);
    if let Some(message) = worker.hand
        && unacked
    {
        state.queue.push(message);
    }
}

pub(crate) fn worker_dies(state: &mut State, at: u8) {
    state.left.crashes -= 1;
    give_back(state, at);
    state.workers[at as usize] = Default::default();
    if state.lock == Some(at) {
        state.lock = None;
    }
}

/// The worker freezes, or its connection breaks. What it has in its memory it still has.
pub(crate) fn broker_closes_channel(safeguards: Safeguards, state: &mut State, at: u8) {
    state.left.freezes -= 1;
    give_back(state, at);
    crate::rebuild::channel_is_lost(safeguards, state, at);
}

/// The worker drops what it held, because it cannot acknowledge it any more.
pub(crate) fn connection_breaks(safeguards: Safeguards, state: &mut State, at: u8) {
    broker_closes_channel(safeguards, state, at);
    let worker = &mut state.workers[at as usize];
    worker.hand = None;
    worker.committed = false;
    worker.stale = false;
}

/// The owner froze inside its transaction. It does not know yet that the lock is gone.
pub(crate) fn database_ends_session(state: &mut State) {
    state.left.freezes -= 1;
    state.lock = None;
}

pub(crate) fn gate_is_wiped(state: &mut State) {
    state.left.gate_wiped -= 1;
    state.gate = Gate::default();
    state.lost = true;
}

pub(crate) fn gate_is_older(state: &mut State) -> Option<()> {
    state.left.gate_older -= 1;
    state.gate = Gate { other_run: true, ..state.older_gate.take()? };
    state.lost = true;
    Some(())
}

/// Workers keep what they have in memory; what they acknowledge is known to nobody.
pub(crate) fn queue_is_lost(state: &mut State) {
    state.left.queue_lost -= 1;
    state.queue = Queue::default();
    for worker in &mut state.workers {
        worker.unacked = false;
    }
    state.lost = true;
}

pub(crate) fn ledger_is_older(state: &mut State) -> Option<()> {
    state.left.ledger_older -= 1;
    state.ledger = state.backup.take()?;
    state.lock = None;
    state.lost = true;
    Some(())
}
