//! What one step does: gather, commit, acknowledge.

use std::time::{Duration, Instant};

use seckill_core::{LedgerTotals, RejectReason};
use seckill_testkit::faults::Call;
use seckill_testkit::fixtures::{claim, claim_of};
use seckill_worker::{Config, Progress};

use crate::test_bed::{TestBed, UNTIL_FULL, new_rows, orders, step, unlimited, until};

fn until_full() -> Config {
    Config { linger: UNTIL_FULL, ..Config::default() }
}

#[tokio::test]
async fn one_step_drains_one_batch() {
    let bed = TestBed::new(100).await;
    bed.publish(0..10).await;
    let mut lane = bed.lane(Config::default(), unlimited(500));
    assert_eq!(step(&mut lane).await, new_rows(10));
    assert_eq!(bed.depth().await.orders, Some(0), "the batch is acknowledged");
    assert_eq!(bed.totals().await, orders(10));
}

#[tokio::test]
async fn a_message_larger_than_the_batch_is_committed_in_parts_and_acked_with_the_last_one() {
    let bed = TestBed::new(1_000).await;
    bed.publish(0..250).await;
    let mut lane = bed.lane(Config::default(), unlimited(100));
    for (rows, acks) in [(100, 0), (100, 0), (50, 1)] {
        assert_eq!(step(&mut lane).await, new_rows(rows));
        assert_eq!(bed.faults.asked(Call::Ack), acks);
    }
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(250)));
}

#[tokio::test]
async fn a_message_whose_lane_ends_half_way_comes_again_and_doubles_nothing() {
    let bed = TestBed::new(1_000).await;
    bed.publish(0..250).await;
    let mut lane = bed.lane(Config::default(), unlimited(100));
    step(&mut lane).await;
    drop(lane);
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(250), orders(100)));
    let mut lane = bed.lane(Config::default(), unlimited(150));
    assert_eq!(step(&mut lane).await, Progress { committed: 50, redelivered: 100, rejected: 0, parked: 0 });
    assert_eq!(step(&mut lane).await, new_rows(100));
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(250)));
}

#[tokio::test]
async fn small_messages_are_gathered_into_one_commit() {
    let bed = TestBed::new(100).await;
    bed.publish_apart(0..40).await;
    let mut lane = bed.lane(until_full(), unlimited(40));
    assert_eq!(step(&mut lane).await, new_rows(40));
    assert_eq!((bed.faults.asked(Call::Commit), bed.faults.asked(Call::Ack)), (1, 40));
    assert_eq!(bed.depth().await.orders, Some(0));
}

#[tokio::test]
async fn what_is_gathered_beyond_a_batch_leads_the_next_one() {
    let bed = TestBed::new(100).await;
    for first in [0, 8, 16] {
        bed.publish(first..first + 8).await;
    }
    let mut lane = bed.lane(until_full(), unlimited(12));
    for rows in [12, 12] {
        assert_eq!(step(&mut lane).await, new_rows(rows));
    }
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(24)));
}

#[tokio::test]
async fn a_lane_waits_for_more_orders_for_the_linger_time_and_no_longer() {
    let bed = TestBed::new(100).await;
    let linger = Duration::from_millis(100);
    bed.publish(0..1).await;
    let mut lane = bed.lane(Config { linger, ..Config::default() }, unlimited(500));
    let begin = Instant::now();
    assert_eq!(step(&mut lane).await, new_rows(1));
    assert!(begin.elapsed() >= linger, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_order_that_comes_within_the_linger_time_joins_the_commit() {
    let bed = TestBed::new(100).await;
    bed.publish(0..1).await;
    let mut lane = bed.lane(until_full(), unlimited(2));
    let second = async {
        until(|| bed.faults.deliveries() == 1).await;
        bed.publish(1..2).await;
    };
    let (progress, ()) = tokio::join!(step(&mut lane), second);
    assert_eq!(progress, new_rows(2));
}

#[tokio::test]
async fn a_lane_holds_no_more_messages_than_its_prefetch() {
    let bed = TestBed::new(100).await;
    bed.publish_apart(0..10).await;
    let mut lane = bed.lane(Config { prefetch: 4, ..until_full() }, unlimited(500));
    for rows in [4, 4] {
        assert_eq!(step(&mut lane).await, new_rows(rows), "a full prefetch is a full batch");
    }
    assert_eq!(bed.depth().await.orders, Some(2));
}

#[tokio::test]
async fn rejected_orders_are_recorded_with_their_reason_and_the_rest_commits() {
    let bed = TestBed::new(3).await;
    // The limit is 2 a user.
    let claims = vec![claim(1), claim_of(2, 3), claim(1), claim_of(3, 2), claim(4)];
    let ids = bed.publish_claims(claims).await;
    let mut lane = bed.lane(Config::default(), unlimited(500));
    assert_eq!(step(&mut lane).await, Progress { committed: 2, rejected: 3, redelivered: 0, parked: 0 });
    let mut fates = Vec::new();
    for id in ids {
        let order = bed.real.ledger.order(id).await.unwrap().expect("every order has come to an end");
        fates.push(order.rejected);
    }
    use RejectReason::{BadQuantity, SoldOut, UserHasOrder};
    assert_eq!(fates, [None, Some(BadQuantity), Some(UserHasOrder), None, Some(SoldOut)]);
    let totals =
        LedgerTotals { orders: 2, units: 3, rejected_orders: 3, rejected_units: 5, ..Default::default() };
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), totals));
}

#[tokio::test]
async fn a_message_that_was_drained_before_is_acked_and_changes_nothing() {
    let bed = TestBed::new(100).await;
    let claims: Vec<_> = (0..5).map(claim).collect();
    bed.publish_claims(claims.clone()).await;
    bed.publish_claims(claims).await;
    let mut lane = bed.lane(until_full(), unlimited(5));
    assert_eq!(step(&mut lane).await, new_rows(5));
    assert_eq!(step(&mut lane).await, Progress { redelivered: 5, ..Progress::default() });
    assert_eq!((bed.depth().await.orders, bed.totals().await), (Some(0), orders(5)));
}
