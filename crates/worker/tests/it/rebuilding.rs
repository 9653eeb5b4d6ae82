//! Rebuilds that another worker began and did not end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use seckill_core::{Claim, Dependency, Fate, Order, OrderBatch, RejectReason, SaleState, create_sale};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use seckill_testkit::fixtures::{EPOCH, claims, level, new_sale};
use seckill_worker::Config;

use crate::test_bed::{TestBed, Worker, unlimited, until};

/// A rebuild takes 11 s at least.
const REBUILT: Duration = Duration::from_secs(60);

/// Sets orders aside and publishes all of them but those of `held_back`, of which only the gate knows.
async fn promise(bed: &TestBed, claims: &[Claim], held_back: usize) {
    let reserved = bed.real.gate.reserve(bed.sale.id, EPOCH, &[], claims).await.unwrap();
    let (_, published) = claims.split_at(held_back);
    let mut publisher = bed.real.queue.publisher().await.unwrap();
    publisher.publish(&OrderBatch::new(bed.sale.id, EPOCH, published.to_vec())).await.unwrap();
    bed.real.gate.settle(bed.sale.id, &[reserved.reservation.unwrap()]).await.unwrap();
}

async fn wait_until_rebuilt(bed: &TestBed) {
    eventually(REBUILT, async || {
        let sale = bed.real.ledger.sale(bed.sale.id).await.unwrap().unwrap();
        if sale.state == SaleState::Open && sale.epoch > EPOCH { Ok(()) } else { Err(sale) }
    })
    .await;
}

/// The first owner fenced the old gate and died. What waits in the queue is of the epoch that was open last, and so is what the
/// old gate holds: none of it is stale.
#[tokio::test]
async fn a_rebuild_that_is_taken_over_after_the_fence_keeps_every_promise() {
    let mut bed = TestBed::new(100).await;
    bed.sale = create_sale(&bed.real, &new_sale(20, 1), seckill_core::Mode::Queue).await.unwrap().sale;
    let promised = claims(0..8);
    promise(&bed, &promised, 3).await;
    assert!(bed.real.ledger.begin_rebuild(bed.sale.id, EPOCH, EPOCH + 1, EPOCH).await.unwrap());
    bed.real.gate.fence(bed.sale.id, EPOCH + 1).await.unwrap();

    let worker = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    wait_until_rebuilt(&bed).await;
    let totals = bed.real.ledger.totals(bed.sale.id).await.unwrap();
    assert_eq!((totals.orders, totals.rejected_orders), (8, 0));
    assert_eq!(level(&bed.real, bed.sale.id).await.orders, 8);
    worker.stop().await;
}

/// A ledger restored from a backup while a rebuild was under way: the gate is still on the epoch of the backup and fenced for a
/// later one. What it holds was promised, and only it has all of that.
#[tokio::test]
async fn a_gate_that_is_only_fenced_for_a_later_epoch_is_no_later_gate() {
    let mut bed = TestBed::new(100).await;
    bed.sale = create_sale(&bed.real, &new_sale(20, 1), seckill_core::Mode::Queue).await.unwrap().sale;
    promise(&bed, &claims(0..8), 7).await;
    bed.real.gate.fence(bed.sale.id, EPOCH + 1).await.unwrap();

    let worker = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    wait_until_rebuilt(&bed).await;
    let totals = bed.real.ledger.totals(bed.sale.id).await.unwrap();
    assert_eq!((totals.orders, totals.rejected_orders), (8, 0));
    // What comes now from before the rebuild was never promised.
    let late = Order { sale_id: bed.sale.id, epoch: EPOCH, claim: claims(50..51)[0] };
    let fates = bed.real.ledger.writer().await.unwrap().commit(&[late]).await.unwrap();
    assert_eq!(fates, [Fate::Rejected(RejectReason::StaleEpoch)]);
    worker.stop().await;
}

/// A sale that is to be rebuilt, and whose only worker's calls can go wrong.
async fn lost_sale() -> TestBed {
    let mut bed = TestBed::new(100).await;
    bed.sale = create_sale(&bed.real, &new_sale(20, 1), seckill_core::Mode::Queue).await.unwrap().sale;
    assert!(bed.real.ledger.begin_rebuild(bed.sale.id, EPOCH, EPOCH + 1, EPOCH).await.unwrap());
    bed
}

/// A worker whose calls never go wrong.
fn healthy_worker(bed: &TestBed) -> Worker {
    let shutdown = tokio_util::sync::CancellationToken::new();
    let pace = Arc::new(unlimited(500));
    let run = seckill_worker::run(bed.real.clone(), Config::default(), pace, shutdown.clone());
    Worker { shutdown, run: tokio::spawn(run) }
}

#[tokio::test]
async fn a_worker_that_does_not_reach_the_queue_takes_up_no_rebuild() {
    let bed = lost_sale().await;
    bed.faults.away(Dependency::Queue);
    let cut_off = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    until(|| bed.faults.asked(Call::Parked) >= 2).await;
    let healthy = healthy_worker(&bed);
    wait_until_rebuilt(&bed).await;
    let taken_up = bed.real.ledger.sale(bed.sale.id).await.unwrap().unwrap().epoch;
    assert_eq!(taken_up, EPOCH + 2, "by one worker, once");
    cut_off.stop().await;
    healthy.stop().await;
}

#[tokio::test]
async fn a_worker_whose_rebuild_has_failed_leaves_it_to_another_one() {
    let bed = lost_sale().await;
    // Found out only when the queue is to be drained.
    bed.faults.always(Call::Depth, Mishap::Away);
    let failing = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    eventually(REBUILT, async || {
        let rebuild = bed.real.ledger.sale(bed.sale.id).await.unwrap().unwrap().rebuild.unwrap();
        rebuild.owner.ok_or(rebuild)
    })
    .await;
    let healthy = healthy_worker(&bed);
    wait_until_rebuilt(&bed).await;
    failing.stop().await;
    healthy.stop().await;
}
