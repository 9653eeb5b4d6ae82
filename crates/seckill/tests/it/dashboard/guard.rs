//! Who may change anything, and which changes are refused.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use crate::process::{ADMIN_TOKEN, Role};

/// The revision of the settings, which counts the changes.
async fn revision(demonstration: &Demonstration) -> Value {
    demonstration.ask(Method::GET, "", &Value::Null).await.1["settings"]["revision"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let pause = || demonstration.control(Method::PUT, "/workers", &json!({"paused": true}));
    let text = reqwest::Client::new()
        .put(format!("{}/api/v1/control/workers", demonstration.gateway.url()))
        .header(CONTENT_TYPE, "text/plain")
        .body("{\"paused\": true}");
    let form = reqwest::Client::new()
        .post(format!("{}/api/v1/control/crash", demonstration.gateway.url()))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("");
    let end = demonstration.control(Method::DELETE, "/load", &Value::Null);
    for (what, request, status) in [
        ("a form", form, 415),
        ("a form that claims to be JSON", text, 415),
        ("a request of another site", pause().header("Sec-Fetch-Site", "cross-site"), 403),
        ("a request of a neighbouring site", pause().header("Sec-Fetch-Site", "same-site"), 403),
        ("another origin", pause().header(ORIGIN, "https://example.com"), 403),
        ("no origin", pause().header(ORIGIN, "null"), 403),
        ("another origin that deletes", end.header(ORIGIN, "https://example.com"), 403),
        ("a name that somebody points at this machine", pause().header(HOST, "example.com"), 401),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{what}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
    }
    assert_eq!(revision(&demonstration).await, 0, "something was changed");
    let own = pause().header("Sec-Fetch-Site", "same-origin").header(ORIGIN, demonstration.gateway.url());
    assert_eq!(own.send().await.unwrap().status(), 200);
    assert_eq!(revision(&demonstration).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_others_can_reach_the_gateway_changes_need_the_admin_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let flags = ["--data-dir", &data, "--listen", "0.0.0.0:0"];
    let gateway = Role::start("gateway", &flags, &[("SECKILL_DEMO", "1")]).await;
    let url = format!("http://127.0.0.1:{}/api/v1/control", gateway.address.port());
    let shown: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
    assert_eq!(shown["token_needed"], true);
    let client = reqwest::Client::new();
    let pause = || client.put(format!("{url}/workers")).json(&json!({"paused": true}));
    for request in [pause(), pause().bearer_auth("wrong"), pause().header(AUTHORIZATION, ADMIN_TOKEN)] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"seckill\"");
    }
    assert_eq!(pause().bearer_auth(ADMIN_TOKEN).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_is_reported_and_changes_nothing() {
    let demonstration = Demonstration::new(On::Embedded).await;
    for (method, path, body, status, part) in [
        (Method::PUT, "/drain-rate", json!({"rate": 0}), 422, "from 1 to 1000000"),
        (Method::PUT, "/drain-rate", json!({"rate": 1_000_001}), 422, "from 1 to 1000000"),
        (Method::PUT, "/drain-rate", json!({"rate": "fast"}), 422, "\"unlimited\""),
        (Method::PUT, "/drain-rate", json!({"rate": -5}), 400, "cannot be read"),
        (Method::PUT, "/drain-rate", json!({"rat": 5}), 400, "unknown field `rat`"),
        (Method::PUT, "/workers", json!({}), 400, "missing field `paused`"),
        (Method::PUT, "/faults/earthquake", json!({}), 404, "slow_commits, duplicate_deliveries"),
        (
            Method::PUT,
            "/faults/slow_commits",
            json!({"amount": 0, "seconds": 999}),
            422,
            "amount must be from 1",
        ),
        (Method::PUT, "/faults/lost_confirms", json!({"amount": 101}), 422, "from 1 to 100 percent"),
        (Method::POST, "/sales", json!({"stock": 0}), 422, "stock"),
        (Method::POST, "/load", json!({"preset": "tsunami"}), 422, "spike"),
        (Method::POST, "/load", json!({"preset": "spike", "peak_rate": 0, "stock": 0}), 422, "peak_rate"),
        (Method::DELETE, "/load", Value::Null, 409, "No load run is under way"),
    ] {
        let (answered, problem) = demonstration.ask(method.clone(), path, &body).await;
        assert_eq!(answered, status, "{method} {path} {body}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{method} {path} {body}: {detail}");
    }
    assert_eq!(revision(&demonstration).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sees_the_page_becomes_a_new_buyer_and_nobody_else_does() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let sale = demonstration.gateway.open_sale(5).await;
    let ask = || demonstration.control(Method::POST, "/buyer", &json!({}));
    let url = demonstration.gateway.url();
    let form = reqwest::Client::new().post(format!("{url}/api/v1/control/buyer"));
    for (what, request, status) in [
        ("a form", form.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(""), 415),
        ("a page of another site", ask().header("Sec-Fetch-Site", "cross-site"), 403),
        ("another origin", ask().header(ORIGIN, "https://example.com"), 403),
        ("a name that somebody points at this machine", ask().header(HOST, "example.com"), 403),
        (
            "a wish for another's token",
            demonstration.control(Method::POST, "/buyer", &json!({"user_id": 1})),
            400,
        ),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{what}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
    }
    let mut users = Vec::new();
    for _ in 0..3 {
        let made = ask().header("Sec-Fetch-Site", "same-origin").header(ORIGIN, &url).send().await.unwrap();
        assert_eq!(
            (made.status().as_u16(), &made.headers()["cache-control"]),
            (201, &"no-store".parse().unwrap())
        );
        let made: Value = made.json().await.unwrap();
        users.push(made["user_id"].as_u64().unwrap());
        let order = reqwest::Client::new().post(format!("{url}/api/v1/sales/{sale}/orders"));
        let order = order.bearer_auth(made["token"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(order.status(), 202, "{order:?}");
    }
    users.sort_unstable();
    users.dedup();
    assert!(users.len() == 3 && users.iter().all(|user| (1 << 52..1 << 53).contains(user)), "{users:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_are_made_in_demonstrations_only_and_there_for_everyone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let flags = ["--data-dir", &data, "--listen", "0.0.0.0:0"];
    for (environment, status) in [(&[][..], 404), (&[("SECKILL_DEMO", "1")], 201)] {
        let mut gateway = Role::start("gateway", &flags, environment).await;
        let url = format!("http://127.0.0.1:{}/api/v1/control/buyer", gateway.address.port());
        let made = reqwest::Client::new().post(url).json(&json!({})).send().await.unwrap();
        assert_eq!(made.status(), status);
        gateway.kill().await;
    }
}
