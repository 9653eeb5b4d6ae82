//! The address that the requests go to.

use std::net::{IpAddr, SocketAddr};

use url::Url;

use crate::error::Error;

/// The base address of a server, such as `http://127.0.0.1:8080`.
#[derive(Debug, Clone)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
    prefix: String,
}

impl Target {
    /// Reads a base address, or a host and a port; a path in it is put before every request's path.
    ///
    /// # Errors
    /// [`Error::Target`] unless it is an `http` URL with a host, or `HOST:PORT`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Target { url: text.to_owned(), reason: reason.to_owned() };
        let host_and_port = || {
            let (host, port) = text.split('/').next()?.rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| format!("http://{text}"))
        };
        let whole = if text.contains("://") { None } else { host_and_port() };
        let url = Url::parse(whole.as_deref().unwrap_or(text)).map_err(|error| wrong(&error.to_string()))?;
        if url.scheme() != "http" {
            return Err(wrong("only plain http is supported"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(wrong("it has more than a host, a port and a path"));
        }
        let host = url.host().ok_or_else(|| wrong("it has no host"))?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        // The brackets of an IPv6 address belong to the header, not to the address that is connected to.
        let host = host.to_string().trim_matches(['[', ']']).to_owned();
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port: url.port().unwrap_or(80), authority, prefix })
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is this machine by its address, or by the name `localhost`.
    pub fn is_this_machine(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The path of a request, with the target's own path before it.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The addresses behind the host's name.
    pub(crate) async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_is_read_with_or_without_port_and_path() {
        let target = Target::parse("http://127.0.0.1:8080/").unwrap();
        assert_eq!((target.authority(), target.path("/x")), ("127.0.0.1:8080", "/x".to_owned()));
        let target = Target::parse("http://shop.example/base/").unwrap();
        assert_eq!((target.port, target.path("/x")), (80, "/base/x".to_owned()));
        let target = Target::parse("shop.example:8080").unwrap();
        assert_eq!((target.authority(), target.path("/x")), ("shop.example:8080", "/x".to_owned()));
        let target = Target::parse("http://[::1]:99").unwrap();
        assert_eq!((target.host.as_str(), target.authority()), ("::1", "[::1]:99"));
    }

    #[test]
    fn an_unusable_target_is_refused_with_the_reason() {
        for bad in ["127.0.0.1", "127.0.0.1:port", "https://a", "http://a?b", "http://u@a", "http://"] {
            let error = Target::parse(bad).unwrap_err().to_string();
            assert!(error.contains("cannot be a target") && error.contains(bad), "{error}");
        }
    }
}
