//! What is for admins can have a listener of its own, and a gateway that is to end says so before it takes no more orders.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use reqwest::Method;
use seckill_gateway::{Config, Doors};
use seckill_testkit::eventually;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::gateway::{ADMIN_TOKEN, Gateway, config, listener, sale, send};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

/// A gateway with two doors, and the address of the one for admins.
async fn two_doors(bed: &TestBed, config: Config) -> (Gateway, std::net::SocketAddr) {
    let admin = listener().await;
    let address = admin.local_addr().expect("an address");
    let doors = Doors {
        listener: listener().await,
        public: Router::new().route("/news", get(async || "news")),
        admin: Some(admin),
        pages: Router::new().route("/", get(async || "the page")),
    };
    (Gateway::behind(doors, &bed.backend, config), address)
}

async fn ask(method: Method, url: String) -> Reply {
    let client = reqwest::Client::builder().timeout(SOON).no_proxy().build().expect("a client");
    send(client.request(method, url).bearer_auth(ADMIN_TOKEN)).await
}

#[tokio::test]
async fn what_is_for_admins_is_on_their_listener_only() {
    let bed = TestBed::new().await;
    let (gateway, admin) = two_doors(&bed, config()).await;
    let created = send(
        gateway.request(Method::POST, "/api/v1/sales").bearer_auth(ADMIN_TOKEN).json(&sale(10, -60, 60)),
    );
    assert_eq!(created.await.status, 405);
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/metrics"),
        (Method::GET, "/api/v1/sales/1/audit/orders"),
        (Method::GET, "/api/v1/sales/1/audit/effects"),
        (Method::POST, "/api/v1/sales/1/rebuild"),
        (Method::POST, "/api/v1/sales/1/reconcile"),
        (Method::GET, "/api/v1/parked"),
        (Method::DELETE, "/api/v1/parked/1"),
        (Method::POST, "/api/v1/parked/1/redrive"),
        (Method::GET, "/api/v1/refunds"),
        (Method::POST, "/api/v1/refunds/1/approve"),
        (Method::POST, "/api/v1/refunds/1/deny"),
        (Method::POST, "/api/v1/users/1/balance"),
        (Method::POST, "/api/v1/coupons"),
        (Method::GET, "/api/v1/outbox"),
        (Method::GET, "/api/v1/outbox/1"),
        (Method::POST, "/api/v1/outbox/1/redrive"),
        (Method::GET, "/api/v1/subscribers/crm"),
        (Method::POST, "/api/v1/subscribers/crm/redrive"),
    ] {
        let hidden = ask(method.clone(), format!("http://{}{path}", gateway.address)).await;
        let detail = hidden.expect_problem(404, "not-found").json["detail"].clone();
        assert_eq!(detail, format!("There is nothing at {path}."), "{path} is reachable for buyers");
        let served = ask(method, format!("http://{admin}{path}")).await;
        let nothing = format!("There is nothing at {path}.");
        let has_route = served.status != 405 && (served.status != 404 || served.json["detail"] != nothing);
        // Ids that are none are refused by the routes that have one.
        assert!(has_route || path.ends_with("/1") || path.contains("/1/"), "{path}: {served:?}");
    }
    for path in ["/livez", "/readyz", "/api/v1/sales", "/news"] {
        for door in [gateway.address, admin] {
            ask(Method::GET, format!("http://{door}{path}")).await.expect(200);
        }
    }
    gateway.stop().await;
}

/// All connections for buyers are taken by a crowd that asks for nothing.
#[tokio::test]
async fn an_idle_crowd_ends_by_itself_and_meanwhile_admins_are_answered() {
    let bed = TestBed::new().await;
    let (gateway, admin) = two_doors(&bed, Config { max_connections: 10, ..config() }).await;
    let mut crowd = Vec::new();
    for nth in 0..30 {
        let mut connection = TcpStream::connect(gateway.address).await.unwrap();
        // Half of them begin a head that never ends.
        if nth % 2 == 0 {
            connection.write_all(b"GET /livez HTTP/1.1\r\nHost: s").await.unwrap();
        }
        crowd.push(connection);
    }
    ask(Method::GET, format!("http://{admin}/livez")).await.expect(200);
    // Within the client's patience, which is far below the time-out of heads.
    ask(Method::GET, format!("http://{}/livez", gateway.address)).await.expect(200);
    drop(crowd);
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_to_end_says_so_while_it_still_takes_orders() {
    let bed = TestBed::new().await;
    let config = Config { drain_delay: 10 * SOON, ..config() };
    let hurry = config.hurry.clone();
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(10).await;
    assert_eq!(gateway.buy(sale, 1).await.expect(202).header("connection"), None);
    gateway.shutdown.cancel();
    let draining = gateway.get("/readyz").await.expect(503);
    assert_eq!(draining.json["status"], json!("draining"));
    let order = gateway.buy(sale, 2).await.expect(202);
    assert_eq!(order.header("connection"), Some("close"));
    // What a second signal does.
    hurry.cancel();
    eventually(SOON, async || {
        let request = gateway.buying(sale, 3).send().await;
        match request.map(|response| response.status().as_u16()) {
            // Refused, or closed for good.
            Ok(503) | Err(_) => Ok(()),
            Ok(status) => Err(status),
        }
    })
    .await;
    gateway.stop().await;
    bed.settled(sale).await;
}

#[tokio::test]
async fn without_a_second_signal_the_delay_comes_to_its_end() {
    let bed = TestBed::new().await;
    let config = Config { drain_delay: Duration::from_millis(300), ..config() };
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(10).await;
    gateway.shutdown.cancel();
    gateway.buy(sale, 1).await.expect(202);
    gateway.stop().await;
}
