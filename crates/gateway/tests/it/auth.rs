//! Who may do what: tokens, and whose order it is.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder};
use seckill_core::{OrderId, SaleId, UserId};
use serde_json::json;

use crate::gateway::{ADMIN_TOKEN, Gateway, JWT_SECRET, sale, send, token};
use crate::test_bed::TestBed;

/// Every route that a buyer's token opens.
fn buyers_routes(sale: SaleId, order: OrderId) -> [(Method, String); 4] {
    [
        (Method::POST, format!("/api/v1/sales/{sale}/orders")),
        (Method::GET, format!("/api/v1/sales/{sale}/orders/mine")),
        (Method::GET, format!("/api/v1/orders/{order}")),
        (Method::GET, format!("/api/v1/orders/{order}/events")),
    ]
}

fn signed(header: &Header, secret: &str, sub: &str, exp: i64) -> String {
    seckill_token::provider::install();
    let claims = json!({"sub": sub, "exp": exp});
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(header, &claims, &key).expect("any secret signs")
}

/// Tokens that name user 7 and must not be believed, each with what is wrong with it.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let now = seckill_core::now().timestamp();
    let hs256 = Header::new(Algorithm::HS256);
    let good = signed(&hs256, JWT_SECRET, "7", now + 3_600);
    let (unsigned, _) = good.rsplit_once('.').expect("three parts");
    let (_, payload) = unsigned.split_once('.').expect("three parts");
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    vec![
        ("expired", signed(&hs256, JWT_SECRET, "7", now - 3_600)),
        ("forged", signed(&hs256, "some other secret of enough bytes", "7", now + 3_600)),
        ("of another algorithm", signed(&Header::new(Algorithm::HS512), JWT_SECRET, "7", now + 3_600)),
        ("alg none", format!("{none}.{payload}.")),
        ("without its signature", format!("{unsigned}.")),
        ("without a user", signed(&hs256, JWT_SECRET, "", now + 3_600)),
        ("of no user id", signed(&hs256, JWT_SECRET, "alice", now + 3_600)),
        ("no token at all", "7".to_owned()),
        ("the admin's", ADMIN_TOKEN.to_owned()),
    ]
}

async fn expect_challenge(request: RequestBuilder, what: &str, challenge: &str) {
    let reply = send(request).await;
    assert_eq!(reply.status, 401, "{what}: {reply:?}");
    let reply = reply.expect_problem(401, "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), Some(challenge), "{what}");
}

#[tokio::test]
async fn every_protected_route_refuses_a_missing_or_bad_token() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let open = gateway.open_sale(10).await;
    let order = gateway.buy(open, 7).await.expect(202).order_id();
    let before = bed.level(open).await;
    for (method, path) in buyers_routes(open, order) {
        let request = || gateway.request(method.clone(), &path);
        let missing = "Bearer realm=\"seckill\"";
        expect_challenge(request(), &format!("{path} without a token"), missing).await;
        let basic = request().header(AUTHORIZATION, "Basic Nzo3");
        expect_challenge(basic, &format!("{path} with a password"), missing).await;
        for (what, token) in bad_tokens() {
            let challenge = "Bearer realm=\"seckill\", error=\"invalid_token\"";
            expect_challenge(request().bearer_auth(token), &format!("{path}, {what}"), challenge).await;
        }
        let good = request().header(AUTHORIZATION, format!("bEARER {}", token(7)));
        let status = good.send().await.unwrap().status();
        assert_eq!(status, 200, "{path} with a good token");
    }
    let after = bed.level(open).await;
    assert_eq!((before.remaining, before.orders), (after.remaining, after.orders));
}

#[tokio::test]
async fn only_the_admin_opens_sales_and_lists_everyones_orders() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let open = gateway.open_sale(10).await;
    let body = sale(10, 0, 60);
    let create = || gateway.request(Method::POST, "/api/v1/sales").json(&body);
    let list = || gateway.request(Method::GET, &format!("/api/v1/sales/{open}/audit/orders"));
    let requests: [&dyn Fn() -> RequestBuilder; 2] = [&create, &list];
    let id = "01a21a7f-fed2-771c-85bf-a914b6af2a2f";
    for (method, path) in [
        (Method::GET, format!("/api/v1/sales/{open}/audit/effects")),
        (Method::GET, "/api/v1/outbox".to_owned()),
        (Method::GET, format!("/api/v1/outbox/{id}")),
        (Method::DELETE, format!("/api/v1/outbox/{id}")),
        (Method::POST, format!("/api/v1/outbox/{id}/redrive")),
        (Method::GET, "/api/v1/subscribers/restock".to_owned()),
        (Method::DELETE, "/api/v1/subscribers/restock".to_owned()),
        (Method::POST, "/api/v1/subscribers/restock/redrive".to_owned()),
        (Method::GET, "/api/v1/refunds".to_owned()),
        (Method::POST, format!("/api/v1/refunds/{id}/approve")),
        (Method::POST, format!("/api/v1/refunds/{id}/deny")),
        (Method::POST, "/api/v1/users/7/balance".to_owned()),
        (Method::POST, "/api/v1/coupons".to_owned()),
    ] {
        let request = || gateway.request(method.clone(), &path);
        expect_challenge(request(), &path, "Bearer realm=\"seckill\"").await;
        let challenge = "Bearer realm=\"seckill\", error=\"invalid_token\"";
        expect_challenge(request().bearer_auth(token(7)), &path, challenge).await;
    }
    for request in requests {
        expect_challenge(request(), "no token", "Bearer realm=\"seckill\"").await;
        for token in [token(7), format!("{ADMIN_TOKEN}x"), ADMIN_TOKEN.to_uppercase()] {
            let challenge = "Bearer realm=\"seckill\", error=\"invalid_token\"";
            expect_challenge(request().bearer_auth(&token), &token, challenge).await;
        }
    }
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 1, "nobody else has opened a sale");
}

#[tokio::test]
async fn another_users_order_is_as_good_as_none() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let order = gateway.buy(sale, 7).await.expect(202).order_id();
    for committed in [false, true] {
        if committed {
            bed.drain().await;
        }
        gateway.order(7, order).await.expect(200);
        let mine = gateway.get_as(8, &format!("/api/v1/sales/{sale}/orders/mine")).await.expect(200);
        assert_eq!(mine.json, json!({"orders": []}));
        for path in [format!("/api/v1/orders/{order}"), format!("/api/v1/orders/{order}/events")] {
            let theirs = gateway.get_as(8, &path).await.expect_problem(404, "not-found");
            let none =
                gateway.get_as(8, &path.replace(&order.to_string(), &OrderId::generate().to_string())).await;
            assert_eq!(theirs.json["title"], none.expect_problem(404, "not-found").json["title"]);
        }
    }
}

#[tokio::test]
async fn the_largest_user_id_can_buy() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let order = gateway.buy(sale, u64::MAX).await.expect(202).order_id();
    bed.expect_at_rest(sale, 1).await;
    let row = bed.ledger_order(order).await.expect("it is in the ledger");
    assert_eq!(row.claim.user_id, UserId(u64::MAX));
}
