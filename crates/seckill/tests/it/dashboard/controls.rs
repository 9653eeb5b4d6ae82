//! The effects of the controls, at the workers, in the ledger and in the feed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use crate::process::{SOON, accepted};

/// A load that keeps the queue filled for a while.
fn load(stock: u32) -> Value {
    json!({"preset": "spike", "peak_rate": 3_000, "buyers": stock, "stock": stock})
}

async fn start(demonstration: &Demonstration, load: &Value) {
    let (status, answer) = demonstration.ask(Method::POST, "/load", load).await;
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
    let demonstration = Demonstration::new(On::Cluster).await;
    // Both were started with 1,000, and share it.
    demonstration.frame(|frame| frame.drain_rates() == ["500", "500"]).await;
    demonstration.drain(50).await;
    start(&demonstration, &load(6_000)).await;
    demonstration.frame(|frame| frame.number("backlog") > Some(2_500.0)).await;
    let (status, settings) = demonstration.ask(Method::PUT, "/drain-rate", &json!({"rate": 600})).await;
    assert_eq!((status, &settings["drain_rate"]), (200, &json!("600")));
    let reported = demonstration.frame(|frame| frame.drain_rates() == ["300", "300"]).await;
    assert_eq!(reported.number("drain_rate"), Some(600.0));
    // Once the second before the change is over, and while there is a backlog.
    demonstration
        .frame(|frame| {
            let rate = frame.number("committed").unwrap_or_default();
            frame.number("backlog") > Some(1_000.0) && (480.0..=660.0).contains(&rate)
        })
        .await;
    demonstration.ask(Method::PUT, "/drain-rate", &json!({"rate": "unlimited"})).await;
    demonstration.frame(|frame| frame.drain_rates() == ["unlimited", "unlimited"]).await;
    assert_clean(&demonstration.load_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_workers_write_nothing_until_they_go_on() {
    let demonstration = Demonstration::new(On::Embedded).await;
    demonstration.ask(Method::PUT, "/workers", &json!({"paused": true})).await;
    demonstration.frame(|frame| frame.drain_rates() == ["paused"]).await;
    start(&demonstration, &load(500)).await;
    let full = demonstration.frame(|frame| frame.number("backlog") == Some(500.0)).await;
    assert_eq!((full.number("sold"), full.number("drain_rate")), (Some(0.0), Some(0.0)));
    // Orders that wait for a paused worker are not reported as lost, however long they wait.
    let later = full.number("t").unwrap() + 8.0;
    let still = demonstration.frame(|frame| frame.number("t") > Some(later)).await;
    assert_eq!(still.data["invariants"]["lost"], 0, "{:?}", still.data);
    assert_eq!(still.data["invariants"]["verdict"], "in_flight");
    demonstration.ask(Method::PUT, "/workers", &json!({"paused": false})).await;
    demonstration.frame(|frame| frame.drain_rates() == ["1000"]).await;
    assert_clean(&demonstration.load_over().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_show_end_by_themselves_and_break_no_promise() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::new(on).await;
        demonstration.frame(|frame| !frame.drain_rates().is_empty()).await;
        for (fault, amount) in [("slow_commits", 200), ("duplicate_deliveries", 100), ("lost_confirms", 40)] {
            let body = json!({"amount": amount, "seconds": 6});
            let (status, settings) = demonstration.ask(Method::PUT, &format!("/faults/{fault}"), &body).await;
            assert_eq!((status, &settings["faults"][fault]["amount"]), (200, &json!(amount)));
        }
        start(&demonstration, &load(2_000)).await;
        demonstration.frame(|frame| frame.number("commit_ms") > Some(200.0)).await;
        demonstration.frame(|frame| frame.number("unknown") > Some(0.0)).await;
        demonstration.frame(|frame| frame.number("redelivered") > Some(0.0)).await;
        let ended = |frame: &super::demonstration::Frame| {
            frame.processes().iter().all(|process| process["faults"] == json!([]))
                && frame.data["settings"]["faults"]["slow_commits"].is_null()
        };
        demonstration.frame(ended).await;
        // Orders whose confirm was lost are published again by the recoverer, ten seconds later.
        assert_clean(&demonstration.load_over().await);
        let (_, sale) = demonstration.gateway.get("/api/v1/sales").await;
        let sale = sale["sales"][0]["id"].as_u64().unwrap();
        let audit = demonstration.gateway.audit_at_rest(sale).await;
        assert_eq!(audit.verdict, seckill_core::Verdict::Clean, "{audit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_ordered_to_crash_does_and_nothing_is_lost() {
    for on in [On::Embedded, On::Cluster] {
        let mut demonstration = Demonstration::new(on).await;
        let workers = if on == On::Embedded { 1 } else { 2 };
        demonstration.frame(|frame| frame.drain_rates().len() == workers).await;
        demonstration.drain(100).await;
        start(&demonstration, &load(4_000)).await;
        demonstration.frame(|frame| frame.number("backlog") > Some(300.0)).await;
        let (status, crashed) = demonstration.ask(Method::POST, "/crash", &json!({})).await;
        assert!(status == 200 && crashed["name"].is_string(), "{crashed}");
        demonstration.frame(|frame| frame.drain_rates().len() < workers).await;
        if on == On::Embedded {
            demonstration.frame(|frame| frame.drain_rates().len() == 1).await;
        } else {
            let name = crashed["name"].as_str().unwrap().to_owned();
            let worker =
                demonstration.workers.iter_mut().find(|worker| name.ends_with(&worker.address.to_string()));
            let ended = worker.expect("one of ours").ended(SOON).await;
            assert_eq!(ended.code(), Some(70), "{ended}");
        }
        demonstration.drain("unlimited").await;
        assert_clean(&demonstration.load_over().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_gone_within_seconds_and_the_feed_logs_it() {
    let mut demonstration = Demonstration::new(On::Cluster).await;
    demonstration.frame(|frame| frame.processes().len() == 3).await;
    let mut stream = super::demonstration::Stream::open(&demonstration.gateway.url(), None).await;
    let mut dead = demonstration.workers.pop().unwrap();
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
    // Not before two seconds of silence; its last word was up to a quarter of a second before the kill.
    assert!(killed.elapsed() > Duration::from_secs(1), "{:?}", killed.elapsed());
    let frame = demonstration.frame(|frame| frame.processes().len() == 2).await;
    assert!(frame.processes().iter().all(|process| process["name"] != json!(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_agrees_with_what_prometheus_counts() {
    let demonstration = Demonstration::new(On::Embedded).await;
    start(&demonstration, &json!({"preset": "duplicates", "peak_rate": 300, "buyers": 600, "stock": 150}))
        .await;
    assert_clean(&demonstration.load_over().await);
    let frame = demonstration.frame(|frame| frame.number("arrivals") == Some(0.0)).await;
    let metrics =
        reqwest::get(format!("{}/metrics", demonstration.gateway.url())).await.unwrap().text().await.unwrap();
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
        let demonstration = Demonstration::new(on).await;
        let (status, sale) =
            demonstration.ask(Method::POST, "/sales", &json!({"stock": 5, "name": "二手手机"})).await;
        assert_eq!((status, &sale["stock"]), (201, &json!(5)), "{sale}");
        let id = sale["id"].as_u64().unwrap();
        demonstration.frame(|frame| frame.data["sale"]["id"] == json!(id)).await;
        accepted(demonstration.gateway.order(id, 7).await);
        let sold = demonstration.frame(|frame| frame.number("sold") == Some(1.0)).await;
        assert_eq!(sold.number("remaining"), Some(4.0));
        demonstration.frame(|frame| frame.data["invariants"]["verdict"] == "clean").await;
    }
}
