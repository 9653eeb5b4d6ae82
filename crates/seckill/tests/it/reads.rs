//! Two gateways on real servers: what the crowd that polls is told, and what that costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use seckill_client::{Buyer, found};
use seckill_core::{OrderId, OrderStatus};
use seckill_testkit::eventually;
use tokio::task::JoinSet;

use crate::process::{Role, SOON, Urls, accepted};

/// Reads of orders by `source`, so far.
async fn reads(gateway: &Role, source: &str) -> u64 {
    let text = gateway.client().metrics().await.unwrap();
    let series = format!("seckill_order_reads_total{{source=\"{source}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_default()
}

/// The states of an order up to the end of its event stream.
async fn states(buyer: Buyer, order: OrderId) -> Vec<OrderStatus> {
    let events = buyer.order_events(order).await.unwrap();
    events.map(|event| event.unwrap().status).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_gateway_knows_and_hears_of_an_order_at_once_and_polls_stay_off_the_database() {
    const POLLERS: u64 = 64;
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    // Without limits on what one user may ask.
    let args = ["--read-rate-limit", "0"];
    let (here, there) = (urls.gateway(&args).await, Arc::new(urls.gateway(&args).await));
    let sale = here.open_sale(1_000).await;
    let mut orders = Vec::new();
    for user in 0..POLLERS {
        let order = accepted(here.order(sale, user).await);
        // Neither sale nor order has been seen there.
        let buyer = there.buyer(user);
        assert_eq!(buyer.order_status(order).await.unwrap().status, OrderStatus::Queued);
        orders.push((buyer, order));
    }
    let others = found(there.buyer(POLLERS).order_status(orders[0].1).await);
    assert_eq!(others, Ok(None), "another user's order");
    let streams: JoinSet<_> = orders.iter().map(|(buyer, order)| states(buyer.clone(), *order)).collect();

    let (begin, before) = (Instant::now(), reads(&there, "ledger").await);
    let mut pollers = JoinSet::new();
    for (buyer, order) in orders.clone() {
        pollers.spawn(async move {
            let mut polls = 0_u64;
            while begin.elapsed() < Duration::from_secs(3) {
                // A machine that is too busy may make a gateway refuse, and never say anything that is not so.
                match buyer.order_status(order).await {
                    Ok(seen) => assert_eq!(seen.status, OrderStatus::Queued, "{seen:?}"),
                    Err(error) => assert_eq!(error.status(), Some(503), "{error:?}"),
                }
                polls += 1;
            }
            polls
        });
    }
    let polls: u64 = pollers.join_all().await.into_iter().sum();
    let (statements, seconds) = (reads(&there, "ledger").await - before, begin.elapsed().as_secs() + 1);
    assert!(statements > 0 && statements <= 500 * seconds, "{statements} statements in {seconds} s");
    assert!(polls > 2 * statements, "{polls} polls cost {statements} statements");

    let _worker = urls.worker(&[]).await;
    for told in tokio::time::timeout(SOON, streams.join_all()).await.expect("every stream ends") {
        assert_eq!(told, [OrderStatus::Queued, OrderStatus::Committed]);
    }
    // The same request again says how the order stands, at both gateways.
    for gateway in [&here, &*there] {
        eventually(SOON, async || {
            let again = gateway.order(sale, 0).await.unwrap();
            assert_eq!((again.replayed, again.value.order_id), (true, orders[0].1));
            if again.value.status == OrderStatus::Committed { Ok(()) } else { Err(again) }
        })
        .await;
    }
}
