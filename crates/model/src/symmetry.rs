//! Users are alike, and so are lanes: of all states that differ only in their names, one is kept.

use crate::Bounds;
use crate::state::{Lane, Ledger, Message, Messages, ORDERS, State, Step, Worker};

const NAMES: [[u8; 3]; 6] = [[0, 1, 2], [1, 0, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

pub(crate) fn representative(bounds: &Bounds, state: &State) -> State {
    let renamings = match bounds.users {
        1 => 1,
        2 => 2,
        _ => 6,
    };
    let smallest = NAMES[..renamings].iter().map(|names| sorted_lanes(rename(state, *names))).min();
    smallest.unwrap_or(*state)
}

fn sorted_lanes(mut state: State) -> State {
    state.lanes.sort_unstable_by(|a, b| b.cmp(a));
    state
}

fn order(names: [u8; 3], order: u8) -> u8 {
    2 * names[order as usize / 2] + order % 2
}

fn orders(names: [u8; 3], set: u8) -> u8 {
    (0..3).fold(0, |renamed, user| renamed | (set >> (2 * user) & 0b11) << (2 * names[user]))
}

fn rename(state: &State, names: [u8; 3]) -> State {
    if names == NAMES[0] {
        return *state;
    }
    let message = |message: Message| Message { order: order(names, message.order), ..message };
    let messages = |set: Messages| set.renamed(names);
    let ledger = |ledger: Ledger| {
        let mut renamed = ledger;
        for old in 0..ORDERS as u8 {
            renamed.rows[order(names, old) as usize] = ledger.rows[old as usize];
        }
        renamed
    };
    let lane = |lane: Lane| Lane { message: message(lane.message), ..lane };
    let worker = |mut worker: Worker| {
        worker.hand = worker.hand.map(message);
        if let Some(rebuild) = &mut worker.rebuild
            && let Step::Fill(active) = rebuild.step
        {
            rebuild.step = Step::Fill(orders(names, active));
        }
        worker
    };
    let mut renamed = *state;
    renamed.ledger = ledger(state.ledger);
    renamed.backup = state.backup.map(ledger);
    for gate in [Some(&mut renamed.gate), renamed.older_gate.as_mut()].into_iter().flatten() {
        gate.holders = orders(names, gate.holders);
        gate.pending = orders(names, gate.pending);
    }
    renamed.queue.front = messages(state.queue.front);
    renamed.queue.back = messages(state.queue.back);
    renamed.lanes = state.lanes.map(|it| it.map(lane));
    renamed.workers = state.workers.map(worker);
    renamed.used = orders(names, state.used);
    renamed.promised = orders(names, state.promised);
    renamed
}
