//! What a gateway's lane does, one claim at a time; the recoverer and the reconciler use a lane too.

use crate::state::{Lane, Message, Phase, State, bits, user};
use crate::{Action, Bounds, Safeguard, Safeguards};

pub(crate) fn actions(bounds: &Bounds, safeguards: Safeguards, state: &State, actions: &mut Vec<Action>) {
    for at in 0..bounds.lanes {
        match state.lanes[at as usize] {
            None => idle_actions(bounds, safeguards, state, at, actions),
            Some(lane) => {
                actions.push(Action::GatewayDies(at));
                match lane.phase {
                    Phase::Deducted => actions.push(Action::LogPending(at)),
                    Phase::Reserved => actions.push(Action::Publish(at)),
                    Phase::Confirmed if !lane.answers => actions.push(Action::Settle(at)),
                    Phase::Confirmed | Phase::Replayed => {}
                }
                let confirmed = matches!(lane.phase, Phase::Confirmed | Phase::Replayed);
                let early = lane.phase != Phase::Deducted && !safeguards.has(Safeguard::AnswerAfterConfirm);
                if lane.answers && (confirmed || early) {
                    actions.push(Action::Answer(at));
                }
            }
        }
    }
}

fn idle_actions(bounds: &Bounds, safeguards: Safeguards, state: &State, lane: u8, actions: &mut Vec<Action>) {
    for user in 0..bounds.users {
        for epoch in 1..=5 {
            if state.opened & 1 << epoch != 0 {
                actions.push(Action::Reserve { lane, user, epoch });
            }
        }
    }
    if state.gate.epoch > 0 {
        actions.extend(bits(state.gate.pending).map(|order| Action::Recover { lane, order }));
    }
    if safeguards.has(Safeguard::Reconcile) && state.is_open(safeguards) {
        let lacking = state.held_without_row(safeguards) & !state.gate.pending;
        actions.extend(
            bits(lacking)
                .filter(|order| !state.is_queued(*order))
                .map(|order| Action::Reconcile { lane, order }),
        );
    }
}

/// `reserve` on the gate, by a gateway that believes the sale is open on `epoch`.
pub(crate) fn reserve(
    bounds: &Bounds,
    safeguards: Safeguards,
    state: &mut State,
    at: u8,
    buyer: u8,
    epoch: u8,
) -> Option<()> {
    let gate = &mut state.gate;
    let fails_closed = gate.epoch == 0
        || gate.closed_for != 0
        || gate.other_run && safeguards.has(Safeguard::RunCheck)
        || gate.epoch != epoch && safeguards.has(Safeguard::EpochCheck);
    if fails_closed {
        return None;
    }
    let (phase, order) = match gate.holder(buyer as usize) {
        Some(order) if gate.pending & 1 << order != 0 => (Phase::Reserved, order),
        Some(order) => (Phase::Replayed, order),
        None if gate.left == 0 => return None,
        None => {
            let order =
                (2 * buyer..2 * buyer + bounds.attempts).find(|order| state.used & 1 << order == 0)?;
            state.used |= 1 << order;
            gate.left -= 1;
            gate.holders |= 1 << order;
            if safeguards.has(Safeguard::PendingInReserve) {
                gate.pending |= 1 << order;
                (Phase::Reserved, order)
            } else {
                (Phase::Deducted, order)
            }
        }
    };
    state.lanes[at as usize] = Some(Lane { phase, message: Message { order, epoch }, answers: true });
    Some(())
}

/// The recoverer, or the reconciler, sends an order of the gate again. Nobody waits for its answer.
pub(crate) fn send_again(state: &mut State, at: u8, order: u8) {
    let message = Message { order, epoch: state.gate.epoch };
    state.lanes[at as usize] = Some(Lane { phase: Phase::Reserved, message, answers: false });
}

pub(crate) fn log_pending(state: &mut State, at: u8) -> Option<()> {
    let lane = state.lanes[at as usize].as_mut()?;
    if state.gate.epoch == lane.message.epoch {
        state.gate.pending |= 1 << lane.message.order & state.gate.holders;
    }
    lane.phase = Phase::Reserved;
    Some(())
}

/// The broker has the message and has confirmed it. The lane may die before it knows.
pub(crate) fn publish(state: &mut State, at: u8) -> Option<()> {
    let lane = state.lanes[at as usize].as_mut()?;
    state.queue.push(lane.message);
    lane.phase = Phase::Confirmed;
    Some(())
}

/// 202, or 200.
pub(crate) fn answer(state: &mut State, at: u8) -> Option<()> {
    let lane = state.lanes[at as usize].as_mut()?;
    state.promised |= 1 << lane.message.order;
    lane.answers = false;
    if lane.phase == Phase::Replayed {
        state.lanes[at as usize] = None;
    }
    Some(())
}

pub(crate) fn settle(safeguards: Safeguards, state: &mut State, at: u8) -> Option<()> {
    let lane = state.lanes[at as usize].take()?;
    let right_run = !state.gate.other_run || !safeguards.has(Safeguard::RunCheck);
    if state.gate.epoch == lane.message.epoch && right_run {
        state.gate.pending &= !(1 << lane.message.order);
    }
    Some(())
}

/// The worker reports a rejected order: the holder is forgotten, its unit comes back unless the ledger was full.
pub(crate) fn take_back(safeguards: Safeguards, state: &mut State, order: u8, sold_out: bool) {
    let gate = &mut state.gate;
    if gate.epoch == 0 {
        return;
    }
    let by_user = !safeguards.has(Safeguard::ReturnByOrderId);
    let found = if by_user { gate.holder(user(order)) } else { Some(order) };
    if let Some(holder) = found
        && gate.holders & 1 << holder != 0
    {
        gate.holders &= !(1 << holder);
        gate.pending &= !(1 << holder);
        gate.left += u8::from(!sold_out);
    }
}
