//! Connections to the receiver of a webhook. The address that was checked is the address that is connected to: a name is resolved
//! here and nowhere else, and no redirect is followed, because nothing here knows how.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use url::{Host, Url};

use super::address;

/// How long one of several addresses may take to answer.
const CONNECT: Duration = Duration::from_secs(3);

/// Who is sent to.
pub(super) struct Receiver {
    host: Host,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    allow_private: bool,
}

impl Receiver {
    /// # Errors
    /// A sentence, where nothing can be sent to such a URL.
    pub(super) fn of(url: &Url, allow_private: bool) -> Result<Self, String> {
        Self::trusting(url, allow_private, system_roots)
    }

    pub(super) fn trusting(
        url: &Url,
        allow_private: bool,
        roots: impl FnOnce() -> Result<RootCertStore, String>,
    ) -> Result<Self, String> {
        let host = url.host().map(|host| host.to_owned());
        let (Some(host), Some(port)) = (host, url.port_or_known_default()) else {
            return Err(format!("{url} names no host"));
        };
        let tls = match url.scheme() {
            "https" => Some((connector(roots()?)?, server_name(&host)?)),
            _ => None,
        };
        let receiver = Self { host, port, tls, allow_private };
        if let Some(address) = receiver.literal() {
            receiver.check(address)?;
        }
        Ok(receiver)
    }

    /// The address that stands in place of a name.
    fn literal(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some((*address).into()),
            Host::Ipv6(address) => Some((*address).into()),
        }
    }

    fn check(&self, address: IpAddr) -> Result<(), String> {
        let host = &self.host;
        match address::inner(address).filter(|_| !self.allow_private) {
            None => Ok(()),
            Some(kind) if self.literal().is_some() => Err(format!(
                "{host} is {kind} address; webhooks go to public addresses only, unless private ones are allowed"
            )),
            Some(kind) => Err(format!(
                "{host} resolves to {address}, which is {kind} address; webhooks go to public addresses only, unless private ones \
                 are allowed"
            )),
        }
    }

    /// Where to connect to. One address that is not allowed is enough to refuse the name: it was not made for this.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Unreachable> {
        let addresses: Vec<SocketAddr> = match (&self.host, self.literal()) {
            (Host::Domain(name), _) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await;
                let unknown = |error| Unreachable::Away(format!("{name} cannot be resolved: {error}"));
                found.map_err(unknown)?.collect()
            }
            (_, Some(address)) => vec![(address, self.port).into()],
            (_, None) => Vec::new(),
        };
        for address in &addresses {
            self.check(address.ip()).map_err(Unreachable::Refused)?;
        }
        Ok(addresses)
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let mut last = format!("{} has no address", self.host);
        for address in self.addresses().await.map_err(Unreachable::into_reason)? {
            let tcp = match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => tcp,
                Ok(Err(error)) => {
                    last = format!("{address} cannot be connected to: {error}");
                    continue;
                }
                Err(_) => {
                    last = format!("{address} does not answer");
                    continue;
                }
            };
            // What is small goes out at once; an old system without it is only slower.
            let _ = tcp.set_nodelay(true);
            return match &self.tls {
                None => handshake(tcp).await,
                Some((connector, name)) => {
                    let tls = connector.connect(name.clone(), tcp).await;
                    handshake(tls.map_err(|error| format!("TLS with {} failed: {error}", self.host))?).await
                }
            };
        }
        Err(last)
    }
}

/// Why there is no address.
pub(super) enum Unreachable {
    /// It must not be used.
    Refused(String),
    /// Nobody says which it is.
    Away(String),
}

impl Unreachable {
    fn into_reason(self) -> String {
        match self {
            Self::Refused(reason) | Self::Away(reason) => reason,
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // It ends with the sender, and what goes wrong is told to the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// The certificates that the system trusts.
fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this system trusts no certificate, so no https address can be used; install its package of \
                    certificates, such as ca-certificates"
                .to_owned(),
        );
    }
    Ok(roots)
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn server_name(host: &Host) -> Result<ServerName<'static>, String> {
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(io::Error::other),
        Host::Ipv4(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress(IpAddr::from(*address).into())),
    };
    name.map_err(|error| format!("{host} is no name of a server: {error}"))
}
