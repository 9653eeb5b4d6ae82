//! What only this module can see: encryption with a certificate that only the test trusts, and what an answer means.

use std::sync::Arc;

use seckill_core::EventMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use uuid::Uuid;

use super::*;

const SECRET: &[u8] = b"0123456789abcdef";

fn certified() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.der().clone(), PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into()))
}

/// A receiver that takes whatever comes, over TLS; its port.
async fn receiver(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> u16 {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut read = [0; 4_096];
            let _ = tls.read(&mut read).await;
            let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
            let _ = tls.shutdown().await;
        }
    });
    port
}

fn webhook(port: u16, trusted: CertificateDer<'static>) -> Webhook {
    let url: Url = format!("https://localhost:{port}/events").parse().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let receiver = Receiver::trusting(&url, true, || Ok(roots)).unwrap();
    Webhook::to(receiver, &url, SECRET).unwrap()
}

fn message() -> EventMessage {
    EventMessage { id: Uuid::nil(), kind: "order.paid".to_owned(), text: "{}".to_owned() }
}

#[tokio::test]
async fn a_receiver_with_a_certificate_that_is_trusted_gets_events() {
    let (certificate, key) = certified();
    let port = receiver(certificate.clone(), key).await;
    let mut webhook = webhook(port, certificate);
    for _ in 0..2 {
        assert!(matches!(webhook.post(&message()).await, Attempt::Taken));
    }
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_gets_none() {
    let (certificate, key) = certified();
    let port = receiver(certificate, key).await;
    let Attempt::Failed { why, .. } = webhook(port, certified().0).post(&message()).await else {
        panic!("it was taken");
    };
    assert!(why.contains("TLS with localhost failed"), "{why}");
}

#[test]
fn an_answer_means_what_its_status_says() {
    let answer = |status: u16, headers: &[(&str, &str)]| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        judge(&response.body(()).unwrap())
    };
    for status in [200, 202, 204] {
        assert!(matches!(answer(status, &[]), Attempt::Taken));
    }
    assert!(matches!(answer(410, &[]), Attempt::Gone));
    for status in [301, 304, 400, 404, 409, 429, 500, 503] {
        assert!(matches!(answer(status, &[]), Attempt::Failed { .. }), "{status}");
    }
    let Attempt::Failed { why, .. } = answer(302, &[("location", "http://elsewhere/")]) else { panic!() };
    assert!(why.contains("302 Found") && why.contains("redirects are not followed"), "{why}");
    let Attempt::Failed { retry_after, .. } = answer(503, &[("retry-after", "9")]) else { panic!() };
    assert_eq!(retry_after, Some(Duration::from_secs(9)));
}

#[test]
fn addresses_that_cannot_be_used_are_refused_with_the_right_form() {
    let refused = |url: &str, allow_private| {
        let url: Url = url.parse().unwrap();
        Webhook::new(&url, SECRET, allow_private).err().unwrap_or_else(|| panic!("{url} is taken"))
    };
    assert!(refused("ftp://example.com/", false).contains("https://example.com/events"));
    assert!(refused("http://user:secret@example.com/", false).contains("the signature says who posts"));
    // However it is written.
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
    ] {
        assert!(refused(url, false).contains("a loopback address"), "{url}");
    }
    assert!(refused("http://169.254.169.254/latest/meta-data", false).contains("a link-local address"));
    let url: Url = "http://127.0.0.1/".parse().unwrap();
    assert!(Webhook::new(&url, SECRET, true).is_ok());
    let short = Webhook::new(&url, b"short", true).err().unwrap();
    assert!(short.contains("5 characters; give 16 or more"), "{short}");
}
