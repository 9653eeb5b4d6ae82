//! `seckill order show`: what happened to one order, and the time between.

use seckill_testkit::eventually;
use serde_json::{Value, json};

use crate::process::{ADMIN_TOKEN, Role, SOON, run, text, token};

#[tokio::test]
async fn one_orders_steps_are_shown_with_the_time_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", folder.path().to_str().unwrap()], &[]).await;
    let (client, url) = (reqwest::Client::new(), gateway.url());
    let sale = json!({
        "name": "paid", "stock": 10, "price_cents": 250, "payment_window_ms": 3_600_000, "ends_at": "2999-01-01T00:00:00Z",
    });
    let made = client.post(format!("{url}/api/v1/sales")).bearer_auth(ADMIN_TOKEN).json(&sale);
    let sale: Value = made.send().await.unwrap().json().await.unwrap();
    let order = gateway.order(sale["id"].as_u64().unwrap(), 7).await.unwrap().value;
    let id = &order.order_id.to_string();
    let post = async |path: String, bearer: &str, body: Value| {
        let request = client.post(format!("{url}/api/v1/{path}")).bearer_auth(bearer);
        request.header("Idempotency-Key", "k").json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("users/7/balance".into(), ADMIN_TOKEN, json!({"cents": 250})).await, 200);
    let show = async |more: &[&str]| {
        let output = run(&[&["order", "show", id, "--server", &url], more].concat()).await;
        if output.status.success() { Ok(text(&output)) } else { Err(text(&output)) }
    };
    // Once it is in the ledger.
    eventually(SOON, async || show(&[]).await).await;
    let pay = format!("orders/{id}/payment");
    assert_eq!(post(pay, &token(7), json!({"balance_cents": 250})).await, 200);
    assert_eq!(post(format!("orders/{id}/refund"), &token(7), json!({})).await, 202);
    let wanted = [
        "order.accepted",
        "order.committed",
        "order.paid",
        "refund.requested",
        "refund.approved",
        "refund.transferred",
        "refund.succeeded",
    ];
    let table = eventually(SOON, async || {
        let table = show(&[]).await?;
        if wanted.iter().all(|step| table.contains(step)) { Ok(table) } else { Err(table) }
    })
    .await;
    assert_eq!(table.matches(" ms ").count(), wanted.len() - 1, "{table}");
    let output = run(&["order", "show", id, "--server", &url, "--json"]).await;
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = shown["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step["what"].as_str().unwrap()).collect::<Vec<_>>(), wanted);
    let at = |step: &Value| step["at"].as_str().unwrap().parse::<seckill_core::Timestamp>().unwrap();
    assert_eq!(steps[0]["since_previous_ms"], Value::Null);
    for pair in steps.windows(2) {
        assert_eq!(pair[1]["since_previous_ms"], (at(&pair[1]) - at(&pair[0])).num_milliseconds(), "{shown}");
    }
}
