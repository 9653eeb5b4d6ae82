//! TLS with certificate files, which are read again when they change: a renewed certificate needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A certificate, its key, and what connections are accepted with.
pub struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: Arc<Current>,
    pub(crate) acceptor: TlsAcceptor,
}

/// A certificate that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the right kind.
    #[error("the {what} in {path} cannot be read: {reason}; give a PEM file", path = path.display())]
    Unreadable {
        /// `certificate` or `key`.
        what: &'static str,
        path: PathBuf,
        reason: String,
    },
    /// The two do not belong together, or TLS cannot be done with them.
    #[error("the certificate in {path} cannot be used with its key: {reason}", path = path.display())]
    Unusable { path: PathBuf, reason: rustls::Error },
}

/// The certificate in use. Locked only to copy or to swap it.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads a chain of certificates and the key of its first one, both PEM. Offers HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// A file cannot be read, or the two do not belong together.
    pub fn load(cert_file: PathBuf, key_file: PathBuf) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let certified = read(&cert_file, &key_file, &provider)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(certified))));
        let unusable = |reason| TlsError::Unusable { path: cert_file.clone(), reason };
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config =
            builder.map_err(unusable)?.with_no_client_auth().with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { cert_file, key_file, current, acceptor })
    }

    /// Reads the files again whenever they have changed; never returns. Files that cannot be used are logged, and the ones before
    /// them stay in use.
    pub(crate) async fn keep_current(&self) {
        let mut seen = self.stamps();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stamps = self.stamps();
            if stamps == seen {
                continue;
            }
            seen = stamps;
            match read(&self.cert_file, &self.key_file, &ring::default_provider()) {
                Ok(certified) => {
                    *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                    tracing::info!(file = %self.cert_file.display(), "a new certificate is in use");
                }
                // Perhaps one of the two is not written yet: its change brings the next try.
                Err(error) => {
                    tracing::error!(%error, "the certificate files have changed and cannot be used; the certificate before them stays in use");
                }
            }
        }
    }

    /// When the files were changed, as far as can be said.
    fn stamps(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.cert_file, &self.key_file].map(|file| {
            let about = std::fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

/// Prints no key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}

fn read(cert_file: &Path, key_file: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let unreadable =
        |what, path: &Path, reason: String| TlsError::Unreadable { what, path: path.into(), reason };
    let chain = CertificateDer::pem_file_iter(cert_file).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(|error| unreadable("certificate", cert_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(unreadable("certificate", cert_file, "it holds none".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file);
    let key = key.map_err(|error| unreadable("key", key_file, error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|reason| TlsError::Unusable { path: cert_file.into(), reason })
}
