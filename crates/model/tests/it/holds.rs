//! With every safeguard, no promise breaks in any state that the model reaches.

use seckill_model::search::search;
use seckill_model::{Bounds, Safeguard};

const SMALL: Bounds = Bounds::SMALL;
const TWO_LANES: Bounds = Bounds { lanes: 2, ..SMALL };
const TWO_WORKERS: Bounds = Bounds { workers: 2, freezes: 1, crashes: 1, ..SMALL };
const BOTH: Bounds = Bounds { lanes: 2, ..TWO_WORKERS };
const WIPED: Bounds = Bounds { gate_wiped: 1, rebuilds: 2, ..SMALL };
const OLDER: Bounds = Bounds { gate_older: 1, rebuilds: 2, ..SMALL };
const QUEUE: Bounds = Bounds { queue_lost: 1, ..SMALL };
const LEDGER: Bounds = Bounds { ledger_older: 1, ..SMALL };

fn holds(bounds: Bounds) {
    check(bounds, false);
}

/// Also checks that the system comes to rest from every state.
fn holds_and_heals(bounds: Bounds) {
    check(bounds, true);
}

/// The fill of the gate has two safeguards of which one is enough, so each is checked without the other.
fn check(bounds: Bounds, healing: bool) {
    const EITHER: [Safeguard; 2] = [Safeguard::OpenUnderLock, Safeguard::StaleFromRead];
    let ways = if bounds.rebuilds > 0 { &EITHER[..] } else { &EITHER[..1] };
    for out in ways {
        let found = search(&[*out], bounds, healing);
        assert!(found.traces.is_empty(), "without {out:?}: {found:#?}");
        println!("{} states without {out:?} of {bounds:?}", found.states);
    }
}

#[test]
fn no_store_is_lost() {
    holds_and_heals(Bounds { duplicates: 1, ..BOTH });
    holds(Bounds { users: 3, stock: 2, duplicates: 1, crashes: 1, ..TWO_LANES });
    holds(Bounds { users: 3, stock: 2, attempts: 1, freezes: 0, ..BOTH });
}

#[test]
fn the_gate_is_wiped() {
    holds_and_heals(Bounds { lanes: 2, ..WIPED });
    holds(Bounds { users: 3, stock: 2, attempts: 1, lanes: 2, rebuilds: 1, ..WIPED });
    holds(Bounds { gate_wiped: 2, lanes: 2, ..WIPED });
    holds_and_heals(Bounds { gate_wiped: 1, rebuilds: 2, ..TWO_WORKERS });
    holds(Bounds { gate_wiped: 1, rebuilds: 1, crashes: 0, ..BOTH });
}

#[test]
fn the_gate_comes_back_older() {
    holds_and_heals(Bounds { lanes: 2, ..OLDER });
    holds(Bounds { gate_older: 1, rebuilds: 2, ..TWO_WORKERS });
    holds(Bounds { by_hand: 1, lanes: 2, ..OLDER });
    holds(Bounds { gate_wiped: 1, lanes: 2, attempts: 1, ..OLDER });
}

#[test]
fn the_queue_is_lost() {
    holds_and_heals(Bounds { queue_lost: 1, ..BOTH });
    holds(Bounds { users: 3, stock: 2, lanes: 2, ..QUEUE });
    holds_and_heals(Bounds { by_hand: 1, rebuilds: 2, lanes: 2, ..QUEUE });
    holds(Bounds { by_hand: 1, rebuilds: 2, queue_lost: 1, ..TWO_WORKERS });
}

#[test]
fn the_ledger_goes_back_to_a_backup() {
    holds_and_heals(Bounds { ledger_older: 1, ..BOTH });
    holds_and_heals(Bounds { by_hand: 1, rebuilds: 2, lanes: 2, ..LEDGER });
    holds(Bounds { by_hand: 1, rebuilds: 2, ledger_older: 1, crashes: 0, ..TWO_WORKERS });
    holds(Bounds { by_hand: 1, rebuilds: 2, ledger_older: 1, freezes: 0, ..TWO_WORKERS });
}

#[test]
fn the_stores_are_lost_one_after_another() {
    holds(Bounds { queue_lost: 1, ledger_older: 1, lanes: 2, ..WIPED });
    holds(Bounds { ledger_older: 1, lanes: 2, ..OLDER });
    holds(Bounds { queue_lost: 1, ledger_older: 1, ..OLDER });
}

/// What the ledger alone promises holds even then: never oversold, one order a user, one row an id.
#[test]
fn two_stores_are_lost_at_once() {
    holds(Bounds { queue_lost: 1, ledger_older: 1, overlapping_losses: true, ..WIPED });
    holds(Bounds { queue_lost: 1, ledger_older: 1, overlapping_losses: true, ..OLDER });
}

/// The same with more of everything. Takes 3 to 10 minutes.
#[test]
#[ignore = "takes 3 to 10 minutes: run by the nightly workflow, and by cargo test --release -p seckill-model -- --ignored"]
fn wide() {
    holds(Bounds { users: 3, stock: 2, duplicates: 1, ..BOTH });
    holds(Bounds { users: 3, stock: 2, lanes: 2, rebuilds: 1, ..WIPED });
    holds(Bounds { gate_wiped: 1, rebuilds: 2, freezes: 2, ..BOTH });
    holds(Bounds { gate_older: 1, rebuilds: 2, ..BOTH });
    holds(Bounds { by_hand: 1, rebuilds: 2, queue_lost: 1, ..BOTH });
    holds(Bounds { by_hand: 1, rebuilds: 2, ledger_older: 1, ..BOTH });
    holds(Bounds { by_hand: 1, rebuilds: 2, gate_older: 1, crashes: 0, ..BOTH });
    holds(Bounds { queue_lost: 1, ledger_older: 1, workers: 2, lanes: 2, ..WIPED });
}
