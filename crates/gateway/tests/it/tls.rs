//! TLS, its certificate files, and HTTP/2.

use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use seckill_gateway::Config;
use seckill_gateway::tls::{Tls, TlsError};
use seckill_testkit::eventually;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::gateway::{Gateway, config, token};
use crate::test_bed::{SOON, TestBed};

type Sender = hyper::client::conn::http2::SendRequest<Body>;

/// Writes a new certificate and its key; gives what trusts it.
fn new_certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).expect("it is written");
    std::fs::write(folder.join("cert.pem"), cert.pem()).expect("it is written");
    cert.der().clone()
}

fn load(folder: &Path) -> Result<Tls, TlsError> {
    Tls::load(folder.join("cert.pem"), folder.join("key.pem"))
}

/// An HTTP/2 connection to a gateway whose certificate must be this one.
async fn connect(gateway: &Gateway, trusted: &CertificateDer<'static>) -> Result<Sender, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("it is a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("TLS 1.3");
    let mut client = builder.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(gateway.address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(sender: &mut Sender, request: Request<Body>) -> (StatusCode, String) {
    sender.ready().await.expect("the connection is open");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.version(), Version::HTTP_2);
    let (head, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), usize::MAX).await.expect("a whole body");
    (head.status, String::from_utf8(body.to_vec()).expect("text"))
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("https://localhost{path}")).body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not() {
    let (bed, folder) = (TestBed::new().await, tempfile::tempdir().unwrap());
    let first = new_certificate(folder.path());
    let tls = Some(Arc::new(load(folder.path()).unwrap()));
    let gateway = Gateway::with(&bed.backend, Config { tls, ..config() }).await;
    let answer = ask(&mut connect(&gateway, &first).await.unwrap(), get("/livez")).await;
    assert_eq!(answer, (StatusCode::OK, "ok\n".to_owned()));
    let second = new_certificate(folder.path());
    eventually(SOON, async || connect(&gateway, &second).await.map(drop)).await;
    assert!(connect(&gateway, &first).await.is_err(), "the old certificate is not in use any more");
    std::fs::write(folder.path().join("cert.pem"), "broken").unwrap();
    // Longer than the files go without being looked at.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    connect(&gateway, &second).await.expect("what was in use stays in use");
    // Plain HTTP is no TLS.
    let plain = gateway.request(reqwest::Method::GET, "/livez").send().await;
    assert!(plain.is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn certificate_files_that_cannot_be_used_are_told_apart() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = |result: Result<Tls, TlsError>| result.unwrap_err().to_string();
    assert!(text(load(one.path())).starts_with("the certificate in "), "there is none");
    new_certificate(one.path());
    new_certificate(other.path());
    std::fs::copy(other.path().join("key.pem"), one.path().join("key.pem")).unwrap();
    let mixed = text(load(one.path()));
    assert!(mixed.contains("cannot be used with its key"), "{mixed}");
    std::fs::write(one.path().join("key.pem"), "").unwrap();
    assert!(text(load(one.path())).starts_with("the key in "));
}

#[tokio::test]
async fn orders_can_be_placed_by_http2_without_tls() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for user in 1..=3 {
        let order = Request::post(format!("http://{}/api/v1/sales/{sale}/orders", gateway.address))
            .header("authorization", format!("Bearer {}", token(user)))
            .body(Body::empty())
            .unwrap();
        let (status, text) = ask(&mut sender, order).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{text}");
    }
    // A head that is too large is refused, and the connection goes on.
    let large =
        Request::get(format!("http://{}/livez", gateway.address)).header("x-large", "x".repeat(64 * 1024));
    let refused = sender.send_request(large.body(Body::empty()).unwrap()).await;
    assert!(refused.is_err() || refused.unwrap().status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    bed.expect_at_rest(sale, 3).await;
    drop(sender);
    gateway.stop().await;
}
