//! Capacity leases in a Redis that loses them: nobody gets more than they have until everybody may have said what that is.

use std::time::Duration;

use seckill_core::capacity::{Capacity, CapacityGrant, CapacityRequest};
use seckill_core::{Backend, CAPACITY_LEASE, Fault};
use seckill_testkit::{PrivateRedis, eventually};
use uuid::Uuid;

use crate::gate::run;
use crate::setup::{SOON, gate_at, know_ledger};

const TOTAL: Capacity = Capacity::per_second(1_000);

/// Two workers, of which the first holds nearly everything.
struct Workers {
    backend: Backend,
    ids: [Uuid; 2],
    uses: [Capacity; 2],
    number: u64,
}

impl Workers {
    async fn at(url: &str) -> Self {
        let backend = gate_at(url);
        know_ledger(&backend).await;
        let (ids, uses) = ([1, 2].map(Uuid::from_u128), [Capacity::ZERO; 2]);
        let mut workers = Self { backend, ids, uses, number: 0 };
        // Redis has just begun, and knows nothing of leases that others may hold.
        assert!(workers.ask(0, TOTAL).await.unwrap().learning);
        workers.learnt().await;
        workers
    }

    async fn ask(&mut self, which: usize, wants: Capacity) -> Result<CapacityGrant, Fault> {
        self.number += 1;
        let (worker, number, has) = (self.ids[which], self.number, self.uses[which]);
        let request = CapacityRequest { worker, number, total: TOTAL, wants, has };
        let grant = self.backend.capacity.lease(&request).await?;
        self.uses[which] = grant.share;
        assert!(self.uses[0].thousandths() + self.uses[1].thousandths() <= TOTAL.thousandths());
        Ok(grant)
    }

    /// Waits until leases are given out by need again. The second has left, and the first gets all.
    async fn learnt(&mut self) {
        self.backend.capacity.release(self.ids[1]).await.unwrap();
        eventually(SOON, async || match self.ask(0, TOTAL).await {
            Ok(grant) if !grant.learning => Ok(()),
            other => Err(other),
        })
        .await;
        assert_eq!(self.uses, [TOTAL, Capacity::ZERO]);
    }

    /// The second asks first, and gets nothing; the first keeps what it has.
    async fn keep_what_they_have(&mut self) {
        let had = self.uses;
        for which in [1, 0] {
            let grant = eventually(SOON, async || self.ask(which, TOTAL).await).await;
            assert!(grant.learning, "{which}: {grant:?}");
        }
        assert_eq!(self.uses, had);
    }
}

#[tokio::test]
async fn lost_leases_are_learnt_before_any_are_given_out() {
    let redis = PrivateRedis::start().await;
    let mut workers = Workers::at(&redis.url()).await;
    let key = format!("seckill:{{{}}}:capacity", crate::setup::LEDGER);
    run(&redis.url(), &["DEL", &key]).await;
    workers.keep_what_they_have().await;
    workers.learnt().await;
    // Its data may be older than the last leases.
    redis.restart().await;
    workers.keep_what_they_have().await;
}

#[tokio::test]
async fn leases_that_may_have_ended_while_nobody_could_ask_are_learnt_again() {
    let redis = seckill_testkit::redis().await;
    let mut workers = Workers::at(&redis.url).await;
    // Longer than workers are silent while they reach Redis, and shorter than a lease.
    tokio::time::sleep(CAPACITY_LEASE / 2 + Duration::from_millis(200)).await;
    workers.keep_what_they_have().await;
}
