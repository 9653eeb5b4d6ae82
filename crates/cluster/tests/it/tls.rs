//! RabbitMQ over TLS (`amqps`): a broker is believed if the system trusts who signed its certificate, and only then. The
//! system's certificates are read from `SSL_CERT_FILE`, so each check has a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use seckill_core::{OrderBatch, SaleId};
use seckill_testkit::TestRabbit;
use seckill_testkit::fixtures::batch;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::setup::{SOON, queue_at};

/// Where the process that publishes finds the broker.
const URL: &str = "SECKILL_TEST_AMQPS_URL";

/// The user of the one order that is published.
const USER: u64 = 7;

fn one_order() -> OrderBatch {
    batch(SaleId(1), USER..USER + 1)
}

/// Who signs certificates, with the file that makes a system trust it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = folder.join(name);
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Ends TLS as a broker called `localhost`, and hands everything on to the real one.
    async fn serve(&self, rabbit: &TestRabbit) -> (u16, JoinSet<()>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = params.signed_by(&key, &self.issuer).unwrap().into();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (_, address) = rabbit.url.split_once('@').unwrap();
        let broker = address.split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, broker) = (acceptor.clone(), broker.clone());
                connections.spawn(async move {
                    // A client that does not believe the certificate hangs up here.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = TcpStream::connect(broker).await.unwrap();
                    // How a connection ends is the business of its two ends.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        (port, tasks)
    }
}

/// Publishes in a process that trusts `trusted`: what it printed.
async fn publish(url: String, trusted: &Authority) -> String {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "tls::publishes_over_tls", "--ignored", "--nocapture"]);
    process.env(URL, url).env("SSL_CERT_FILE", &trusted.file).env_remove("SSL_CERT_DIR");
    let output = tokio::task::spawn_blocking(move || process.output()).await.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_believed_if_the_system_trusts_who_signed_its_certificate() {
    let folder = TempDir::new().unwrap();
    let rabbit = seckill_testkit::rabbit().await;
    let (signer, stranger) =
        (Authority::new(folder.path(), "signer.pem"), Authority::new(folder.path(), "stranger.pem"));
    let (port, _serving) = signer.serve(&rabbit).await;
    let (base, vhost) = rabbit.url.rsplit_once('/').unwrap();
    let (credentials, _) = base.split_once('@').unwrap();
    let credentials = credentials.replace("amqp://", "amqps://");
    let url = |host| format!("{credentials}@{host}:{port}/{vhost}");

    let refused = publish(url("localhost"), &stranger).await;
    assert!(refused.contains("refused: the queue is unavailable"), "{refused}");
    assert!(refused.contains("invalid peer certificate: UnknownIssuer"), "{refused}");
    let misnamed = publish(url("127.0.0.1"), &signer).await;
    assert!(misnamed.contains("invalid peer certificate: certificate not valid for name"), "{misnamed}");
    for printed in [&refused, &misnamed] {
        assert!(!printed.contains("guest:guest"), "the fault shows the password: {printed}");
    }
    assert_eq!(queue_at(&rabbit.url).queue.depth().await.unwrap().ready_batches, 0);

    let confirmed = publish(url("localhost"), &signer).await;
    assert!(confirmed.contains("confirmed"), "{confirmed}");
    let mut consumer = queue_at(&rabbit.url).queue.consumer(1).await.unwrap();
    let delivery = tokio::time::timeout(SOON, consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.batch.orders[0].user_id.0, USER);
    consumer.ack(delivery.tag).await.unwrap();
}

/// Not a test: the process that the one above starts from this binary.
#[tokio::test]
#[ignore = "no test by itself: the one above runs it, with certificates of its own"]
async fn publishes_over_tls() {
    let queue = queue_at(&std::env::var(URL).unwrap()).queue;
    let published = async { queue.publisher().await?.publish(&one_order()).await };
    match published.await {
        Ok(()) => println!("confirmed"),
        Err(fault) => println!("refused: {fault}"),
    }
}
