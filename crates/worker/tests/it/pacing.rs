//! The drain rate, measured at the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_testkit::faults::{Call, Event};
use seckill_worker::{Config, DrainRate, MAX_BATCH, Pace};

use crate::stage::{Stage, never, orders, per_second, until};

fn at(rate: DrainRate) -> Arc<Pace> {
    Arc::new(Pace::new(rate, MAX_BATCH))
}

/// The most orders that were put to the ledger within any one second.
fn busiest_second(commits: &[Event]) -> usize {
    let from = |first: usize| {
        let end = commits[first].at + Duration::from_secs(1);
        commits[first..].iter().take_while(|commit| commit.at < end).map(|commit| commit.orders).sum()
    };
    (0..commits.len()).map(from).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_any_second_the_ledger_sees_at_most_the_drain_rate_and_one_batch() {
    const RATE: u32 = 800;
    let stage = Stage::new(10_000).await;
    for first in (0..2_000).step_by(125) {
        stage.publish(first..first + 125).await;
    }
    let pace = at(per_second(RATE));
    let begin = Instant::now();
    let worker = stage.worker(Config { lanes: 3, ..Config::default() }, &pace);
    assert_eq!(stage.drained().await, orders(2_000));
    let took = begin.elapsed();
    let commits = stage.faults.events(Call::Commit);
    let most = busiest_second(&commits);
    assert!(most <= RATE as usize + pace.batch(), "{most} orders within one second");
    assert!(commits.iter().all(|commit| commit.orders <= pace.batch()));
    assert!(took >= Duration::from_millis(2_000), "2,000 orders at {RATE} a second took {took:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_higher_rate_takes_effect_while_the_worker_drains() {
    let stage = Stage::new(10_000).await;
    for first in (0..2_000).step_by(250) {
        stage.publish(first..first + 250).await;
    }
    // At this rate the queue would take 200 s.
    let pace = at(per_second(10));
    let worker = stage.worker(Config::default(), &pace);
    stage.committed(1).await;
    pace.set(per_second(20_000));
    assert_eq!(stage.drained().await, orders(2_000));
    worker.stop().await;
}

#[tokio::test]
async fn a_lower_rate_takes_effect_while_the_worker_drains() {
    const RATE: u32 = 200;
    let stage = Stage::new(10_000).await;
    for first in (0..2_000).step_by(250) {
        stage.publish(first..first + 250).await;
    }
    let pace = at(per_second(1_000));
    let worker = stage.worker(Config::default(), &pace);
    stage.committed(200).await;
    pace.set(per_second(RATE));
    let changed = Instant::now();
    until(|| changed.elapsed() >= Duration::from_millis(1_200)).await;
    let commits = stage.faults.events(Call::Commit);
    let since: Vec<_> = commits.into_iter().filter(|commit| commit.at > changed).collect();
    // Each lane may have been on its way to the ledger with a batch of the old rate.
    let batches = pace.batch() + Config::default().lanes * 100;
    let most = busiest_second(&since);
    assert!(most <= RATE as usize + batches, "{most} orders within one second");
    assert!(!since.is_empty(), "the worker goes on at the new rate");
    worker.stop().await;
}

#[tokio::test]
async fn what_was_gathered_while_paused_is_drained_at_the_new_rate_and_not_in_one_lump() {
    const RATE: u32 = 500;
    let stage = Stage::new(10_000).await;
    for first in (0..800).step_by(200) {
        stage.publish(first..first + 200).await;
    }
    let pace = at(DrainRate::Paused);
    let worker = stage.worker(Config::default(), &pace);
    until(|| stage.faults.deliveries() == 4).await;
    pace.set(per_second(RATE));
    assert_eq!(stage.drained().await, orders(800));
    let commits = stage.faults.events(Call::Commit);
    assert!(commits.iter().all(|commit| commit.orders <= pace.batch()), "{commits:?}");
    let most = busiest_second(&commits);
    assert!(most <= RATE as usize + pace.batch(), "{most} orders within one second");
    worker.stop().await;
}

#[tokio::test]
async fn setting_the_rate_over_and_over_gives_nothing_away() {
    const RATE: u32 = 100;
    let stage = Stage::new(10_000).await;
    stage.publish(0..250).await;
    stage.publish(250..500).await;
    let pace = at(per_second(RATE));
    let begin = Instant::now();
    let worker = stage.worker(Config::default(), &pace);
    until(|| stage.faults.deliveries() == 2).await;
    let mut changes = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..60 {
        // Time for a lane to take what a change lets through.
        changes.tick().await;
        pace.set(per_second(RATE));
    }
    worker.stop().await;
    let most = f64::from(RATE) * begin.elapsed().as_secs_f64() + pace.batch() as f64;
    let commits = stage.faults.events(Call::Commit);
    let seen: usize = commits.iter().map(|commit| commit.orders).sum();
    assert!(seen as f64 <= most, "{seen} orders, and the rate allows {most}");
}

#[tokio::test]
async fn a_paused_worker_drains_nothing_until_it_is_resumed() {
    let stage = Stage::new(100).await;
    stage.publish_apart(0..10).await;
    let pace = at(DrainRate::Paused);
    let worker = stage.worker(Config::default(), &pace);
    until(|| stage.faults.deliveries() > 0).await;
    never(|| stage.faults.asked(Call::Commit) > 0).await;
    assert_eq!((stage.depth().await.orders, stage.totals().await), (Some(10), orders(0)));
    pace.set(DrainRate::Unlimited);
    assert_eq!(stage.drained().await, orders(10));
    // And paused once more.
    pace.set(DrainRate::Paused);
    let commits = stage.faults.asked(Call::Commit);
    stage.publish(10..20).await;
    never(|| stage.faults.asked(Call::Commit) > commits).await;
    worker.stop().await;
    assert_eq!((stage.depth().await.orders, stage.totals().await), (Some(10), orders(10)));
}
