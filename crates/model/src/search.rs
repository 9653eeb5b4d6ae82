//! One search of the checker, and what it found.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{Action, Bounds, Protocol, Safeguard, Safeguards};

#[derive(Debug)]
pub struct Found {
    /// Different states that were visited.
    pub states: usize,
    /// For each broken promise, its name and a way to break it.
    pub traces: Vec<(&'static str, Vec<Action>)>,
}

/// Visits every state, with all safeguards but `out`. Ends early when any promise breaks.
pub fn search(out: &[Safeguard], bounds: Bounds, healing: bool) -> Found {
    let model = Protocol { bounds, safeguards: all_but(out), symmetry: true, healing };
    run(model, HasDiscoveries::AnyFailures)
}

/// Looks for a way to break one promise without these safeguards. Ends when it has found one, or visited every state.
pub fn search_without(out: &[Safeguard], bounds: Bounds, promise: &'static str) -> Found {
    let healing = promise == crate::promise::HEALS;
    let model = Protocol { bounds, safeguards: all_but(out), symmetry: false, healing };
    let mut found = run(model, HasDiscoveries::AnyOf(BTreeSet::from([promise])));
    found.traces.retain(|(name, _)| *name == promise);
    found
}

fn run(model: Protocol, finish_when: HasDiscoveries) -> Found {
    // One thread goes breadth first, so a trace is about as short as can be.
    let checker = model.checker().threads(1).finish_when(finish_when).spawn_bfs().join();
    let traces = checker.discoveries().into_iter().map(|(name, path)| (name, path.into_actions()));
    Found { states: checker.unique_state_count(), traces: traces.collect() }
}

fn all_but(out: &[Safeguard]) -> Safeguards {
    out.iter().fold(Safeguards::all(), |left, safeguard| left.without(*safeguard))
}
