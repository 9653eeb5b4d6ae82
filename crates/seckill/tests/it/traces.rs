//! Traces sent to a collector, which is played by the test.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use seckill_testkit::eventually;
use tokio::net::TcpListener;

use crate::process::{Role, SOON, accepted, run, text, token};

const TRACE_ID: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

/// All that came to the collector, as it came.
type Received = Arc<Mutex<Vec<u8>>>;

async fn collector() -> (String, Received) {
    let received = Received::default();
    let keep = async |State(received): State<Received>, body: Bytes| {
        received.lock().unwrap().extend(&body);
    };
    let routes = Router::new().route("/v1/traces", post(keep)).with_state(received.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, received)
}

fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len()).filter(|window| *window == part).count()
}

#[tokio::test]
async fn an_order_is_traced_from_its_request_to_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, received) = collector().await;
    let args = ["--data-dir", folder.path().to_str().unwrap(), "--otlp-endpoint", &endpoint];
    let gateway = Role::start("gateway", &[&args[..], &["--otlp-sample", "0"]].concat(), &[]).await;
    let sale = gateway.open_sale(10).await;
    // Nothing of this order is sent: it belongs to no trace, and the share of those that begin here is 0.
    accepted(gateway.order(sale, 1).await);
    let order = reqwest::Client::new().post(format!("{}/api/v1/sales/{sale}/orders", gateway.url()));
    let traceparent = format!("00-{TRACE_ID:032x}-b7ad6b7169203331-01");
    let answer = order.bearer_auth(token(2)).header("traceparent", traceparent).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    // A route of which only its own router knows the name.
    let health = reqwest::Client::new().get(format!("{}/livez", gateway.url()));
    health
        .header("traceparent", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .send()
        .await
        .unwrap();
    eventually(SOON, async || {
        let received = received.lock().unwrap();
        let spans = ["POST /api/v1/sales/{id}/orders", "send orders", "commit orders", "GET /livez"];
        let counts = spans.map(|name| count(&received, name.as_bytes()));
        let in_trace = count(&received, &TRACE_ID.to_be_bytes());
        if counts == [1, 1, 1, 1] && in_trace == 3 { Ok(()) } else { Err((counts, in_trace)) }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_collector_or_no_share_is_refused() {
    for (flag, value) in [("--otlp-endpoint", "nowhere"), ("--otlp-sample", "1.5"), ("--otlp-sample", "all")]
    {
        let output = run(&["gateway", flag, value]).await;
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(flag), "{}", text(&output));
    }
}
