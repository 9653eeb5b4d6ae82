//! What each admin may do: every route of admins needs one scope, and a token without it is told which.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use reqwest::Method;
use seckill_gateway::Config;
use seckill_token::admin::AdminTokens;
use serde_json::json;

use crate::gateway::{Gateway, config, sale, send};
use crate::test_bed::TestBed;

const SCOPES: [&str; 3] = ["sales", "audit", "operate"];

/// The token of the admin who has this scope and no other.
fn token(scope: &str) -> String {
    format!("the-token-of-{scope}")
}

async fn gateway(bed: &TestBed) -> Gateway {
    let lines: String =
        SCOPES.iter().map(|scope| format!("{scope}-only {scope} {}\n", token(scope))).collect();
    let admins = AdminTokens::read(&lines).unwrap().and(AdminTokens::one("the token of everything")).unwrap();
    Gateway::with(&bed.backend, Config { admins, ..config() }).await
}

#[tokio::test]
async fn every_route_of_admins_needs_its_scope() {
    let bed = TestBed::new().await;
    let gateway = gateway(&bed).await;
    let body = sale(10, 0, 60);
    let id = "01a21a7f-fed2-771c-85bf-a914b6af2a2f";
    for (method, path, needed) in [
        (Method::POST, "/api/v1/sales".to_owned(), "sales"),
        (Method::GET, "/api/v1/sales/1/audit/orders".to_owned(), "audit"),
        (Method::GET, "/api/v1/sales/1/audit/effects".to_owned(), "audit"),
        (Method::GET, format!("/api/v1/orders/{id}/timeline"), "audit"),
        (Method::POST, "/api/v1/sales/1/rebuild".to_owned(), "operate"),
        (Method::POST, "/api/v1/sales/1/reconcile".to_owned(), "operate"),
        (Method::GET, "/api/v1/parked".to_owned(), "operate"),
        (Method::DELETE, "/api/v1/parked/abc".to_owned(), "operate"),
        (Method::POST, "/api/v1/parked/abc/redrive".to_owned(), "operate"),
        (Method::GET, "/api/v1/outbox".to_owned(), "operate"),
        (Method::GET, format!("/api/v1/outbox/{id}"), "operate"),
        (Method::DELETE, format!("/api/v1/outbox/{id}"), "operate"),
        (Method::POST, format!("/api/v1/outbox/{id}/redrive"), "operate"),
        (Method::GET, "/api/v1/subscribers/restock".to_owned(), "operate"),
        (Method::DELETE, "/api/v1/subscribers/crm".to_owned(), "operate"),
        (Method::POST, "/api/v1/subscribers/crm/redrive".to_owned(), "operate"),
        (Method::GET, "/api/v1/refunds".to_owned(), "operate"),
        (Method::POST, format!("/api/v1/refunds/{id}/approve"), "operate"),
        (Method::POST, format!("/api/v1/refunds/{id}/deny"), "operate"),
        (Method::POST, "/api/v1/users/7/balance".to_owned(), "operate"),
        (Method::POST, "/api/v1/coupons".to_owned(), "operate"),
    ] {
        let ask = async |token: &str| {
            let request = gateway.request(method.clone(), &path).bearer_auth(token);
            let with_body = if path == "/api/v1/sales" { request.json(&body) } else { request };
            send(with_body).await
        };
        for scope in SCOPES {
            let reply = ask(&token(scope)).await;
            if scope == needed {
                assert!(!matches!(reply.status, 401 | 403), "{path} with {scope}: {reply:?}");
                continue;
            }
            let reply = reply.expect_problem(403, "missing-scope");
            let detail = reply.json["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("`{needed}`")), "{path}: {detail}");
            assert!(detail.contains(&format!("{scope}-only")) && !detail.contains(&token(scope)), "{detail}");
            let challenge = "Bearer realm=\"seckill\", error=\"insufficient_scope\"";
            assert_eq!(reply.header("www-authenticate"), Some(challenge), "{path}");
        }
        let everything = ask("the token of everything").await;
        assert!(!matches!(everything.status, 401 | 403), "{path}: {everything:?}");
    }
    // The one by `sales` and the one by the token of everything; no other token has opened one.
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_admin_token_is_no_buyers_token() {
    let bed = TestBed::new().await;
    let gateway = gateway(&bed).await;
    let path = "/api/v1/sales/1/orders";
    let request = gateway.request(Method::POST, path).bearer_auth("the token of everything").json(&json!({}));
    send(request).await.expect_problem(401, "unauthenticated");
}
