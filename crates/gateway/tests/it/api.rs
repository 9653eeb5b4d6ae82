//! What holds for every path: unknown ones, wrong methods, and the explanation that every problem's type leads to.

use reqwest::Method;
use serde_json::json;

use crate::gateway::{Gateway, send};
use crate::test_bed::TestBed;

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    for path in ["/api", "/api/v1", "/api/v1/sales/1/orders/2", "/problems/none", "/..%2f..", "/api/v2/sales"]
    {
        gateway.get(path).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn the_refusal_of_a_wrong_method_names_the_right_ones() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let orders = format!("/api/v1/sales/{sale}/orders");
    for (method, path, allowed) in [
        (Method::DELETE, "/api/v1/sales", "GET,HEAD,POST"),
        (Method::GET, orders.as_str(), "POST"),
        (Method::PUT, orders.as_str(), "POST"),
        (Method::POST, "/livez", "GET,HEAD"),
        (Method::POST, "/problems", "GET,HEAD"),
    ] {
        let refused = send(gateway.request(method, path)).await.expect_problem(405, "method-not-allowed");
        let mut named: Vec<_> =
            refused.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        named.sort_unstable();
        assert_eq!(named.join(","), allowed, "{path}");
    }
}

#[tokio::test]
async fn the_type_of_every_problem_leads_to_its_explanation() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let kinds = gateway.get("/problems").await.expect(200).json;
    let kinds = kinds.as_array().unwrap();
    let slugs: Vec<_> = kinds.iter().map(|kind| kind["slug"].as_str().unwrap()).collect();
    let promised = [
        "malformed",
        "unauthenticated",
        "not-open",
        "closed",
        "not-found",
        "method-not-allowed",
        "sold-out",
        "order-differs",
        "body-too-slow",
        "too-large",
        "media-type",
        "invalid",
        "rate-limited",
        "overloaded",
        "unavailable",
        "rebuilding",
        "outcome-unknown",
        "no-gate",
        "order-state",
        "no-payments",
        "payment-declined",
        "paid-too-late",
        "balance-too-low",
        "bad-coupon",
        "payment-under-way",
        "key-reused",
        "change-unknown",
        "cross-site",
        "busy",
        "no-worker",
        "no-bank",
        "needs-servers",
        "no-load",
        "missing-scope",
        "ticket-required",
        "ticket-invalid",
        "tickets-later",
        "no-tickets",
        "no-waiting-room",
        "room-opens-later",
        "room-full",
        "not-admitted",
        "proof-required",
        "proof-invalid",
        "paused",
        "sale-unknown",
        "request-under-way",
        "closed-out",
    ];
    assert_eq!(slugs, promised, "a type that was promised once must stay");
    for (slug, kind) in slugs.iter().zip(kinds) {
        let shown = gateway.get(&format!("/problems/{slug}")).await.expect(200);
        assert_eq!(&shown.json, kind);
        assert!((400..600).contains(&kind["status"].as_u64().unwrap()), "{kind}");
        for member in ["title", "what_to_do"] {
            assert!(kind[member].as_str().is_some_and(|text| !text.is_empty()), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_problem_says_the_same_as_its_explanation() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let problem = gateway.get("/nothing").await.expect_problem(404, "not-found").json;
    let kind = gateway.get(problem["type"].as_str().unwrap()).await.expect(200).json;
    assert_eq!((&kind["title"], &kind["status"]), (&problem["title"], &json!(404)));
}
