//! Whom a request comes from before a token says so: the address of the connection, or what trusted proxies say about it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// An address, for limits: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        })
    }
}

/// The address at the other end of a request's connection. The server adds it to each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connected {
    pub(crate) address: IpAddr,
    /// `http`, or `https` where this gateway itself speaks TLS; what a proxy before it speaks is not known.
    pub(crate) scheme: &'static str,
}

/// The header in which trusted proxies say whom they speak for. Only the one that they are known to set is read: the other one
/// may be the client's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies whose word counts. Without any, the address of the connection does.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Proxies in these networks, which all set this header.
    pub fn new(networks: impl IntoIterator<Item = IpNet>, header: ForwardedHeader) -> Self {
        Self { networks: networks.into_iter().collect(), header }
    }

    /// Whether a proxy that is trusted has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whom a request comes from: going back from the connection, the first address that is not a trusted proxy's. What is
    /// further back than that, or than something that is no address, may be made up.
    pub(crate) fn peer(&self, connected: IpAddr, headers: &HeaderMap) -> Peer {
        let mut peer = connected;
        if !self.has(peer) {
            return peer.into();
        }
        let (name, read): (HeaderName, fn(&str) -> Option<IpAddr>) = match self.header {
            ForwardedHeader::XForwardedFor => (HeaderName::from_static("x-forwarded-for"), address),
            ForwardedHeader::Forwarded => (header::FORWARDED, forwarded_for),
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops {
            let Some(address) = read(hop.trim()) else { break };
            peer = address;
            if !self.has(peer) {
                break;
            }
        }
        peer.into()
    }
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6)
}

/// The `for` of one element of `Forwarded`, such as `for="[2001:db8::1]:80";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_for = name.trim().eq_ignore_ascii_case("for");
        is_for.then(|| address(value.trim().trim_matches('"'))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn peer(header: ForwardedHeader, connected: &str, lines: &[(&'static str, &'static str)]) -> String {
        let networks = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_static(line));
        }
        let proxies = TrustedProxies::new(networks, header);
        let Peer(peer) = proxies.peer(connected.parse().unwrap(), &headers);
        peer.to_string()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        /// A client writes what it likes, and the proxy adds whom it has seen: only that counts.
        #[test]
        fn whatever_a_client_writes_the_proxys_own_word_counts(text in "[ -~]{0,120}", for_word in "(for=)?[ -~]{0,40}") {
            for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
                let proxies = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()], header);
                let names = ["x-forwarded-for", "forwarded"];
                let [own, seen] = match header {
                    ForwardedHeader::XForwardedFor => [names[0], "203.0.113.9"],
                    ForwardedHeader::Forwarded => [names[1], "for=203.0.113.9"],
                };
                let mut headers = HeaderMap::new();
                for written in [&text, &for_word] {
                    headers.append(own, HeaderValue::from_str(written).unwrap());
                }
                // Nobody's word counts but a proxy's.
                let Peer(direct) = proxies.peer("198.51.100.7".parse().unwrap(), &headers);
                prop_assert_eq!(direct.to_string(), "198.51.100.7");
                headers.append(own, HeaderValue::from_static(seen));
                let Peer(behind) = proxies.peer("10.0.0.1".parse().unwrap(), &headers);
                prop_assert_eq!(behind.to_string(), "203.0.113.9");
            }
        }
    }

    #[test]
    fn the_word_of_a_trusted_proxy_counts_and_nobody_elses() {
        let x =
            |connected, line| peer(ForwardedHeader::XForwardedFor, connected, &[("x-forwarded-for", line)]);
        assert_eq!(x("198.51.100.7", "203.0.113.9"), "198.51.100.7", "not by a proxy");
        assert_eq!(x("10.0.0.1", "203.0.113.9"), "203.0.113.9");
        assert_eq!(x("10.0.0.1", "1.2.3.4, 203.0.113.9"), "203.0.113.9", "1.2.3.4 is the client's own word");
        assert_eq!(x("10.0.0.1", "1.2.3.4, 203.0.113.9:5000, 10.0.0.2"), "203.0.113.9");
        assert_eq!(x("::ffff:10.0.0.1", "203.0.113.9"), "203.0.113.9", "IPv4 inside of IPv6");
        assert_eq!(x("10.0.0.1", "1.2.3.4, nonsense"), "10.0.0.1", "nothing behind nonsense is believed");
        assert_eq!(x("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3", "proxies all the way");
        assert_eq!(peer(ForwardedHeader::XForwardedFor, "10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn the_last_of_several_lines_is_the_nearest() {
        let lines = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(peer(ForwardedHeader::XForwardedFor, "10.0.0.1", &lines), "203.0.113.9");
    }

    #[test]
    fn only_the_header_that_the_proxies_set_is_read() {
        let lines = [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(peer(ForwardedHeader::XForwardedFor, "10.0.0.1", &lines), "203.0.113.9");
        assert_eq!(peer(ForwardedHeader::Forwarded, "10.0.0.1", &lines), "1.2.3.4");
        for (line, expected) in [
            ("for=1.2.3.4, for=\"203.0.113.9:80\";proto=https;by=10.0.0.1", "203.0.113.9"),
            ("proto=https; For=\"[2001:db8:1:2:3::4]:80\"", "2001:db8:1:2::"),
            ("for=1.2.3.4, for=unknown", "10.0.0.1"),
            ("for=1.2.3.4, for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(
                peer(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", line)]),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn an_ipv6_customer_is_one_peer_however_many_addresses_they_use() {
        let of = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
