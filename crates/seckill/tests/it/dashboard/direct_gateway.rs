//! The direct gateway of a demonstration: a process of its own, which ends with its parent.

use reqwest::Method;
use seckill_testkit::eventually;
use serde_json::json;
use tokio::net::TcpStream;

use super::demonstration::{Demonstration, On};
use crate::process::SOON;

/// Sends a load past gate and queue; returns the address of the direct gateway once the run has its verdict.
async fn direct_run(demonstration: &Demonstration) -> String {
    let load = json!({"preset": "spike", "peak_rate": 1_000, "buyers": 300, "stock": 100, "mode": "direct"});
    let (status, answer) = demonstration.ask(Method::POST, "/load", &load).await;
    assert_eq!(status, 202, "{answer}");
    let load = demonstration.load_over().await;
    assert_eq!((&load["state"], &load["verdict"]["pass"]), (&json!("done"), &json!(true)), "{load}");
    let command = load["command"].as_str().unwrap();
    let address = command.split_once("--target http://").and_then(|(_, rest)| rest.split(' ').next());
    address.unwrap().to_owned()
}

async fn metrics(address: &str) -> String {
    reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap()
}

async fn assert_ends(address: &str) {
    eventually(SOON, async || match TcpStream::connect(address).await {
        Err(error) => Ok(error),
        Ok(_) => Err("it still listens"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_its_orders_in_its_own_metrics_and_ends_when_its_parent_is_killed() {
    for on in [On::Embedded, On::Cluster] {
        let mut demonstration = Demonstration::new(on).await;
        let address = direct_run(&demonstration).await;
        assert_ne!(address, demonstration.gateway.address.to_string());
        let counted = "seckill_direct_claims_total";
        assert!(metrics(&address).await.contains(counted));
        assert!(!metrics(&demonstration.gateway.address.to_string()).await.contains(counted));
        demonstration.gateway.kill().await;
        assert_ends(&address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_the_shutdown_of_its_parent() {
    let mut demonstration = Demonstration::new(On::Embedded).await;
    let address = direct_run(&demonstration).await;
    demonstration.gateway.terminate().await;
    assert!(demonstration.gateway.ended(SOON).await.success());
    assert_ends(&address).await;
}
