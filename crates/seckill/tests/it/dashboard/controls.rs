//! What the controls do, seen from the other end: at the workers, in the ledger, in the feed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::stand::{On, Stand};
use crate::process::SOON;

/// A load that keeps the queue filled for a while.
fn load(stock: u32) -> Value {
    json!({"preset": "spike", "peak_rate": 3_000, "buyers": stock, "stock": stock})
}

async fn start(stand: &Stand, load: &Value) {
    let (status, answer) = stand.ask(Method::POST, "/load", load).await;
    assert_eq!(status, 202, "{answer}");
}

fn assert_clean(load: &Value) {
    let verdict = &load["verdict"];
    assert_eq!(load["state"], "done", "{load}");
    for (what, count) in [("lost", 0), ("oversold", 0), ("duplicates", 0)] {
        assert_eq!(verdict[what], count, "{load}");
    }
    assert_eq!((&verdict["pass"], &verdict["conserved"]), (&json!(true), &json!(true)), "{load}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_rate_reaches_every_worker_and_holds() {
    let stand = Stand::new(On::Cluster).await;
    stand.frame(|frame| frame.drain_rates() == ["500", "500"]).await;
    stand.drain(50).await;
    start(&stand, &load(6_000)).await;
    stand.frame(|frame| frame.number("backlog") > Some(2_500.0)).await;
    let (status, settings) = stand.ask(Method::PUT, "/drain-rate", &json!({"rate": 300})).await;
    assert_eq!((status, &settings["drain_rate"]), (200, &json!("300")));
    let reported = stand.frame(|frame| frame.drain_rates() == ["300", "300"]).await;
    assert_eq!(reported.number("drain_rate"), Some(600.0));
    // Once the second before the change is out of the window, and while there is enough to write.
    stand
        .frame(|frame| {
            let rate = frame.number("committed").unwrap_or_default();
            frame.number("backlog") > Some(1_000.0) && (480.0..=660.0).contains(&rate)
        })
        .await;
    stand.ask(Method::PUT, "/drain-rate", &json!({"rate": "unlimited"})).await;
    stand.frame(|frame| frame.drain_rates() == ["unlimited", "unlimited"]).await;
    assert_clean(&stand.load_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_workers_write_nothing_until_they_go_on() {
    let stand = Stand::new(On::Embedded).await;
    stand.ask(Method::PUT, "/workers", &json!({"paused": true})).await;
    stand.frame(|frame| frame.drain_rates() == ["paused"]).await;
    start(&stand, &load(500)).await;
    let full = stand.frame(|frame| frame.number("backlog") == Some(500.0)).await;
    assert_eq!((full.number("sold"), full.number("drain_rate")), (Some(0.0), Some(0.0)));
    // Longer than it takes to call orders lost: what waits for a paused worker is not.
    let later = full.number("t").unwrap() + 8.0;
    let still = stand.frame(|frame| frame.number("t") > Some(later)).await;
    assert_eq!(still.data["invariants"]["lost"], 0, "{:?}", still.data);
    assert_eq!(still.data["invariants"]["verdict"], "in_flight");
    stand.ask(Method::PUT, "/workers", &json!({"paused": false})).await;
    stand.frame(|frame| frame.drain_rates() == ["1000"]).await;
    assert_clean(&stand.load_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_show_end_by_themselves_and_break_no_promise() {
    for on in [On::Embedded, On::Cluster] {
        let stand = Stand::new(on).await;
        stand.frame(|frame| !frame.drain_rates().is_empty()).await;
        for (fault, amount) in [("slow_commits", 200), ("duplicate_deliveries", 100), ("lost_confirms", 40)] {
            let body = json!({"amount": amount, "seconds": 6});
            let (status, settings) = stand.ask(Method::PUT, &format!("/faults/{fault}"), &body).await;
            assert_eq!((status, &settings["faults"][fault]["amount"]), (200, &json!(amount)));
        }
        start(&stand, &load(2_000)).await;
        stand.frame(|frame| frame.number("commit_ms") > Some(200.0)).await;
        stand.frame(|frame| frame.number("unknown") > Some(0.0)).await;
        stand.frame(|frame| frame.number("redelivered") > Some(0.0)).await;
        let ended = |frame: &super::stand::Frame| {
            frame.processes().iter().all(|process| process["faults"] == json!([]))
                && frame.data["settings"]["faults"]["slow_commits"].is_null()
        };
        stand.frame(ended).await;
        // Orders whose confirm was lost are published again by the recoverer, ten seconds later.
        assert_clean(&stand.load_over().await);
        let (_, sale) = stand.gateway.get("/api/v1/sales").await;
        let sale = sale["sales"][0]["id"].as_u64().unwrap();
        let audit = stand.gateway.audit_at_rest(sale).await;
        assert_eq!(audit.verdict, seckill_core::Verdict::Clean, "{audit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_crash_does_and_nothing_is_lost() {
    for on in [On::Embedded, On::Cluster] {
        let mut stand = Stand::new(on).await;
        let workers = if on == On::Embedded { 1 } else { 2 };
        stand.frame(|frame| frame.drain_rates().len() == workers).await;
        stand.drain(100).await;
        start(&stand, &load(4_000)).await;
        stand.frame(|frame| frame.number("backlog") > Some(300.0)).await;
        let (status, told) = stand.ask(Method::POST, "/crash", &json!({})).await;
        assert!(status == 200 && told["name"].is_string(), "{told}");
        stand.frame(|frame| frame.drain_rates().len() < workers).await;
        if on == On::Embedded {
            stand.frame(|frame| frame.drain_rates().len() == 1).await;
        } else {
            let name = told["name"].as_str().unwrap().to_owned();
            let crashed = stand.workers.iter_mut().find(|worker| name.ends_with(&worker.address.to_string()));
            let ended = crashed.expect("one of ours").ended(SOON).await;
            assert_eq!(ended.code(), Some(70), "{ended}");
        }
        stand.drain("unlimited").await;
        assert_clean(&stand.load_over().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_gone_within_seconds_and_the_feed_says_so() {
    let mut stand = Stand::new(On::Cluster).await;
    stand.frame(|frame| frame.processes().len() == 3).await;
    let mut stream = super::stand::Stream::open(&stand.gateway.url(), None).await;
    let mut dead = stand.workers.pop().unwrap();
    dead.kill().await;
    let killed = std::time::Instant::now();
    let name = format!("worker at {}", dead.address);
    let vanished = async {
        while let Some(event) = stream.next().await {
            if event.name == "log" && event.data["code"] == "process_vanished" {
                return event.data;
            }
        }
        Value::Null
    };
    let vanished = tokio::time::timeout(SOON, vanished).await.unwrap();
    assert_eq!(vanished["args"]["name"], json!(name), "{vanished}");
    // Two seconds of silence, a quarter to notice, and what a busy machine takes.
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    let frame = stand.frame(|frame| frame.processes().len() == 2).await;
    assert!(frame.processes().iter().all(|process| process["name"] != json!(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_agrees_with_what_prometheus_counts() {
    let stand = Stand::new(On::Embedded).await;
    start(&stand, &json!({"preset": "duplicates", "peak_rate": 300, "buyers": 600, "stock": 150})).await;
    assert_clean(&stand.load_over().await);
    let frame = stand.frame(|frame| frame.number("arrivals") == Some(0.0)).await;
    let metrics =
        reqwest::get(format!("{}/metrics", stand.gateway.url())).await.unwrap().text().await.unwrap();
    let counted = |series: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    };
    let totals = &frame.data["totals"];
    for (total, series) in [
        ("accepted", "seckill_claims_total{outcome=\"accepted\"}"),
        ("replayed", "seckill_claims_total{outcome=\"replayed\"}"),
        ("sold_out", "seckill_claims_total{outcome=\"sold-out\"}"),
        ("committed", "seckill_orders_committed_total"),
    ] {
        assert_eq!(totals[total].as_f64(), Some(counted(series)), "{total}");
    }
    assert_eq!(totals["accepted"], 150);
    assert_eq!(frame.data["sale"]["sold"], 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_sale_is_followed_and_can_be_bought_from() {
    for on in [On::Embedded, On::Cluster] {
        let stand = Stand::new(on).await;
        let (status, sale) =
            stand.ask(Method::POST, "/sales", &json!({"stock": 5, "name": "二手手机"})).await;
        assert_eq!((status, &sale["stock"]), (201, &json!(5)), "{sale}");
        let id = sale["id"].as_u64().unwrap();
        stand.frame(|frame| frame.data["sale"]["id"] == json!(id)).await;
        let (status, order) = stand.gateway.order(id, 7).await;
        assert_eq!(status, 202, "{order}");
        let sold = stand.frame(|frame| frame.number("sold") == Some(1.0)).await;
        assert_eq!(sold.number("remaining"), Some(4.0));
        stand.frame(|frame| frame.data["invariants"]["verdict"] == "clean").await;
    }
}
