//! One fair schedule without faults and without new orders, to see that nothing stands still for ever.

use stateright::Model;

use crate::state::{Left, State};
use crate::{Action, Protocol};

/// More than the longest way to rest: each of the few orders passes each step a few times.
const MOST_STEPS: usize = 400;

/// Whether the system comes to rest when every process does what it has to do.
pub(crate) fn comes_to_rest(model: &Protocol, state: &State) -> bool {
    let mut state = *state;
    state.left = Left { rebuilds: 8, freezes: 0, crashes: 0, duplicates: 0, by_hand: 0, ..state.left };
    let mut actions = Vec::new();
    for _ in 0..MOST_STEPS {
        if state.is_at_rest(model.safeguards) {
            return true;
        }
        actions.clear();
        model.actions(&state, &mut actions);
        actions.retain(|action| rank(*action).is_some());
        actions.sort_by_key(|action| rank(*action));
        let next = actions.iter().find_map(|action| {
            let mut next = state;
            model.step(&mut next, *action)?;
            (next != state).then_some(next)
        });
        match next {
            Some(next) => state = next,
            // Every process waits for an owner that has stopped: its lease runs out.
            None if state.left.freezes == 0 => state.left.freezes = 1,
            None => return false,
        }
    }
    false
}

/// What comes first: what is under way is finished before something new begins. Faults and new orders never come.
fn rank(action: Action) -> Option<u8> {
    Some(match action {
        Action::LogPending(_) | Action::Publish(_) | Action::Answer(_) | Action::Settle(_) => 0,
        Action::GiveRebuildUp(_) | Action::StepAside(_) => 1,
        Action::Commit(_) | Action::Acknowledge(_) => 2,
        Action::Take(..) | Action::TakeMarker(_) | Action::Consume(_) => 3,
        Action::Rebuild(..) => 4,
        Action::Recover { .. } | Action::Reconcile { .. } => 6,
        Action::BeginRebuild(_) => 5,
        _ => return None,
    })
}
