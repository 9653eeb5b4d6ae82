//! The drain rate, measured at the ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use seckill_core::capacity::Capacity;
use seckill_core::{Around, Dependency, Fault};
use seckill_testkit::faults::{Call, Event};
use seckill_worker::{AutoBounds, Config, DrainRate, MAX_BATCH, Pace};

use crate::test_bed::{TestBed, never, orders, per_second, until};

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
    let bed = TestBed::new(10_000).await;
    for first in (0..2_000).step_by(125) {
        bed.publish(first..first + 125).await;
    }
    let pace = at(per_second(RATE));
    let begin = Instant::now();
    let worker = bed.worker(Config { lanes: 3, ..Config::default() }, &pace);
    assert_eq!(bed.drained().await, orders(2_000));
    let took = begin.elapsed();
    let commits = bed.faults.events(Call::Commit);
    let most = busiest_second(&commits);
    assert!(most <= RATE as usize + pace.batch(), "{most} orders within one second");
    assert!(commits.iter().all(|commit| commit.orders <= pace.batch()));
    assert!(took >= Duration::from_millis(2_000), "2,000 orders at {RATE} a second took {took:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_higher_rate_takes_effect_while_the_worker_drains() {
    let bed = TestBed::new(10_000).await;
    for first in (0..2_000).step_by(250) {
        bed.publish(first..first + 250).await;
    }
    // At this rate the queue would take 200 s.
    let pace = at(per_second(10));
    let worker = bed.worker(Config::default(), &pace);
    bed.committed(1).await;
    pace.set(per_second(20_000));
    assert_eq!(bed.drained().await, orders(2_000));
    worker.stop().await;
}

#[tokio::test]
async fn a_lower_rate_takes_effect_while_the_worker_drains() {
    const RATE: u32 = 200;
    let bed = TestBed::new(10_000).await;
    for first in (0..2_000).step_by(250) {
        bed.publish(first..first + 250).await;
    }
    let pace = at(per_second(1_000));
    let worker = bed.worker(Config::default(), &pace);
    bed.committed(200).await;
    pace.set(per_second(RATE));
    let changed = Instant::now();
    let since = || {
        let commits = bed.faults.events(Call::Commit).into_iter();
        commits.filter(|commit| commit.at > changed).collect::<Vec<_>>()
    };
    // More than a second of it, and the worker goes on at the new rate.
    until(|| changed.elapsed() >= Duration::from_millis(1_200) && !since().is_empty()).await;
    let since = since();
    // Each lane may have been on its way to the ledger with a batch of the old rate.
    let batches = pace.batch() + Config::default().lanes * 100;
    let most = busiest_second(&since);
    assert!(most <= RATE as usize + batches, "{most} orders within one second");
    worker.stop().await;
}

#[tokio::test]
async fn what_was_gathered_while_paused_is_drained_at_the_new_rate_and_not_in_one_lump() {
    const RATE: u32 = 500;
    let bed = TestBed::new(10_000).await;
    for first in (0..800).step_by(200) {
        bed.publish(first..first + 200).await;
    }
    let pace = at(DrainRate::Paused);
    let worker = bed.worker(Config::default(), &pace);
    until(|| bed.faults.deliveries() == 4).await;
    pace.set(per_second(RATE));
    assert_eq!(bed.drained().await, orders(800));
    let commits = bed.faults.events(Call::Commit);
    assert!(commits.iter().all(|commit| commit.orders <= pace.batch()), "{commits:?}");
    let most = busiest_second(&commits);
    assert!(most <= RATE as usize + pace.batch(), "{most} orders within one second");
    worker.stop().await;
}

#[tokio::test]
async fn setting_the_rate_over_and_over_gives_nothing_away() {
    const RATE: u32 = 100;
    let bed = TestBed::new(10_000).await;
    bed.publish(0..250).await;
    bed.publish(250..500).await;
    let pace = at(per_second(RATE));
    let begin = Instant::now();
    let worker = bed.worker(Config::default(), &pace);
    until(|| bed.faults.deliveries() == 2).await;
    let mut changes = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..60 {
        // Time for a lane to take what a change lets through.
        changes.tick().await;
        pace.set(per_second(RATE));
    }
    worker.stop().await;
    let most = f64::from(RATE) * begin.elapsed().as_secs_f64() + pace.batch() as f64;
    let commits = bed.faults.events(Call::Commit);
    let seen: usize = commits.iter().map(|commit| commit.orders).sum();
    assert!(seen as f64 <= most, "{seen} orders, and the rate allows {most}");
}

#[tokio::test]
async fn a_paused_worker_drains_nothing_until_it_is_resumed() {
    let bed = TestBed::new(100).await;
    bed.publish_apart(0..10).await;
    let pace = at(DrainRate::Paused);
    let worker = bed.worker(Config::default(), &pace);
    until(|| bed.faults.deliveries() > 0).await;
    never(|| bed.faults.asked(Call::Commit) > 0).await;
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(10), orders(0)));
    pace.set(DrainRate::Unlimited);
    assert_eq!(bed.drained().await, orders(10));
    // And paused once more.
    pace.set(DrainRate::Paused);
    let commits = bed.faults.asked(Call::Commit);
    bed.publish(10..20).await;
    never(|| bed.faults.asked(Call::Commit) > commits).await;
    worker.stop().await;
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(10), orders(10)));
}

/// Two workers of one back end, one of which is busy at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_one_rate_by_what_they_need() {
    const RATE: u32 = 800;
    let bed = TestBed::new(20_000).await;
    let (one, two) = (at(per_second(RATE)), at(per_second(RATE)));
    // The second takes one batch and holds on to it, as a worker with little to do.
    let first = bed.worker(Config::default(), &one);
    let second = bed.worker(Config { lanes: 1, prefetch: 1, ..Config::default() }, &two);
    until(|| one.rate() == per_second(400) && two.rate() == per_second(400)).await;
    for first in (0..4_000).step_by(125) {
        bed.publish(first..first + 125).await;
    }
    bed.committed(3_000).await;
    assert!(!matches!((one.rate(), two.rate()), (DrainRate::Paused, _) | (_, DrainRate::Paused)));
    let most = busiest_second(&bed.faults.events(Call::Commit));
    assert!(most <= (RATE + RATE / 5) as usize, "{most} orders within one second");
    second.stop().await;
    // What it gave back is the first one's.
    until(|| one.rate() == per_second(RATE)).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_in_its_process_goes_on_with_its_own_share() {
    let bed = TestBed::new(100).await;
    let pace = at(per_second(1_000));
    for user in 0..3 {
        let worker = bed.worker(Config::default(), &pace);
        bed.publish(user..user + 1).await;
        bed.committed(user + 1).await;
        worker.run.abort();
    }
}

/// Every commit takes so many milliseconds longer.
#[derive(Default)]
struct SlowCommits(AtomicU64);

impl Around for SlowCommits {
    async fn around<T: Send>(
        &self,
        _dependency: Dependency,
        call: Call,
        _orders: usize,
        inner: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Fault> {
        if call == Call::Commit {
            tokio::time::sleep(Duration::from_millis(self.0.load(Relaxed))).await;
        }
        inner.await
    }
}

/// How far it falls within two seconds is tested at the gradient, on a clock of the test's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_auto_falls_when_the_ledger_is_slow_and_recovers() {
    let mut bed = TestBed::new(200_000).await;
    let slow = Arc::<SlowCommits>::default();
    // A ledger whose commits always take the same, on any machine.
    slow.0.store(30, Relaxed);
    bed.backend = bed.real.wrapped(&slow);
    let bounds = AutoBounds { min: Capacity::per_second(200), max: Capacity::per_second(2_000) };
    let pace = Arc::new(Pace::new(DrainRate::Auto, MAX_BATCH).with_auto_bounds(bounds));
    let rate = || match pace.rate() {
        DrainRate::PerSecond(rate) => rate.get(),
        other => panic!("{other}"),
    };
    let worker = bed.worker(Config::default(), &pace);
    let publishing = async {
        for first in (0..200_000).step_by(250) {
            bed.publish(first..first + 250).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let looking = async {
        until(|| rate() >= 1_000).await;
        slow.0.store(500, Relaxed);
        let begin = Instant::now();
        until(|| rate() <= 500).await;
        println!("the rate was halved after {:?}", begin.elapsed());
        slow.0.store(30, Relaxed);
        until(|| rate() >= 1_000).await;
    };
    tokio::select! {
        () = publishing => panic!("there were not enough orders"),
        () = looking => {}
    }
    worker.stop().await;
}
