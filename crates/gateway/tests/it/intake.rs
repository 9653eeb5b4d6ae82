//! The hot path under pressure: batches, full lanes, late claims, duplicates, clients that hang up, and a crowd.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use seckill_core::SaleId;
use seckill_gateway::Config;
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::gateway::{Gateway, config, one_lane, quick_recoverer, send, token};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

/// Sends one order for each user, all at once.
fn buy_at_once(gateway: &Gateway, sale: SaleId, users: impl IntoIterator<Item = u64>) -> JoinSet<Reply> {
    users.into_iter().map(|user| send(gateway.buying(sale, user))).collect()
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

/// One lane with room for so many claims.
fn lane_for(claims: usize) -> Config {
    let mut config = one_lane();
    config.intake.lane_capacity = claims;
    config
}

/// Sends an order over a connection of its own, to be hung up by dropping it.
async fn send_order(gateway: &Gateway, sale: SaleId, user: u64) -> TcpStream {
    let mut connection = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    let token = token(user);
    let request = format!(
        "POST /api/v1/sales/{sale}/orders HTTP/1.1\r\nHost: seckill\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.expect("the gateway reads");
    connection
}

/// Sends an order of user 0 that is stuck in the only lane's publish, and more orders behind it until the lane is full;
/// those that found no room are answered by then. The answers of the others are still owed.
async fn fill_the_lane(bed: &TestBed, gateway: &Gateway, sale: SaleId, room: u64) -> JoinSet<Reply> {
    const TOO_MANY: u64 = 5;
    bed.faults.always(Call::Publish, Mishap::Held);
    let mut buying = buy_at_once(gateway, sale, [0]);
    bed.reserved(sale, 1).await;
    for user in 1..=room + TOO_MANY {
        buying.spawn(send(gateway.buying(sale, user)));
    }
    for _ in 0..TOO_MANY {
        let refused = tokio::time::timeout(SOON, buying.join_next()).await.expect("an answer at once");
        let refused = refused.expect("more orders than found room").expect("it is answered");
        refused.expect_problem(503, "overloaded");
    }
    buying
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_once_its_claim_is_taken_in_still_gets_its_order() {
    // Before the gate has decided, and before the queue has confirmed.
    for call in [Call::Reserve, Call::Publish] {
        let bed = TestBed::new().await;
        let gateway = Gateway::start(&bed.backend).await;
        let sale = gateway.open_sale(10).await;
        bed.faults.always(call, Mishap::Held);
        let connection = send_order(&gateway, sale, 7).await;
        eventually(SOON, async || if bed.faults.asked(call) == 1 { Ok(()) } else { Err("not taken in") })
            .await;
        drop(connection);
        bed.faults.heal(call);
        bed.reserved(sale, 1).await;
        bed.settled(sale).await;
        bed.expect_at_rest(sale, 1).await;
        gateway.buy(sale, 7).await.expect(200);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_at_once_have_an_order_or_none_and_never_half_of_one() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(100).await;
    for user in 0..40 {
        drop(send_order(&gateway, sale, user).await);
    }
    gateway.stop().await;
    let level = bed.level(sale).await;
    assert_eq!(level.pending_orders, 0);
    bed.expect_at_rest(sale, level.orders).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_gather_during_a_publish_leave_together() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, lane_for(40)).await;
    let sale = gateway.open_sale(100).await;
    let buying = fill_the_lane(&bed, &gateway, sale, 40).await;
    bed.faults.heal(Call::Publish);
    let replies = buying.join_all().await;
    assert_eq!((replies.len(), count(&replies, 202)), (41, 41), "{replies:?}");
    let sizes: Vec<_> = bed.faults.events(Call::Publish).iter().map(|event| event.orders).collect();
    assert_eq!(sizes, [1, 40], "the first one left at once and alone");
    bed.expect_at_rest(sale, 41).await;
}

/// All clicks of a user go through one lane, so none finds the first one's reservation pending and publishes it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buyer_who_clicks_again_waits_behind_the_first_click() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Publish, Mishap::Held);
    let clicks = buy_at_once(&gateway, sale, [7; 9]);
    bed.reserved(sale, 1).await;
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        assert_eq!(bed.faults.asked(Call::Publish), 1, "another lane publishes the order, too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bed.faults.heal(Call::Publish);
    let replies = clicks.join_all().await;
    assert_eq!((count(&replies, 202), count(&replies, 200)), (1, 8), "{replies:?}");
    let orders: HashSet<_> = replies.iter().map(Reply::order_id).collect();
    assert_eq!(orders.len(), 1);
    assert_eq!(bed.faults.events(Call::Publish).len(), 1);
    bed.expect_at_rest(sale, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_batch_holds_more_than_the_configured_number_of_claims() {
    let bed = TestBed::new().await;
    let mut config = one_lane();
    config.intake.max_batch = 8;
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(100).await;
    let replies = buy_at_once(&gateway, sale, 0..60).join_all().await;
    assert_eq!(count(&replies, 202), 60);
    let sizes: Vec<_> = bed.faults.events(Call::Reserve).iter().map(|event| event.orders).collect();
    assert!(sizes.iter().all(|size| *size <= 8), "{sizes:?}");
    bed.expect_at_rest(sale, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_refuses_at_once_and_deducts_nothing() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, lane_for(3)).await;
    let sale = gateway.open_sale(100).await;
    let buying = fill_the_lane(&bed, &gateway, sale, 3).await;
    assert_eq!(bed.level(sale).await.orders, 1, "nothing was deducted for those who were refused");
    bed.faults.heal(Call::Publish);
    let replies = buying.join_all().await;
    assert_eq!((replies.len(), count(&replies, 202)), (4, 4), "{replies:?}");
    bed.expect_at_rest(sale, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_waited_too_long_are_shed_with_nothing_deducted() {
    let bed = TestBed::new().await;
    let mut config = lane_for(5);
    config.intake.max_wait = Duration::from_millis(50);
    let too_long = config.intake.max_wait * 2;
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(100).await;
    let buying = fill_the_lane(&bed, &gateway, sale, 5).await;
    // Time itself is what this is about: from here on the claims in the lane wait longer than they may.
    let filled = Instant::now();
    let waited = || if filled.elapsed() >= too_long { Ok(()) } else { Err(filled.elapsed()) };
    eventually(SOON, async || waited()).await;
    bed.faults.heal(Call::Publish);
    let replies = buying.join_all().await;
    assert_eq!((count(&replies, 202), count(&replies, 503)), (1, 5), "{replies:?}");
    for late in replies.into_iter().filter(|reply| reply.status == 503) {
        late.expect_problem(503, "overloaded");
    }
    assert_eq!(bed.level(sale).await.orders, 1, "nothing was deducted for those who were late");
    gateway.buy(sale, 1).await.expect(202);
    bed.expect_at_rest(sale, 2).await;
}

#[tokio::test]
async fn a_buyer_who_has_waited_long_enough_gets_the_order_id() {
    let bed = TestBed::new().await;
    let mut config = config();
    config.answer_timeout = Duration::from_millis(100);
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Publish, Mishap::Held);
    let id = gateway.buy(sale, 7).await.expect_problem(503, "outcome-unknown").order_id();
    bed.faults.heal(Call::Publish);
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 1).await;
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_takes_nothing_costs_nobody_a_unit() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(100).await;
    gateway.buy(sale, 0).await.expect(202);
    bed.settled(sale).await;
    bed.faults.accept(false);
    let replies = buy_at_once(&gateway, sale, 1..=20).join_all().await;
    for reply in replies {
        reply.expect_problem(503, "unavailable");
    }
    bed.faults.accept(true);
    bed.faults.always(Call::Publisher, Mishap::Away);
    gateway.buy(sale, 21).await.expect_problem(503, "unavailable");
    assert_eq!(bed.level(sale).await.orders, 1, "nothing was deducted");
    bed.faults.heal(Call::Publisher);
    eventually(SOON, async || {
        let reply = gateway.buy(sale, 1).await;
        if reply.status == 503 { Err(reply) } else { Ok(reply.expect(202)) }
    })
    .await;
    bed.expect_at_rest(sale, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clicks_of_one_user_at_once_are_one_order_and_none_of_them_fails() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    for user in 0..5 {
        let replies = buy_at_once(&gateway, sale, [user; 30]).join_all().await;
        assert_eq!((count(&replies, 202), count(&replies, 200)), (1, 29), "{replies:?}");
        let ids: HashSet<_> = replies.iter().map(Reply::order_id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
    }
    assert_eq!(bed.level(sale).await.remaining, 5);
    bed.expect_at_rest(sale, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_hundred_buyers_for_a_hundred_units_exactly_a_hundred_are_accepted() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(100).await;
    let replies = buy_at_once(&gateway, sale, 0..300).join_all().await;
    assert_eq!((count(&replies, 202), count(&replies, 409)), (100, 200));
    let accepted: Vec<_> = replies.iter().filter(|reply| reply.status == 202).map(Reply::order_id).collect();
    assert_eq!(accepted.iter().collect::<HashSet<_>>().len(), 100);
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 100).await;
    for id in accepted {
        let row = bed.ledger_order(id).await.expect("what was accepted is in the ledger");
        assert_eq!(row.rejected, None);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_meets_lost_confirms_and_retries_is_neither_oversold_nor_lost() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, quick_recoverer()).await;
    let sale = gateway.open_sale(50).await;
    let (lost, never) = (Mishap::AnswerLost, Mishap::NeverArrived);
    bed.faults.next(Call::Publish, [lost, never, Mishap::None, never, lost, Mishap::None, lost]);
    bed.faults.next(Call::Reserve, [Mishap::None, lost, Mishap::None, never]);
    let mut winners = HashSet::new();
    for _ in 0..3 {
        for reply in buy_at_once(&gateway, sale, 0..80).join_all().await {
            if matches!(reply.status, 200 | 202) {
                winners.insert(reply.order_id());
            }
        }
    }
    bed.settled(sale).await;
    bed.expect_at_rest(sale, 50).await;
    assert_eq!(winners.len(), 50);
    for id in winners {
        assert!(bed.ledger_order(id).await.is_some_and(|row| row.rejected.is_none()));
    }
    gateway.stop().await;
}
