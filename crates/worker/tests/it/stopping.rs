//! Shutdown: nothing is cut off in the middle, and what was held goes back.

use std::sync::Arc;
use std::time::Duration;

use seckill_testkit::faults::{Call, Mishap};
use seckill_worker::{Config, DrainRate, Lane, MAX_BATCH, Pace, Step};
use tokio_util::sync::CancellationToken;

use crate::test_bed::{SOON, TestBed, never, orders, per_second, step, unlimited, until};

#[tokio::test]
async fn a_worker_that_waits_for_its_pace_ends_at_once_and_gives_back_what_it_held() {
    let bed = TestBed::new(1_000).await;
    bed.publish(0..200).await;
    bed.publish(200..250).await;
    // One order a second: the wait for the first batch is one second, and for all of them more than four minutes.
    let worker = bed.worker(Config::default(), &Arc::new(Pace::new(per_second(1), MAX_BATCH)));
    bed.committed(1).await;
    worker.stop().await;
    assert_eq!(bed.depth().await.orders, Some(250), "a message of which a part is left is not acknowledged");
    let mut lane = bed.lane(Config::default(), unlimited(500));
    let mut done = 0;
    while bed.depth().await.orders != Some(0) {
        let progress = step(&mut lane).await;
        done += progress.committed + progress.redelivered;
    }
    assert_eq!((done, bed.totals().await), (250, orders(250)));
}

#[tokio::test]
async fn a_paused_worker_ends_at_once() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    let worker = bed.worker(Config::default(), &Arc::new(Pace::new(DrainRate::Paused, MAX_BATCH)));
    until(|| bed.faults.deliveries() == 1).await;
    worker.stop().await;
    let depth = bed.depth().await;
    assert_eq!((depth.ready_batches, depth.orders), (1, Some(10)), "the message waits for the next worker");
}

#[tokio::test]
async fn a_worker_that_waits_for_orders_ends_at_once() {
    let bed = TestBed::new(100).await;
    let worker = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    until(|| bed.faults.asked(Call::Next) >= Config::default().lanes).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_waits_for_a_ledger_that_is_down_ends_without_it() {
    let bed = TestBed::new(100).await;
    bed.faults.always(Call::Commit, Mishap::Away);
    bed.publish(0..10).await;
    let worker = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    // By then a lane pauses for longer than this test may take, unless the shutdown cuts the pause short.
    until(|| bed.faults.asked(Call::Commit) >= 4).await;
    worker.stop().await;
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(10), orders(0)));
}

#[tokio::test]
async fn a_commit_that_is_under_way_is_finished_and_acknowledged_first() {
    let bed = TestBed::new(100).await;
    bed.faults.always(Call::Commit, Mishap::Held);
    bed.publish(0..10).await;
    let worker = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    until(|| bed.faults.asked(Call::Commit) == 1).await;
    worker.shutdown.cancel();
    never(|| worker.run.is_finished()).await;
    bed.faults.heal(Call::Commit);
    worker.stop().await;
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(10)));
}

#[tokio::test]
async fn a_step_that_is_shut_down_has_written_nothing() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    let shutdown = CancellationToken::new();
    let pace = Arc::new(Pace::new(DrainRate::Paused, MAX_BATCH));
    let config = Config { linger: Duration::ZERO, ..Config::default() };
    let mut lane = Lane::new(&bed.backend, config, pace, shutdown.clone());
    shutdown.cancel();
    let step = tokio::time::timeout(SOON, lane.step()).await.unwrap().unwrap();
    assert_eq!((step, bed.totals().await), (Step::Stopped, orders(0)));
}
