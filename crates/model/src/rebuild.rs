//! The rebuild of a lost gate, step by step as its owner does it.

use crate::state::{Gate, Message, Phase, Rebuild, Row, State, Step, bits};
use crate::{Action, Bounds, Safeguard, Safeguards};

pub(crate) fn actions(bounds: &Bounds, state: &State, actions: &mut Vec<Action>) {
    for at in 0..bounds.workers {
        let worker = &state.workers[at as usize];
        // The workers are alike, so the first rebuild may as well be that of the first one.
        if state.left.rebuilds > 0 && (at == 0 || state.left.rebuilds < bounds.rebuilds) {
            actions.push(Action::BeginRebuild(at));
        }
        if let Some(rebuild) = worker.rebuild {
            actions.push(Action::Rebuild(at, rebuild.step));
            if !is_owner(state, at, rebuild.epoch) {
                actions.push(Action::GiveRebuildUp(at));
            }
        }
    }
}

fn is_owner(state: &State, at: u8, epoch: u8) -> bool {
    state.ledger.owner == Some(at) && state.ledger.epoch == epoch
}

/// Step 1: compare-and-set in the ledger.
pub(crate) fn begin(safeguards: Safeguards, state: &mut State, at: u8) -> Option<()> {
    if state.lock.is_some() || state.workers[at as usize].rebuild.is_some() {
        return None;
    }
    match state.ledger.owner {
        // The lease of a live owner runs out only if it is frozen.
        Some(owner) if owner != at && state.workers[owner as usize].rebuild.is_some() => {
            state.left.freezes = state.left.freezes.checked_sub(1)?;
        }
        Some(_) => {}
        None if state.is_open(safeguards) => state.left.by_hand = state.left.by_hand.checked_sub(1)?,
        None => {}
    }
    state.left.rebuilds -= 1;
    let (ledger, gate) = (&mut state.ledger, &state.gate);
    if ledger.owner.is_none() || safeguards.has(Safeguard::OwnEpoch) {
        ledger.epoch += 1;
        if safeguards.has(Safeguard::EpochAboveGate) {
            ledger.epoch = ledger.epoch.max(gate.epoch + 1).max(gate.closed_for + 1);
        }
    }
    if safeguards.has(Safeguard::LedgerNotOlder) {
        ledger.open_epoch = ledger.open_epoch.max(gate.epoch);
    }
    ledger.owner = Some(at);
    state.workers[at as usize].rebuild = Some(Rebuild { epoch: ledger.epoch, step: Step::Close });
    Some(())
}

/// The next step of the owner. An owner that finds out that it is the owner no more gives up.
pub(crate) fn step(bounds: &Bounds, safeguards: Safeguards, state: &mut State, at: u8) -> Option<()> {
    let Rebuild { epoch, step } = state.workers[at as usize].rebuild?;
    let next = match step {
        Step::Close => close_gate(safeguards, state, epoch),
        Step::SendAgain => Some(send_again(safeguards, state)),
        Step::Wait => Some(wait(safeguards, state)),
        Step::Mark => Some(mark(safeguards, state, at)?),
        Step::Drain if state.queue.marker == Some(at) => return None,
        // The marker was lost with the queue.
        Step::Drain => Some(Step::Mark),
        Step::Read if state.lock.is_some() => return None,
        Step::Read => read(safeguards, state, at, epoch),
        Step::Fill(active) => fill(bounds, safeguards, state, epoch, active),
        Step::Open => open(safeguards, state, at, epoch),
    };
    if state.lock == Some(at) && !matches!(next, Some(Step::Fill(_) | Step::Open)) {
        state.lock = None;
    }
    state.workers[at as usize].rebuild = next.map(|step| Rebuild { epoch, step });
    Some(())
}

fn close_gate(safeguards: Safeguards, state: &mut State, epoch: u8) -> Option<Step> {
    if safeguards.has(Safeguard::CloseGate) {
        let gate = &mut state.gate;
        if gate.epoch > epoch || gate.closed_for > epoch {
            return None;
        }
        if gate.epoch < epoch {
            gate.closed_for = epoch;
        }
    }
    Some(Step::SendAgain)
}

fn send_again(safeguards: Safeguards, state: &mut State) -> Step {
    if safeguards.has(Safeguard::SendHeldAgain) && holds_promises(safeguards, state) {
        let epoch = state.gate.epoch;
        for order in bits(state.held_without_row(safeguards)) {
            state.queue.push(Message { order, epoch });
        }
    }
    Step::Wait
}

/// A gate that is older than the sale was last open holds nothing that is not in the ledger.
fn holds_promises(safeguards: Safeguards, state: &State) -> bool {
    let current = state.gate.epoch >= state.ledger.open_epoch || !safeguards.has(Safeguard::IgnoreOlderGate);
    state.gate.epoch > 0 && current
}

fn wait(safeguards: Safeguards, state: &mut State) -> Step {
    if safeguards.has(Safeguard::AnswerWindow) {
        for lane in state.lanes.iter_mut().flatten().filter(|lane| lane.phase != Phase::Replayed) {
            lane.answers = false;
        }
    }
    Step::Mark
}

fn mark(safeguards: Safeguards, state: &mut State, at: u8) -> Option<Step> {
    if !safeguards.has(Safeguard::Marker) {
        return Some(Step::Read);
    }
    let others = safeguards.has(Safeguard::StepAside) && state.workers[1 - at as usize].consumes;
    if others || !state.workers[at as usize].consumes {
        return None;
    }
    state.queue.remove_marker();
    state.queue.marker = Some(at);
    Some(Step::Drain)
}

/// The marker comes to a worker that has committed everything it took before.
pub(crate) fn take_marker(safeguards: Safeguards, state: &mut State, at: u8) {
    let mine = state.queue.marker == Some(at);
    state.queue.remove_marker();
    let others = safeguards.has(Safeguard::StepAside) && state.workers[1 - at as usize].consumes;
    if let Some(rebuild) = &mut state.workers[at as usize].rebuild
        && rebuild.step == Step::Drain
        && mine
    {
        rebuild.step = if others { Step::Mark } else { Step::Read };
    }
}

/// Locks the sale and reads it. Under the lock, every order that the old gate holds must have a row.
fn read(safeguards: Safeguards, state: &mut State, at: u8, epoch: u8) -> Option<Step> {
    if !is_owner(state, at, epoch) {
        return None;
    }
    let all_recorded = state.gate.epoch >= epoch
        || !holds_promises(safeguards, state)
        || state.held_without_row(safeguards) == 0;
    if !all_recorded && safeguards.has(Safeguard::HeldRecorded) {
        return Some(Step::SendAgain);
    }
    if safeguards.has(Safeguard::StaleFromRead) {
        state.ledger.open_epoch = epoch;
    }
    if safeguards.has(Safeguard::OpenUnderLock) {
        state.lock = Some(at);
    }
    Some(Step::Fill(state.ledger.orders(Row::Active)))
}

fn fill(bounds: &Bounds, safeguards: Safeguards, state: &mut State, epoch: u8, active: u8) -> Option<Step> {
    let gate = &mut state.gate;
    if safeguards.has(Safeguard::FillGuard) {
        if gate.epoch == epoch {
            return Some(Step::Open);
        }
        let closed_for_me = gate.closed_for == epoch || !safeguards.has(Safeguard::CloseGate);
        if gate.epoch > epoch || !closed_for_me {
            return None;
        }
    }
    let units = bounds.stock.saturating_sub(active.count_ones() as u8);
    *gate = Gate { epoch, left: units, holders: active, ..Gate::default() };
    Some(Step::Open)
}

fn open(safeguards: Safeguards, state: &mut State, at: u8, epoch: u8) -> Option<Step> {
    let locked = state.lock == Some(at) || !safeguards.has(Safeguard::OpenUnderLock);
    if is_owner(state, at, epoch) && locked {
        state.ledger.owner = None;
        state.ledger.open_epoch = epoch;
        state.opened |= 1 << epoch;
    }
    None
}

/// What a closed channel gives back comes behind the marker, so the owner needs a new marker.
pub(crate) fn channel_is_lost(safeguards: Safeguards, state: &mut State, at: u8) {
    if let Some(rebuild) = &mut state.workers[at as usize].rebuild
        && rebuild.step == Step::Drain
        && safeguards.has(Safeguard::MarkerPerChannel)
    {
        rebuild.step = Step::Mark;
    }
}

/// The owner looks into the ledger and finds another one there.
pub(crate) fn give_up(state: &mut State, at: u8) {
    state.workers[at as usize].rebuild = None;
    if state.lock == Some(at) {
        state.lock = None;
    }
}
