//! The end of a gateway: orderly, out of patience, and sudden.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use seckill_core::{SaleId, UserId};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Faults, Mishap};
use tokio::task::JoinSet;

use crate::gateway::{Gateway, config, quick_recoverer};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

/// Orders of these users, all sent at once; each ends with its user and the answer, or none where the connection broke.
fn buy_at_once(
    gateway: &Gateway,
    sale: SaleId,
    users: std::ops::Range<u64>,
) -> JoinSet<(u64, Option<Reply>)> {
    let buy = |user| {
        let request = gateway.buying(sale, user);
        async move {
            let Ok(response) = request.send().await else { return (user, None) };
            (user, Reply::read(response).await.ok())
        }
    };
    users.map(buy).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_taken_in_before_a_shutdown_is_answered_and_settled() {
    const USERS: u64 = 200;
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(150).await;
    bed.faults.always(Call::Publish, Mishap::Held);
    let buying = buy_at_once(&gateway, sale, 0..USERS);
    eventually(SOON, async || match bed.faults.asked(Call::Publish) {
        lanes @ 4.. => Ok(lanes),
        lanes => Err(lanes),
    })
    .await;
    gateway.shutdown.cancel();
    gateway.buy(sale, USERS).await.expect_problem(503, "unavailable");
    bed.faults.heal(Call::Publish);
    let answers = tokio::time::timeout(SOON, buying.join_all()).await.expect("everyone is answered");
    tokio::time::timeout(config().grace, gateway.run).await.expect("within its grace time").unwrap();
    let level = bed.level(sale).await;
    assert_eq!(level.pending_orders, 0, "nothing is left to the recoverer");
    let mut accepted = HashSet::new();
    for (user, answer) in answers {
        let held = bed.real.gate.holdings(UserId(user), &[sale]).await.unwrap();
        match answer {
            Some(reply) if reply.status == 202 => {
                assert_eq!(reply.order_id(), held[0].order_id);
                accepted.insert(reply.order_id());
            }
            Some(reply) if reply.status == 409 => assert!(held.is_empty(), "{reply:?}"),
            Some(reply) => {
                let reply = reply.expect_problem(503, "unavailable");
                assert!(
                    held.is_empty(),
                    "the answer to user {user} says that nothing was deducted: {reply:?}"
                );
            }
            None => assert!(held.is_empty(), "the order of user {user} was taken in and never answered"),
        }
    }
    assert_eq!(accepted.len() as u64, level.orders);
    assert!(!accepted.is_empty());
    bed.expect_at_rest(sale, level.orders).await;
}

#[tokio::test]
async fn a_gateway_with_nothing_to_do_ends_at_once() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    gateway.open_sale(10).await;
    // The client's connection is still open.
    gateway.shutdown.cancel();
    let end = tokio::time::timeout(config().grace / 4, gateway.run).await;
    end.expect("it does not wait for idle connections").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_within_its_grace_time_and_what_is_unfinished_is_recovered() {
    let bed = TestBed::new().await;
    let grace = Duration::from_millis(300);
    let gateway = Gateway::with(&bed.backend, seckill_gateway::Config { grace, ..config() }).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Publish, Mishap::Held);
    let _buying = buy_at_once(&gateway, sale, 7..8);
    bed.reserved(sale, 1).await;
    let begin = Instant::now();
    gateway.shutdown.cancel();
    tokio::time::timeout(SOON, gateway.run).await.expect("the grace time is over").unwrap();
    assert!((grace..grace + SOON / 4).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(bed.level(sale).await.pending_orders, 1);
    // The queue works again for the next gateway, and the lane of the first one is stuck for ever.
    let next = Gateway::with(&bed.real, quick_recoverer()).await;
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 1).await;
    next.buy(sale, 7).await.expect(200);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_orders_of_a_gateway_that_died_before_the_publish_are_recovered_by_another() {
    let bed = TestBed::new().await;
    let (doomed_backend, doomed_faults) = Faults::wrap(&bed.real);
    doomed_faults.always(Call::Publish, Mishap::Held);
    // On a runtime of its own, which is dropped with all its tasks wherever they are, as a process that is killed.
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let doomed = process.spawn(async move { Gateway::start(&doomed_backend).await }).await.unwrap();
    let sale = doomed.open_sale(100).await;
    let buying = buy_at_once(&doomed, sale, 0..30);
    // Four lanes are stuck, each with the claims of its first batch; the others are not decided yet.
    eventually(SOON, async || match doomed_faults.asked(Call::Publish) {
        lanes @ 4.. => Ok(lanes),
        lanes => Err(lanes),
    })
    .await;
    process.shutdown_background();
    for (user, answer) in buying.join_all().await {
        assert!(answer.is_none(), "user {user} was answered by a dead gateway: {answer:?}");
    }
    let level = bed.level(sale).await;
    assert!(level.orders >= 4 && level.pending_orders == level.orders, "{level:?}");
    assert_eq!(bed.queued().await, 0);
    let next = Gateway::with(&bed.backend, quick_recoverer()).await;
    bed.settled(sale).await;
    bed.expect_at_rest(sale, level.orders).await;
    // Whoever tries again gets the order that was recovered, or a first one.
    for (user, answer) in buy_at_once(&next, sale, 0..30).join_all().await {
        let answer = answer.unwrap_or_else(|| panic!("user {user} was not answered"));
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    }
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 30).await;
    next.stop().await;
}
