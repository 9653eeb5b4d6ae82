//! How fast one user may send.

use seckill_gateway::Config;
use seckill_testkit::eventually;

use crate::gateway::{Gateway, config};
use crate::test_bed::{SOON, TestBed};

#[tokio::test]
async fn the_refusal_of_a_too_fast_buyer_says_when_to_come_back() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, Config { order_rate_limit: 1, ..config() }).await;
    let sale = gateway.open_sale(10).await;
    // Two at once and one more each second: so of five in a row some are too fast, unless they take three seconds.
    let mut replies = Vec::new();
    for _ in 0..5 {
        replies.push(gateway.buy(sale, 7).await);
    }
    let order = replies.remove(0).expect(202).order_id();
    let refused = replies.into_iter().find(|reply| reply.status == 429);
    let refused = refused.expect("one of them is too fast").expect_problem(429, "rate-limited");
    assert_eq!(refused.retry_after(), 1);
    gateway.buy(sale, 8).await.expect(202);
    let again = eventually(SOON, async || {
        let reply = gateway.buy(sale, 7).await;
        if reply.status == 429 { Err(reply) } else { Ok(reply.expect(200)) }
    })
    .await;
    assert_eq!(again.order_id(), order);
    bed.expect_at_rest(sale, 2).await;
}

#[tokio::test]
async fn a_refusal_for_being_too_fast_deducts_nothing() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, Config { order_rate_limit: 1, ..config() }).await;
    let (first, second, third) =
        (gateway.open_sale(10).await, gateway.open_sale(10).await, gateway.open_sale(10).await);
    // The limit is the user's, whatever the sale.
    let replies = [gateway.buy(first, 7).await, gateway.buy(second, 7).await, gateway.buy(third, 7).await];
    for (sale, reply) in [first, second, third].into_iter().zip(replies) {
        let orders = bed.level(sale).await.orders;
        assert_eq!(orders, u64::from(reply.status == 202), "{reply:?}");
    }
}

#[tokio::test]
async fn reading_has_a_limit_of_its_own() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, Config { read_rate_limit: 1, ..config() }).await;
    let sale = gateway.open_sale(10).await;
    let order = gateway.buy(sale, 7).await.expect(202).order_id();
    let refused = eventually(SOON, async || {
        let reply = gateway.order(7, order).await;
        if reply.status == 429 { Ok(reply) } else { Err(reply.expect(200)) }
    })
    .await;
    assert_eq!(refused.expect_problem(429, "rate-limited").retry_after(), 1);
    gateway.buy(sale, 7).await.expect(200);
}
