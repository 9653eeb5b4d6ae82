//! What [`CapacityLeases`] have to do: share one total, and never give out more. How a store learns
//! again what it has lost is tested with the cluster back end, whose store can lose them.

use seckill_core::capacity::{Capacity, CapacityGrant, CapacityRequest, CapacityTable};
use seckill_core::{Backend, CAPACITY_LEASE, CapacityLeases};
use uuid::Uuid;

use super::support::{DEADLINE, Subject};
use crate::eventually;

const TOTAL: u32 = 1_000;

/// One worker, which uses what it got last.
struct Worker {
    id: Uuid,
    number: u64,
    uses: Capacity,
}

impl Worker {
    fn new() -> Self {
        Self { id: Uuid::now_v7(), number: 0, uses: Capacity::ZERO }
    }

    fn request(&mut self, total: u32, wants: u32) -> CapacityRequest {
        self.number += 1;
        let (total, wants) = (Capacity::per_second(total), Capacity::per_second(wants));
        CapacityRequest { worker: self.id, number: self.number, total, wants, has: self.uses }
    }

    async fn ask(&mut self, leases: &dyn CapacityLeases, total: u32, wants: u32) -> CapacityGrant {
        let grant = leases.lease(&self.request(total, wants)).await.unwrap();
        self.uses = grant.share;
        grant
    }
}

/// A store that has just begun may learn for one lease: until then it gives nobody more than they have.
async fn ready(backend: &Backend) -> &dyn CapacityLeases {
    // As every process does at its start: leases in Redis have to know whose they are.
    backend.ledger.id().await.unwrap();
    let leases = &*backend.capacity;
    let mut worker = Worker::new();
    eventually(DEADLINE, async || match worker.ask(leases, TOTAL, TOTAL).await {
        grant if grant.learning => Err(grant),
        _ => Ok(()),
    })
    .await;
    leases.release(worker.id).await.unwrap();
    leases
}

/// One busy worker has all of it; a second gets half as soon as the first has confirmed that it uses half; one that wants little gets
/// little, and the busy ones the rest.
pub async fn workers_share_one_total(Subject { backend, .. }: Subject) {
    let leases = ready(&backend).await;
    let (mut a, mut b, mut c) = (Worker::new(), Worker::new(), Worker::new());
    let all = Capacity::per_second(TOTAL);
    assert_eq!(a.ask(leases, TOTAL, TOTAL).await.share, all);
    assert_eq!(b.ask(leases, TOTAL, TOTAL).await.share, Capacity::ZERO);
    assert_eq!(a.ask(leases, TOTAL, TOTAL).await.share, all.part(2));
    assert_eq!(b.ask(leases, TOTAL, TOTAL).await.share, Capacity::ZERO, "a has not confirmed yet");
    a.ask(leases, TOTAL, TOTAL).await;
    let grant = b.ask(leases, TOTAL, TOTAL).await;
    assert_eq!((grant.share, grant.safe, grant.workers), (all.part(2), all.part(2), 2));
    c.ask(leases, TOTAL, 10).await;
    for _ in 0..2 {
        a.ask(leases, TOTAL, TOTAL).await;
        b.ask(leases, TOTAL, TOTAL).await;
    }
    assert_eq!(c.ask(leases, TOTAL, 10).await.share, Capacity::per_second(10));
    assert_eq!(a.ask(leases, TOTAL, TOTAL).await.share, Capacity::per_second(495));
    // The lower of two totals counts; one who takes no share limits nobody.
    let mut paused = Worker::new();
    let nothing = CapacityRequest { total: Capacity::MAX, ..paused.request(0, 0) };
    assert_eq!(leases.lease(&nothing).await.unwrap().share, Capacity::ZERO);
    assert_eq!(a.ask(leases, 100, 100).await.share, Capacity::ZERO, "b uses more than there is now");
}

/// Also in the answer to a request that comes late, and whatever that request says.
pub async fn a_part_of_the_lowest_total_is_safe(Subject { backend, .. }: Subject) {
    let leases = ready(&backend).await;
    let (mut a, mut b) = (Worker::new(), Worker::new());
    let late = a.request(TOTAL, TOTAL);
    let all = a.ask(leases, TOTAL, TOTAL).await;
    assert_eq!((all.share, all.safe), (Capacity::per_second(TOTAL), Capacity::per_second(TOTAL)));
    // This one was told another total.
    b.ask(leases, 100, 100).await;
    let safe = Capacity::per_second(50);
    let answer = leases.lease(&late).await.unwrap();
    assert_eq!((answer.share, answer.safe, answer.workers), (all.share, safe, 2));
    let answer = a.ask(leases, TOTAL, TOTAL).await;
    assert_eq!((answer.share, answer.safe, answer.workers), (safe, safe, 2));
}

/// What was given back is free at once, and a late request of a worker that has asked again changes nothing.
pub async fn a_share_that_is_given_back_is_free(Subject { backend, .. }: Subject) {
    let leases = ready(&backend).await;
    let (mut a, mut b) = (Worker::new(), Worker::new());
    let late = a.request(TOTAL, 1);
    let all = a.ask(leases, TOTAL, TOTAL).await;
    assert_eq!(leases.lease(&late).await.unwrap().share, all.share);
    assert_eq!(b.ask(leases, TOTAL, TOTAL).await.share, Capacity::ZERO);
    leases.release(a.id).await.unwrap();
    leases.release(a.id).await.unwrap();
    assert_eq!(b.ask(leases, TOTAL, TOTAL).await.share, all.share);
}

/// A worker that is silent keeps its share for one lease, and no longer.
pub async fn the_share_of_a_silent_worker_is_free_after_its_lease(Subject { backend, .. }: Subject) {
    let leases = ready(&backend).await;
    let (mut dead, mut alive) = (Worker::new(), Worker::new());
    let begin = std::time::Instant::now();
    dead.ask(leases, TOTAL, TOTAL).await;
    eventually(DEADLINE, async || match alive.ask(leases, TOTAL, TOTAL).await.share {
        Capacity::ZERO => Err("nothing yet"),
        _ => Ok(()),
    })
    .await;
    assert!(begin.elapsed() >= CAPACITY_LEASE, "its lease had not ended");
    assert_eq!(alive.uses, Capacity::per_second(TOTAL));
}

/// Whoever asks for what, and also where an answer is lost. Every back end decides as the rules in core do.
pub async fn the_shares_never_exceed_the_total(Subject { backend, .. }: Subject) {
    let leases = ready(&backend).await;
    let mut workers: [Worker; 4] = std::array::from_fn(|_| Worker::new());
    let mut rules = CapacityTable::default();
    // Numbers without a pattern, and the same in every run.
    let mut random = 1_u32;
    let mut below = |limit: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % limit
    };
    for step in 0..100 {
        let worker = &mut workers[below(4) as usize];
        let request = worker.request(TOTAL, below(1_200));
        let grant = leases.lease(&request).await.unwrap();
        assert_eq!(grant, rules.lease(0, &request), "step {step}: {request:?}");
        let lost = below(5) == 0;
        if !lost {
            worker.uses = grant.share;
        }
        let used: u64 = workers.iter().map(|worker| worker.uses.thousandths()).sum();
        assert!(used <= Capacity::per_second(TOTAL).thousandths(), "step {step}");
    }
}
