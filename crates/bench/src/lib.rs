//! What one order costs, without a network and without a clock: a gateway on the embedded back end that serves one thread, and a crowd
//! that sends it requests. `scripts/instructions.sh` counts the processor's instructions in it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use metrics_exporter_prometheus::PrometheusBuilder;
use seckill_gateway::{Config, CrowdConfig};
use seckill_lifecycle::Service;
use seckill_testkit::fixtures;
use seckill_token::{Signer, Verifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What buyers' tokens are signed with.
pub const SECRET: &str = "the secret of a measurement, 32 bytes or more";
/// The sale with units for everyone; the first that [`serve`] opens.
pub const OPEN: u64 = 1;
/// The sale with one unit.
pub const SOLD_OUT: u64 = 2;
/// Connections of a [`Crowd`].
const CONNECTIONS: usize = 32;
/// 2100-01-01.
const NEVER: u64 = 4_102_444_800;

/// Serves two sales, [`OPEN`] and [`SOLD_OUT`], until the process ends. The listener's address is printed once it is ready.
///
/// # Panics
/// When a gateway cannot be started in this folder.
pub async fn serve(data: &Path) {
    let backend = seckill_embedded::open(data).await.expect("a data folder");
    for stock in [50_000_000, 1] {
        fixtures::open_sale(&backend, stock, 1).await;
    }
    let no_limits = CrowdConfig {
        orders_under_way: 0,
        reads_under_way: 0,
        requests_per_token: 0,
        streams_per_token: 0,
        anonymous_rate_limit: 0,
        miss_rate_limit: 0,
        ..CrowdConfig::default()
    };
    // The limit of a user's orders is part of what an order costs.
    let config = Config { crowd: no_limits, ..Config::new(SECRET.into(), "the admin's token".into()) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let orders = Arc::new(Service::new(backend.clone(), None));
    let recorder = PrometheusBuilder::new().install_recorder().expect("the only recorder of this process");
    let shutdown = CancellationToken::new();
    seckill_gateway::run(listener, backend, orders, config, Router::new(), recorder, shutdown).await;
}

/// A token of this user.
pub fn token(user: u64) -> String {
    Signer::hs256(SECRET).sign(user, NEVER)
}

/// Checks [`token`]s.
pub fn verifier() -> Verifier {
    Verifier::hs256(SECRET)
}

/// Connections that send one request each and wait for all answers, again and again. So what the gateway gathers does not depend on
/// how fast the machine is.
pub struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// # Errors
    /// The gateway cannot be reached.
    pub async fn new(gateway: SocketAddr) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let connection = TcpStream::connect(gateway).await?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        Ok(Self(connections))
    }

    /// Orders one unit for each of `orders` users from `first` on; returns how many answers had the status.
    ///
    /// # Errors
    /// A connection ended.
    pub async fn order(&mut self, sale: u64, first: u64, orders: u64, status: &str) -> io::Result<u64> {
        let mut users = first..first + orders;
        let mut counted = 0;
        while !users.is_empty() {
            let mut sent = 0;
            for (connection, user) in self.0.iter_mut().zip(&mut users) {
                connection.write_all(request(sale, user).as_bytes()).await?;
                sent += 1;
            }
            for connection in &mut self.0[..sent] {
                counted += u64::from(answer(connection).await? == status);
            }
        }
        Ok(counted)
    }
}

/// As `loadtest/wrk/orders.lua` sends it.
fn request(sale: u64, user: u64) -> String {
    let (token, body) = (token(user), r#"{"quantity":1}"#);
    format!(
        "POST /api/v1/sales/{sale}/orders HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The status of the next answer, which is read to its end.
async fn answer(connection: &mut TcpStream) -> io::Result<String> {
    let mut read = Vec::with_capacity(1_024);
    loop {
        if connection.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
            return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
        }
    }
}
