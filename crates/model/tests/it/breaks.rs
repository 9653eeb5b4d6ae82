//! Without a safeguard the checker finds a way to break a promise; with it, the same search finds none.

use seckill_model::promise::*;
use seckill_model::{Bounds, Safeguard, search::search_without};

/// What the checker finds without one safeguard.
struct Case {
    safeguard: Safeguard,
    /// Another safeguard that protects the same promise, and is out in both searches.
    also_out: &'static [Safeguard],
    promise: &'static str,
    bounds: Bounds,
}

const fn case(safeguard: Safeguard, promise: &'static str, bounds: Bounds) -> Case {
    Case { safeguard, also_out: &[], promise, bounds }
}

const SMALL: Bounds = Bounds::SMALL;
const WIPED: Bounds = Bounds { gate_wiped: 1, rebuilds: 1, ..SMALL };
const OLDER: Bounds = Bounds { gate_older: 1, rebuilds: 1, ..SMALL };
const TWO_WORKERS: Bounds = Bounds { workers: 2, freezes: 1, ..WIPED };
const BY_HAND: Bounds = Bounds { by_hand: 1, rebuilds: 1, ..SMALL };
const BY_HAND_LEDGER: Bounds = Bounds { ledger_older: 1, rebuilds: 2, ..BY_HAND };
const BY_HAND_OLDER: Bounds = Bounds { gate_older: 1, rebuilds: 2, ..BY_HAND };

fn cases() -> Vec<Case> {
    use Safeguard::*;
    vec![
        case(PendingInReserve, NEVER_LOST, WIPED),
        case(AnswerAfterConfirm, NEVER_LOST, WIPED),
        case(AnswerWindow, NEVER_LOST, WIPED),
        case(RunCheck, SAME_ANSWER, OLDER),
        case(EpochCheck, NEVER_LOST, BY_HAND_OLDER),
        case(StaleCheck, CONSERVED, OLDER),
        case(StaleCheckInCommit, CONSERVED, OLDER),
        case(StaleByOpenEpoch, NEVER_LOST, BY_HAND_OLDER),
        case(StaleYields, NEVER_LOST, BY_HAND_LEDGER),
        Case { also_out: &[RunCheck], ..case(UniqueUser, ONE_ORDER_A_USER, Bounds { stock: 2, ..OLDER }) },
        case(PrimaryKey, ONE_ROW_AN_ID, Bounds { crashes: 1, ..SMALL }),
        Case { also_out: &[RunCheck], ..case(StockLimit, NEVER_OVERSOLD, OLDER) },
        case(AckAfterCommit, NEVER_LOST, Bounds { crashes: 1, ..WIPED }),
        Case { also_out: &[StaleYields], ..case(ReturnByOrderId, CONSERVED, WIPED) },
        case(Reconcile, NEVER_LOST, Bounds { queue_lost: 1, ..SMALL }),
        Case {
            also_out: &[StaleFromRead],
            ..case(OwnEpoch, CONSERVED, Bounds { rebuilds: 2, freezes: 2, ..TWO_WORKERS })
        },
        Case {
            also_out: &[FillGuard],
            ..case(EpochAboveGate, CONSERVED, Bounds { rebuilds: 3, ..BY_HAND_LEDGER })
        },
        case(CloseGate, NEVER_LOST, BY_HAND),
        case(SendHeldAgain, HEALS, BY_HAND_LEDGER),
        case(IgnoreOlderGate, HEALS, Bounds { gate_wiped: 1, gate_older: 1, rebuilds: 2, ..SMALL }),
        case(Marker, NEVER_LOST, WIPED),
        case(StepAside, NEVER_LOST, TWO_WORKERS),
        case(ConsumeWindow, NEVER_LOST, Bounds { freezes: 2, crashes: 1, ..TWO_WORKERS }),
        case(MarkerPerChannel, NEVER_LOST, Bounds { freezes: 1, ..WIPED }),
        case(HeldRecorded, NEVER_LOST, Bounds { queue_lost: 1, ..BY_HAND }),
        Case { also_out: &[StaleFromRead], ..case(OpenUnderLock, CONSERVED, TWO_WORKERS) },
        Case { also_out: &[OpenUnderLock], ..case(StaleFromRead, CONSERVED, TWO_WORKERS) },
        Case {
            bounds: Bounds {
                users: 1,
                attempts: 1,
                workers: 2,
                rebuilds: 3,
                freezes: 3,
                queue_lost: 1,
                ..BY_HAND
            },
            ..case(FillGuard, NEVER_LOST, SMALL)
        },
        case(LedgerNotOlder, NEVER_LOST, Bounds { gate_wiped: 1, ledger_older: 1, rebuilds: 2, ..SMALL }),
    ]
}

#[test]
fn each_safeguard_is_needed() {
    let cases = cases();
    let page = include_str!("../../../../docs/model.md");
    for safeguard in Safeguard::ALL {
        assert!(page.contains(&format!("| `{safeguard:?}` |")), "docs/model.md does not list {safeguard:?}");
        assert!(cases.iter().any(|case| case.safeguard == safeguard), "{safeguard:?} has no case");
    }
    for Case { safeguard, also_out, promise, bounds } in cases {
        let with = search_without(also_out, bounds, promise);
        assert!(with.traces.is_empty(), "with {safeguard:?}, {promise:?} breaks: {with:#?}");

        let out = [also_out, &[safeguard]].concat();
        let without = search_without(&out, bounds, promise);
        let Some((_, trace)) = without.traces.first() else {
            panic!("without {safeguard:?}, {promise:?} holds in all {} states", without.states)
        };
        println!(
            "\nwithout {safeguard:?}: {promise:?} breaks in {} steps, of {} states",
            trace.len(),
            with.states
        );
        for action in trace {
            println!("  {action:?}");
        }
    }
}
