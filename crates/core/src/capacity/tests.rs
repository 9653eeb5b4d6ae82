use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TOTAL: Capacity = Capacity::per_second(1_000);

fn share(total: u32, own: u32, others: &[u32]) -> f64 {
    let others: Vec<_> = others.iter().map(|wants| Capacity::per_second(*wants)).collect();
    fair_share(Capacity::per_second(total), Capacity::per_second(own), &others).orders()
}

#[test]
fn who_wants_little_gets_it_and_the_others_share_the_rest() {
    assert_eq!(share(1_000, 1_000, &[1_000]), 500.0);
    assert_eq!(share(1_000, 1_000, &[100, 1_000]), 450.0);
    assert_eq!(share(1_000, 100, &[1_000, 1_000]), 100.0);
    // One busy worker of four.
    assert_eq!(share(1_000, 1_000, &[10, 10, 10]), 970.0);
    // Everybody has what they want, and the rest is divided.
    assert_eq!(share(1_000, 100, &[300]), 400.0);
    assert_eq!(share(1_000, 0, &[300]), 0.0);
    // Less than an order a second each.
    assert_eq!(share(1, 5, &[5, 5, 5]), 0.25);
    assert_eq!(share(0, 5, &[]), 0.0);
}

fn worker(id: u8) -> Uuid {
    Uuid::from_u128(id.into())
}

fn ask(table: &mut CapacityTable, now_ms: u64, id: u8, number: u64, has: u32) -> CapacityGrant {
    let has = Capacity::per_second(has);
    table.lease(now_ms, &CapacityRequest { worker: worker(id), number, total: TOTAL, wants: TOTAL, has })
}

#[test]
fn what_is_taken_away_is_given_on_once_its_worker_has_confirmed() {
    let mut table = CapacityTable::default();
    assert_eq!(ask(&mut table, 0, 1, 1, 0).share, TOTAL);
    assert_eq!(ask(&mut table, 0, 2, 1, 0).share, Capacity::ZERO);
    let half = Capacity::per_second(500);
    assert_eq!(ask(&mut table, 100, 1, 2, 1_000).share, half);
    assert_eq!(ask(&mut table, 200, 2, 2, 0).share, Capacity::ZERO, "the answer to the first may be lost");
    assert_eq!(ask(&mut table, 300, 1, 3, 500).share, half);
    let grant = ask(&mut table, 400, 2, 3, 0);
    assert_eq!(grant, CapacityGrant { share: half, safe: half, workers: 2, learning: false });
}

#[test]
fn a_dead_workers_share_is_free_when_its_lease_ends() {
    let mut table = CapacityTable::default();
    ask(&mut table, 0, 1, 1, 0);
    assert_eq!(ask(&mut table, 2_999, 2, 1, 0).share, Capacity::ZERO);
    assert_eq!(ask(&mut table, 3_000, 2, 2, 0).share, TOTAL);
    table.release(worker(2));
    assert_eq!(ask(&mut table, 3_001, 1, 2, 0).share, TOTAL);
}

#[test]
fn while_it_learns_everybody_keeps_what_they_have() {
    let mut table = CapacityTable::default();
    table.lose(0);
    assert_eq!(ask(&mut table, 1, 1, 1, 700).share, Capacity::per_second(700));
    assert_eq!(ask(&mut table, 2, 2, 1, 300).share, Capacity::per_second(300));
    let newcomer = ask(&mut table, 3, 3, 1, 0);
    assert_eq!((newcomer.share, newcomer.learning), (Capacity::ZERO, true));
    let later = ask(&mut table, 3_001, 1, 2, 700);
    assert_eq!((later.share, later.learning), (TOTAL.part(3), false));
}

#[test]
fn a_request_that_comes_late_is_not_heeded() {
    let mut table = CapacityTable::default();
    let newer = ask(&mut table, 0, 1, 2, 0);
    assert_eq!(ask(&mut table, 1, 1, 1, 0), newer);
    assert_eq!(ask(&mut table, 2, 2, 1, 0).share, Capacity::ZERO);
}

#[test]
fn the_lowest_total_counts_for_all() {
    let mut table = CapacityTable::default();
    let ask = |table: &mut CapacityTable, id, number, total, has| {
        let (total, has) = (Capacity::per_second(total), Capacity::per_second(has));
        let request = CapacityRequest { worker: worker(id), number, total, wants: total, has };
        table.lease(0, &request).share.orders()
    };
    assert_eq!(ask(&mut table, 1, 1, 200, 0), 200.0);
    assert_eq!(ask(&mut table, 2, 1, 900, 0), 0.0);
    assert_eq!(ask(&mut table, 1, 2, 200, 200), 100.0);
    assert_eq!(ask(&mut table, 1, 3, 200, 100), 100.0);
    assert_eq!(ask(&mut table, 2, 2, 900, 0), 100.0);
    // Everybody has heard of the new one.
    assert_eq!(ask(&mut table, 1, 4, 900, 100), 450.0);
}

/// What happens to one of four workers.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// It asks, and gets the answer.
    Asks {
        wants: u32,
    },
    /// It asks, and the answer is lost.
    AnswerLost {
        wants: u32,
    },
    /// It asks; the request reaches the store only at a later act of another worker.
    Late {
        wants: u32,
    },
    Dies,
    Stops,
}

fn act() -> impl Strategy<Value = Act> {
    let wants = || prop_oneof![Just(0), Just(20), Just(1_000), 0..1_200_u32];
    prop_oneof![
        6 => wants().prop_map(|wants| Act::Asks { wants }),
        2 => wants().prop_map(|wants| Act::AnswerLost { wants }),
        1 => wants().prop_map(|wants| Act::Late { wants }),
        1 => Just(Act::Dies),
        1 => Just(Act::Stops),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Worker {
    id: Uuid,
    number: u64,
    uses: Capacity,
    until_ms: u64,
}

proptest! {
    /// Whoever comes, dies, asks and does not hear the answer, and whenever the leases are lost.
    #[test]
    fn the_sum_of_what_is_used_never_exceeds_the_total(
        acts in vec((0..4_usize, 0..1_200_u64, act(), prop::bool::weighted(0.05)), 1..200),
    ) {
        let (mut table, mut now) = (CapacityTable::default(), 0);
        let mut ids = 0_u128;
        let mut new = || {
            ids += 1;
            Worker { id: Uuid::from_u128(ids), number: 0, uses: Capacity::ZERO, until_ms: 0 }
        };
        let mut workers: [Worker; 4] = std::array::from_fn(|_| new());
        let mut late = Vec::new();
        for (at, pause, act, lost) in acts {
            now += pause;
            if lost {
                table.lose(now);
            }
            let worker = &mut workers[at];
            if worker.until_ms <= now {
                worker.uses = Capacity::ZERO;
            }
            worker.number += 1;
            let request = |wants| CapacityRequest {
                worker: worker.id,
                number: worker.number,
                total: TOTAL,
                wants: Capacity::per_second(wants),
                has: worker.uses,
            };
            match act {
                Act::Asks { wants } => {
                    let grant = table.lease(now, &request(wants));
                    prop_assert!(grant.safe <= grant.share && grant.safe <= TOTAL.part(grant.workers));
                    (worker.uses, worker.until_ms) = (grant.share, now + lease_ms());
                }
                Act::AnswerLost { wants } => {
                    table.lease(now, &request(wants));
                }
                Act::Late { wants } => late.push(request(wants)),
                // Its lease stays; nobody writes any more.
                Act::Dies => *worker = new(),
                Act::Stops => {
                    table.release(worker.id);
                    *worker = new();
                }
            }
            for request in late.extract_if(.., |request| request.worker != workers[at].id) {
                table.lease(now, &request);
            }
            let used = workers.iter().filter(|worker| worker.until_ms > now).map(|worker| worker.uses.0);
            prop_assert!(used.sum::<u64>() <= TOTAL.0, "{workers:?}");
        }
    }
}
