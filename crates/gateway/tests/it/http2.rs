//! HTTP/2: a client that resets what it asks for, and a gateway that is to end.

use axum::body::Bytes;
use h2::client::{Connection, SendRequest, handshake};
use h2::{Error, Reason};
use hyper::{Method, Request, StatusCode};
use seckill_gateway::Config;
use seckill_gateway::http::guard::CrowdConfig;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::gateway::{Gateway, config, no_crowd_limits};
use crate::test_bed::{SOON, TestBed};

/// A connection, and how it ends.
async fn connect(gateway: &Gateway) -> (SendRequest<Bytes>, JoinHandle<Result<(), Error>>) {
    let stream = TcpStream::connect(gateway.address).await.expect("the gateway accepts");
    let (sender, connection): (_, Connection<_, Bytes>) = handshake(stream).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

fn asking(gateway: &Gateway, path: &str) -> Request<()> {
    Request::get(format!("http://{}{path}", gateway.address)).body(()).expect("a request")
}

/// What is reset at once costs the server work that no limit on streams counts (CVE-2023-44487).
#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (other, _end) = connect(&gateway).await;
    let (mut flood, end) = connect(&gateway).await;
    let sent = async {
        loop {
            // Many in one packet: the server has none of them at work when it hears that they are reset.
            for _ in 0..100 {
                flood = flood.ready().await?;
                let (_answer, mut stream) = flood.send_request(asking(&gateway, "/api/v1/sales"), false)?;
                stream.send_reset(Reason::CANCEL);
            }
            tokio::task::yield_now().await;
        }
    };
    let _: Result<std::convert::Infallible, Error> = timeout(SOON, sent).await.expect("the flood is stopped");
    let end = timeout(SOON, end).await.expect("the connection is ended").expect("no panic");
    // The reason is lost where what is still being sent meets a closed connection first.
    let reason = end.expect_err("it is ended by the gateway").reason();
    assert!(matches!(reason, Some(Reason::ENHANCE_YOUR_CALM) | None), "{reason:?}");
    let (answer, _) = other.ready().await.unwrap().send_request(asking(&gateway, "/livez"), true).unwrap();
    assert_eq!(answer.await.expect("others are answered").status(), StatusCode::OK);
    drop(_end);
    gateway.shutdown.cancel();
}

/// A body after an answer to HEAD breaks the rules of HTTP/2, and clients end the stream with an error.
#[tokio::test]
async fn an_answer_to_head_has_no_body_also_where_it_is_a_refusal() {
    let bed = TestBed::new().await;
    let crowd = CrowdConfig { anonymous_rate_limit: 1, ..no_crowd_limits() };
    let gateway = Gateway::with(&bed.backend, Config { crowd, ..config() }).await;
    let (mut sender, _end) = connect(&gateway).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&StatusCode::TOO_MANY_REQUESTS) {
        assert!(seen.len() < 100, "{seen:?}");
        sender = sender.ready().await.unwrap();
        let (mut head, ()) = asking(&gateway, "/api/v1/sales").into_parts();
        head.method = Method::HEAD;
        let (answer, _) = sender.send_request(Request::from_parts(head, ()), true).unwrap();
        let mut answer = answer.await.expect("an answer");
        let length: u64 = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert!(length > 0, "{answer:?}");
        assert!(answer.body_mut().data().await.is_none(), "{answer:?}");
        seen.push(answer.status());
    }
    assert!(seen.contains(&StatusCode::OK), "{seen:?}");
    gateway.shutdown.cancel();
}

#[tokio::test]
async fn a_gateway_that_is_to_end_lets_its_clients_go_and_takes_new_connections() {
    let bed = TestBed::new().await;
    let config = Config { drain_delay: 10 * SOON, ..config() };
    let hurry = config.hurry.clone();
    let gateway = Gateway::with(&bed.backend, config).await;
    let (sender, end) = connect(&gateway).await;
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(asking(&gateway, "/livez"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    gateway.shutdown.cancel();
    // The client has not closed it, and the delay is far from over.
    timeout(SOON, end).await.expect("the connection is ended").expect("no panic").expect("without an error");
    gateway.get("/livez").await.expect(200);
    hurry.cancel();
    gateway.stop().await;
}
