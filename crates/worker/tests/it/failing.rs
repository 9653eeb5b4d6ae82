//! Faults of the queue and the ledger: nothing is lost, nothing is doubled, and the worker goes on.

use std::sync::Arc;

use seckill_core::Dependency;
use seckill_testkit::faults::{Call, Mishap};
use seckill_worker::{Config, Progress};

use crate::test_bed::{SOON, TestBed, UNTIL_FULL, new_rows, orders, step, unlimited, until};

fn one_lane() -> Config {
    Config { lanes: 1, ..Config::default() }
}

#[tokio::test]
async fn a_ledger_that_is_down_for_a_while_loses_nothing_and_causes_no_redelivery() {
    let bed = TestBed::new(100).await;
    let worker = bed.worker(one_lane(), &Arc::new(unlimited(500)));
    // A worker that has never reached the ledger does not know whether a gate is rebuilt, and takes nothing off the queue.
    until(|| bed.faults.asked(Call::Consumer) == 1).await;
    bed.faults.away(Dependency::Ledger);
    bed.publish_apart(0..8).await;
    until(|| bed.faults.asked(Call::Writer) >= 3).await;
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(8), orders(0)));
    bed.faults.back(Dependency::Ledger);
    assert_eq!(bed.drained().await, orders(8));
    let (deliveries, consumers) = (bed.faults.deliveries(), bed.faults.asked(Call::Consumer));
    assert_eq!((deliveries, consumers), (8, 1), "what a lane holds it keeps through a fault of the ledger");
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_takes_no_more_than_its_prefetch_from_the_queue_while_the_ledger_is_down() {
    let bed = TestBed::new(100).await;
    bed.faults.always(Call::Commit, Mishap::Away);
    bed.publish_apart(0..20).await;
    let worker = bed.worker(Config { prefetch: 4, ..one_lane() }, &Arc::new(unlimited(500)));
    until(|| bed.faults.asked(Call::Commit) >= 3).await;
    assert_eq!(bed.faults.deliveries(), 4);
    bed.faults.heal(Call::Commit);
    assert_eq!(bed.drained().await, orders(20));
    assert_eq!(bed.faults.deliveries(), 20, "each message was delivered once");
    worker.stop().await;
}

#[tokio::test]
async fn a_step_that_met_a_fault_of_the_ledger_says_so_and_the_next_one_commits_the_same_orders() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    bed.faults.next(Call::Commit, [Mishap::Away]);
    let mut lane = bed.lane(one_lane(), unlimited(500));
    let fault = tokio::time::timeout(SOON, lane.step()).await.unwrap().unwrap_err();
    assert!(fault.to_string().contains("the ledger is unavailable"), "{fault}");
    assert_eq!(step(&mut lane).await.committed, 10);
    assert_eq!(bed.faults.asked(Call::Writer), 2, "a writer that failed is not used again");
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(10)));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_done_again_and_doubles_nothing() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    bed.faults.next(Call::Commit, [Mishap::AnswerLost]);
    let mut lane = bed.lane(one_lane(), unlimited(500));
    assert!(lane.step().await.unwrap_err().may_have_happened());
    assert_eq!(step(&mut lane).await, Progress { redelivered: 10, ..Progress::default() });
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(10)));
}

#[tokio::test]
async fn an_ack_that_did_not_arrive_brings_the_message_again_and_doubles_nothing() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    bed.faults.next(Call::Ack, [Mishap::NeverArrived]);
    let mut lane = bed.lane(one_lane(), unlimited(500));
    lane.step().await.unwrap_err();
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(10), orders(10)));
    assert_eq!(step(&mut lane).await, Progress { redelivered: 10, ..Progress::default() });
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(10)));
}

#[tokio::test]
async fn a_fault_of_the_queue_gives_back_what_was_held_and_the_lane_goes_on() {
    let bed = TestBed::new(100).await;
    bed.publish_apart(0..3).await;
    bed.faults.next(Call::Next, [Mishap::None, Mishap::None, Mishap::Away]);
    let mut lane = bed.lane(Config { linger: UNTIL_FULL, ..one_lane() }, unlimited(3));
    lane.step().await.unwrap_err();
    assert_eq!((bed.faults.deliveries(), bed.depth().await.ready_batches), (2, 3));
    assert_eq!(step(&mut lane).await, new_rows(3));
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(3)));
}

#[tokio::test]
async fn a_worker_goes_on_through_every_kind_of_fault_of_the_queue() {
    let bed = TestBed::new(100).await;
    bed.publish_apart(0..6).await;
    bed.faults.next(Call::Consumer, [Mishap::Away, Mishap::NeverArrived]);
    bed.faults.next(Call::Next, [Mishap::Away, Mishap::None, Mishap::NeverArrived]);
    bed.faults.next(Call::Ack, [Mishap::NeverArrived, Mishap::AnswerLost]);
    let worker = bed.worker(one_lane(), &Arc::new(unlimited(500)));
    assert_eq!(bed.drained().await, orders(6));
    worker.stop().await;
}

#[tokio::test]
async fn a_queue_that_is_away_for_a_while_is_asked_again_until_it_is_back() {
    let bed = TestBed::new(100).await;
    bed.faults.away(Dependency::Queue);
    bed.publish(0..10).await;
    let worker = bed.worker(Config::default(), &Arc::new(unlimited(500)));
    until(|| bed.faults.asked(Call::Consumer) >= 4).await;
    bed.faults.back(Dependency::Queue);
    assert_eq!(bed.drained().await, orders(10));
    worker.stop().await;
}

#[tokio::test]
async fn a_lane_that_panics_is_started_anew_and_its_orders_come_again() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    bed.faults.next(Call::Commit, [Mishap::Panic]);
    let worker = bed.worker(one_lane(), &Arc::new(unlimited(500)));
    assert_eq!(bed.drained().await, orders(10));
    assert_eq!(bed.faults.deliveries(), 2);
    worker.stop().await;
}
