//! What a connection may cost: there are so many at the most, and none may be slow to ask.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use seckill_gateway::Config;
use seckill_gateway::peer::{ForwardedHeader, TrustedProxies};
use seckill_gateway::server::{Limits, serve};
use seckill_testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, config, listener, token};
use crate::test_bed::{SOON, TestBed};

const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: seckill\r\n\r\n";

async fn connect(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(gateway.address).await.expect("the gateway listens")
}

/// Asks, and waits for the answer; the connection stays open.
async fn ask(connection: &mut TcpStream) {
    connection.write_all(REQUEST).await.expect("the gateway reads");
    let mut answer = [0; 1_024];
    let read = timeout(SOON, connection.read(&mut answer)).await.expect("an answer").expect("it can be read");
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    let bed = TestBed::new().await;
    let config = Config { head_timeout: Duration::from_millis(500), ..config() };
    let gateway = Gateway::with(&bed.backend, config).await;
    let mut slow = connect(&gateway).await;
    slow.write_all(&REQUEST[..REQUEST.len() - 2]).await.expect("the gateway reads");
    let mut rest = Vec::new();
    // Closed, with or without an answer. A reset counts as closed.
    let _ = timeout(SOON, slow.read_to_end(&mut rest)).await.expect("the gateway closes the connection");
    ask(&mut connect(&gateway).await).await;
    gateway.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_another_one_ends() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, Config { max_connections: 2, ..config() }).await;
    let (mut first, mut second) = (connect(&gateway).await, connect(&gateway).await);
    ask(&mut first).await;
    ask(&mut second).await;
    let mut third = connect(&gateway).await;
    third.write_all(REQUEST).await.expect("the kernel takes it");
    let mut byte = [0; 1];
    let early = timeout(Duration::from_millis(500), third.read(&mut byte)).await;
    assert!(early.is_err(), "a third connection was served beside two others");
    drop(first);
    let read = timeout(SOON, third.read(&mut byte)).await.expect("an answer").expect("it can be read");
    assert_eq!(read, 1);
    gateway.stop().await;
}

/// The head of a request says that a body comes, and none does.
#[tokio::test]
async fn a_body_that_does_not_come_ends_the_request_and_the_connection() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, config()).await;
    let mut slow = connect(&gateway).await;
    let head = format!(
        "POST /api/v1/sales/1/orders HTTP/1.1\r\nHost: seckill\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 14\r\n\r\n",
        token(7)
    );
    slow.write_all(head.as_bytes()).await.expect("the gateway reads");
    let mut answer = Vec::new();
    let _ = timeout(SOON, slow.read_to_end(&mut answer)).await.expect("the gateway closes the connection");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("/problems/body-too-slow"), "{answer}");
    ask(&mut connect(&gateway).await).await;
    gateway.stop().await;
}

/// A client that asks for much and reads nothing of it.
#[tokio::test]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let listener = listener().await;
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let large = "x".repeat(64 * 1024 * 1024);
    let router = Router::new().route("/large", get(async move || large.clone()));
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    let mut stalled = TcpStream::connect(address).await.expect("the server accepts");
    stalled.write_all(b"GET /large HTTP/1.1\r\nHost: seckill\r\n\r\n").await.expect("the server reads");
    // With no connection left, the server ends; this one would hold it up for as long as the client likes.
    shutdown.cancel();
    timeout(SOON, server).await.expect("the connection is ended").expect("the server does not panic");
    let mut answer = Vec::new();
    let _ = stalled.read_to_end(&mut answer).await;
    assert!(answer.len() < 64 * 1024 * 1024, "all of it was sent");
}

/// A body that comes byte by byte is no faster than one that does not come.
#[tokio::test]
async fn a_body_that_drips_ends_the_request_too() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, config()).await;
    let stream = connect(&gateway).await;
    let (mut answers, mut asks) = stream.into_split();
    let head = format!(
        "POST /api/v1/sales/1/orders HTTP/1.1\r\nHost: seckill\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n",
        token(7)
    );
    asks.write_all(head.as_bytes()).await.expect("the gateway reads");
    let drip = tokio::spawn(async move {
        while asks.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(SOON, answers.read_to_end(&mut answer)).await.expect("the gateway closes the connection");
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    drip.abort();
    gateway.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_of_one_address_are_closed_and_proxies_have_none() {
    let bed = TestBed::new().await;
    let limited = || Config { max_connections_per_peer: 2, ..config() };
    let gateway = Gateway::with(&bed.backend, limited()).await;
    let (mut first, mut second) = (connect(&gateway).await, connect(&gateway).await);
    ask(&mut first).await;
    ask(&mut second).await;
    let mut third = connect(&gateway).await;
    let _ = third.write_all(REQUEST).await;
    let mut nothing = Vec::new();
    let _ = timeout(SOON, third.read_to_end(&mut nothing)).await.expect("the gateway closes the connection");
    assert!(nothing.is_empty(), "a third connection was served");
    drop(first);
    eventually(SOON, async || {
        let mut again = connect(&gateway).await;
        let _ = again.write_all(REQUEST).await;
        let mut byte = [0; 1];
        if let Ok(Ok(1)) = timeout(SOON, again.read(&mut byte)).await { Ok(()) } else { Err("closed") }
    })
    .await;
    gateway.stop().await;

    let mut config = limited();
    let here = ["127.0.0.1/32".parse().expect("a network")];
    config.crowd.proxies = TrustedProxies::new(here, ForwardedHeader::XForwardedFor);
    let gateway = Gateway::with(&bed.backend, config).await;
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(connect(&gateway).await);
        ask(connections.last_mut().expect("one more")).await;
    }
    drop(connections);
    gateway.stop().await;
}
