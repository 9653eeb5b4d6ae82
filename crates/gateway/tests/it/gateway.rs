//! A gateway that serves on a port of its own, and its clients.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use reqwest::{Method, RequestBuilder};
use seckill_core::{Backend, OrderId, SaleId, now};
use seckill_gateway::recover::RecoverConfig;
use seckill_gateway::status::StatusConfig;
use seckill_gateway::{Config, CrowdConfig, Doors};
use seckill_lifecycle::Service;
use seckill_testkit::eventually;
use seckill_token::Signer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::contract;
use crate::reply::Reply;
use crate::test_bed::SOON;

pub(crate) const JWT_SECRET: &str = "a secret of thirty-two bytes or more";
pub(crate) const ADMIN_TOKEN: &str = "the admin's token";

/// A running gateway.
pub(crate) struct Gateway {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) run: JoinHandle<()>,
    client: reqwest::Client,
}

/// The defaults, without limits on what one user may send.
pub(crate) fn config() -> Config {
    let config = Config::new(JWT_SECRET.into(), ADMIN_TOKEN.into());
    Config { order_rate_limit: 0, read_rate_limit: 0, crowd: no_crowd_limits(), ..config }
}

/// No limits on what tokens and addresses may send.
pub(crate) fn no_crowd_limits() -> CrowdConfig {
    CrowdConfig {
        orders_under_way: 0,
        reads_under_way: 0,
        requests_per_token: 0,
        streams_per_token: 0,
        anonymous_rate_limit: 0,
        miss_rate_limit: 0,
        ..CrowdConfig::default()
    }
}

/// With one lane for each sale, so that a test knows which claims meet.
pub(crate) fn one_lane() -> Config {
    let mut config = config();
    config.intake.lanes = 1;
    config
}

/// With a recoverer that looks often for what has been pending for a moment.
pub(crate) fn quick_recoverer() -> Config {
    let recover = RecoverConfig {
        deadline: Duration::from_millis(200),
        interval: Duration::from_millis(50),
        ..RecoverConfig::default()
    };
    Config { recover, ..config() }
}

/// With no memory of orders, so that gate and ledger are asked for each.
pub(crate) fn forgetful() -> Config {
    let status = StatusConfig { remembered: 0, ..StatusConfig::default() };
    Config { status, ..config() }
}

/// The recorder of this process, which all its gateways share.
fn prometheus() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || PrometheusBuilder::new().install_recorder().expect("the only recorder of this process");
    HANDLE.get_or_init(install).clone()
}

impl Gateway {
    /// Starts with [`config`].
    pub(crate) async fn start(backend: &Backend) -> Self {
        Self::with(backend, config()).await
    }

    pub(crate) async fn with(backend: &Backend, config: Config) -> Self {
        let doors =
            Doors { listener: listener().await, public: Router::new(), admin: None, pages: Router::new() };
        Self::behind(doors, backend, config)
    }

    /// With these doors; its address is that for buyers.
    pub(crate) fn behind(doors: Doors, backend: &Backend, config: Config) -> Self {
        let address = doors.listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let run = seckill_gateway::run_with(
            doors,
            backend.clone(),
            Arc::new(Service::new(backend.clone(), None)),
            config,
            prometheus(),
            shutdown.clone(),
        );
        let client = reqwest::Client::builder().timeout(SOON).no_proxy().build().expect("a client");
        Self { address, shutdown, run: tokio::spawn(run), client }
    }

    /// Shuts down, and waits until the last connection is closed.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        // Idle connections of this client would otherwise be open until the gateway closes them.
        drop(self.client);
        let end = tokio::time::timeout(SOON, self.run).await;
        end.expect("a gateway that is shut down ends").expect("a gateway does not panic");
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    /// A GET as this user.
    pub(crate) async fn get_as(&self, user: u64, path: &str) -> Reply {
        send(self.request(Method::GET, path).bearer_auth(token(user))).await
    }

    /// One order, as its buyer sees it.
    pub(crate) async fn order(&self, user: u64, order: OrderId) -> Reply {
        self.get_as(user, &format!("/api/v1/orders/{order}")).await
    }

    /// An order with no body: one unit.
    pub(crate) async fn buy(&self, sale: SaleId, user: u64) -> Reply {
        send(self.buying(sale, user)).await
    }

    /// An order with this body.
    pub(crate) async fn buy_with(&self, sale: SaleId, user: u64, body: Value) -> Reply {
        send(self.buying(sale, user).json(&body)).await
    }

    /// The same as a request that has yet to be sent.
    pub(crate) fn buying(&self, sale: SaleId, user: u64) -> RequestBuilder {
        self.request(Method::POST, &format!("/api/v1/sales/{sale}/orders")).bearer_auth(token(user))
    }

    /// A sale of 10 units that is over and had no buyer.
    pub(crate) async fn closed_sale(&self) -> SaleId {
        let id = sale_id(&self.create_sale(&sale(10, -7_200, 1)).await.expect(201));
        eventually(SOON, async || {
            let reply = self.get(&format!("/api/v1/sales/{id}")).await.expect(200);
            if reply.json["phase"] == "closed" { Ok(()) } else { Err(reply) }
        })
        .await;
        id
    }

    pub(crate) async fn create_sale(&self, body: &Value) -> Reply {
        send(self.request(Method::POST, "/api/v1/sales").bearer_auth(ADMIN_TOKEN).json(body)).await
    }

    /// A sale of `stock` units, two a user, that is open for the next hour.
    pub(crate) async fn open_sale(&self, stock: u32) -> SaleId {
        let body = sale(stock, -3_600, 3_600);
        sale_id(&self.create_sale(&body).await.expect(201))
    }
}

/// On a free port.
pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port")
}

/// Waits for the answer, and expects that it is described.
pub(crate) async fn send(request: RequestBuilder) -> Reply {
    let (client, request) = request.build_split();
    let request = request.expect("a request");
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await.expect("the gateway answers");
    let reply = Reply::read(response).await.expect("the answer is whole");
    contract::check(&method, &path, &reply);
    reply
}

/// The body of a new sale, which starts and ends so many seconds from now.
pub(crate) fn sale(stock: u32, starts: i64, ends: i64) -> Value {
    let at = |seconds| (now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339();
    json!({
        "name": "phone", "stock": stock, "price_cents": 250, "per_user_limit": 2,
        "starts_at": at(starts), "ends_at": at(ends),
    })
}

/// The id of the sale that a reply shows.
pub(crate) fn sale_id(reply: &Reply) -> SaleId {
    SaleId(reply.json["id"].as_u64().expect("a sale has an id"))
}

/// A token of this user that is good for an hour.
pub(crate) fn token(user: u64) -> String {
    let in_an_hour = u64::try_from(now().timestamp()).expect("after 1970") + 3_600;
    Signer::hs256(JWT_SECRET).sign(user, in_an_hour)
}
