//! Two gateways on real servers: what the crowd that polls is told, and what that costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_testkit::eventually;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::process::{Role, SOON, Urls, token};

fn order_id(answer: &Value) -> String {
    answer["order_id"].as_str().expect("an accepted order has an id").to_owned()
}

/// Reads of orders by `source`, so far.
async fn reads(gateway: &Role, source: &str) -> u64 {
    let text = reqwest::get(format!("{}/metrics", gateway.url())).await.unwrap().text().await.unwrap();
    let series = format!("seckill_order_reads_total{{source=\"{source}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_default()
}

async fn poll(client: &reqwest::Client, gateway: &str, user: u64, order: &str) -> (u16, Value) {
    let request = client.get(format!("{gateway}/api/v1/orders/{order}"));
    let response = request.bearer_auth(token(user)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The status events of an order up to the end of its stream.
async fn events(gateway: String, user: u64, order: String) -> Vec<String> {
    let request = reqwest::Client::new().get(format!("{gateway}/api/v1/orders/{order}/events"));
    let text = request.bearer_auth(token(user)).send().await.unwrap().text().await.unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let status =
        |json: &str| serde_json::from_str::<Value>(json).unwrap()["status"].as_str().unwrap().to_owned();
    data.map(status).collect()
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
    let client = reqwest::Client::new();
    let mut orders = Vec::new();
    for user in 0..POLLERS {
        let (status, answer) = here.order(sale, user).await;
        assert_eq!(status, 202, "{answer}");
        let order = order_id(&answer);
        // Neither sale nor order has been seen there.
        let (status, seen) = poll(&client, &there.url(), user, &order).await;
        assert_eq!((status, &seen["status"]), (200, &"queued".into()), "{seen}");
        orders.push((user, order));
    }
    let (status, _) = poll(&client, &there.url(), POLLERS, &orders[0].1).await;
    assert_eq!(status, 404, "another user's order");
    let streams: JoinSet<_> =
        orders.iter().map(|(user, order)| events(there.url(), *user, order.clone())).collect();

    let (begin, before) = (Instant::now(), reads(&there, "ledger").await);
    let mut pollers = JoinSet::new();
    for (user, order) in orders.clone() {
        let (gateway, client) = (there.url(), client.clone());
        pollers.spawn(async move {
            let mut polls = 0_u64;
            while begin.elapsed() < Duration::from_secs(3) {
                let (status, seen) = poll(&client, &gateway, user, &order).await;
                // A machine that is too busy may make a gateway refuse, and never say anything that is not so.
                assert!(status == 503 || (status == 200 && seen["status"] == "queued"), "{status} {seen}");
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
        assert_eq!(told, ["queued", "committed"]);
    }
    // The same request again says how the order stands, at both gateways.
    for gateway in [&here, &*there] {
        eventually(SOON, async || {
            let (status, again) = gateway.order(sale, 0).await;
            assert_eq!((status, order_id(&again)), (200, orders[0].1.clone()));
            if again["status"] == "committed" { Ok(()) } else { Err(again) }
        })
        .await;
    }
}
