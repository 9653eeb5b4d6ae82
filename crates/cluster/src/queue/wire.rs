//! The wire to RabbitMQ: a TCP connection, with TLS where the url says `amqps`, that can be cut from outside.
//!
//! TLS is done here and not by the client's own feature for it, which brings a reader for PKCS#12 keystores with 34 crates.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::{AsyncRead, AsyncWrite, Stream};
use lapin::AsyncTcpStream;
use lapin::uri::{AMQPScheme, AMQPUri};
use socket2::{SockRef, Socket};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use tokio_util::either::Either;

use super::greeting::{Greeting, Heard};

/// What the client reads from and writes to.
type WireStream = Compat<Heard<Either<TcpStream, Box<TlsStream<TcpStream>>>>>;

/// The runtime that the client works on: tokio, with streams that may be encrypted.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, Streams>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), Streams(Tokio::current())))
}

/// Another handle of a connection's socket, and the version of the broker at its other end.
#[derive(Clone, Default)]
pub(super) struct Wire {
    socket: Arc<OnceLock<Socket>>,
    greeting: Greeting,
}

impl Wire {
    /// Connects to the broker that `uri` names.
    pub(super) async fn dial(&self, uri: &AMQPUri) -> io::Result<AsyncTcpStream<WireStream>> {
        let host = &uri.authority.host;
        let tcp = TcpStream::connect((host.as_str(), uri.authority.port)).await?;
        tcp.set_nodelay(true)?;
        // A wire is dialled once; were it dialled again, the first socket would be closed already.
        let _ = self.socket.set(SockRef::from(&tcp).try_clone()?);
        let stream = match uri.scheme {
            AMQPScheme::AMQP => Either::Left(tcp),
            AMQPScheme::AMQPS => Either::Right(Box::new(encrypt(tcp, host).await?)),
        };
        Ok(AsyncTcpStream::Plain(Heard::new(stream, self.greeting.clone()).compat()))
    }

    /// The first number of the broker's version, such as 4; `None` where it has not said one.
    pub(super) fn broker_version(&self) -> Option<u32> {
        self.greeting.version()
    }

    /// Ends the connection at once, without a word to the broker.
    pub(super) fn cut(&self) {
        if let Some(socket) = self.socket.get() {
            // Fails only where there is nothing left to cut.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Believes the certificates that the system trusts.
async fn encrypt(tcp: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Timers are tokio's. Connections are made by [`Wire::dial`] alone.
#[derive(Debug, Clone)]
pub(super) struct Streams(Tokio);

impl Reactor for Streams {
    type TcpStream = WireStream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<WireStream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(period)
    }

    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<WireStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
