//! Shutdown: nothing is cut off in the middle, and what was held goes back.

use std::sync::Arc;
use std::time::Duration;

use seckill_testkit::faults::{Call, Mishap};
use seckill_worker::{Config, DrainRate, Lane, MAX_BATCH, Pace, Step};
use tokio_util::sync::CancellationToken;

use crate::stage::{SOON, Stage, never, orders, per_second, step, unlimited, until};

#[tokio::test]
async fn a_worker_that_waits_for_its_pace_ends_at_once_and_gives_back_what_it_held() {
    let stage = Stage::new(1_000).await;
    stage.publish(0..200).await;
    stage.publish(200..250).await;
    // One order a second: the wait for the first batch is one second, and for all of them more than four minutes.
    let worker = stage.worker(Config::default(), &Arc::new(Pace::new(per_second(1), MAX_BATCH)));
    stage.committed(1).await;
    worker.stop().await;
    assert_eq!(
        stage.depth().await.orders,
        Some(250),
        "a message of which a part is left is not acknowledged"
    );
    let mut lane = stage.lane(Config::default(), unlimited(500));
    let mut done = 0;
    while stage.depth().await.orders != Some(0) {
        let progress = step(&mut lane).await;
        done += progress.committed + progress.redelivered;
    }
    assert_eq!((done, stage.totals().await), (250, orders(250)));
}

#[tokio::test]
async fn a_paused_worker_ends_at_once() {
    let stage = Stage::new(100).await;
    stage.publish(0..10).await;
    let worker = stage.worker(Config::default(), &Arc::new(Pace::new(DrainRate::Paused, MAX_BATCH)));
    until(|| stage.faults.deliveries() == 1).await;
    worker.stop().await;
    let depth = stage.depth().await;
    assert_eq!((depth.ready_batches, depth.orders), (1, Some(10)), "the message waits for the next worker");
}

#[tokio::test]
async fn a_worker_that_waits_for_orders_ends_at_once() {
    let stage = Stage::new(100).await;
    let worker = stage.worker(Config::default(), &Arc::new(unlimited(500)));
    until(|| stage.faults.asked(Call::Next) >= Config::default().lanes).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_waits_for_a_ledger_that_is_down_ends_without_it() {
    let stage = Stage::new(100).await;
    stage.faults.always(Call::Commit, Mishap::Away);
    stage.publish(0..10).await;
    let worker = stage.worker(Config::default(), &Arc::new(unlimited(500)));
    // By then a lane pauses for longer than this test may take, unless the shutdown cuts the pause short.
    until(|| stage.faults.asked(Call::Commit) >= 4).await;
    worker.stop().await;
    assert_eq!((stage.depth().await.orders, stage.totals().await), (Some(10), orders(0)));
}

#[tokio::test]
async fn a_commit_that_is_under_way_is_finished_and_acknowledged_first() {
    let stage = Stage::new(100).await;
    stage.faults.always(Call::Commit, Mishap::Held);
    stage.publish(0..10).await;
    let worker = stage.worker(Config::default(), &Arc::new(unlimited(500)));
    until(|| stage.faults.asked(Call::Commit) == 1).await;
    worker.shutdown.cancel();
    never(|| worker.run.is_finished()).await;
    stage.faults.heal(Call::Commit);
    worker.stop().await;
    assert_eq!((stage.depth().await.orders, stage.totals().await), (Some(0), orders(10)));
}

#[tokio::test]
async fn a_step_that_is_shut_down_has_written_nothing() {
    let stage = Stage::new(100).await;
    stage.publish(0..10).await;
    let shutdown = CancellationToken::new();
    let pace = Arc::new(Pace::new(DrainRate::Paused, MAX_BATCH));
    let config = Config { linger: Duration::ZERO, ..Config::default() };
    let mut lane = Lane::new(&stage.backend, config, pace, shutdown.clone());
    shutdown.cancel();
    let step = tokio::time::timeout(SOON, lane.step()).await.unwrap().unwrap();
    assert_eq!((step, stage.totals().await), (Step::Stopped, orders(0)));
}
