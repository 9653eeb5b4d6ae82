//! Which addresses a webhook may be sent to. Whoever may name a URL could otherwise make this process send to the machines beside
//! it, such as a cloud's metadata service, which trust everything that comes from within.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address that nobody on the internet has this is; `None`: anybody may have it.
pub(super) fn inner(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => inner_v4(address),
        IpAddr::V6(address) => inner_v6(address),
    }
}

fn inner_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (0, ..) => "an unspecified",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private",
        (100, 64..=127, _) => "a carrier's inner",
        (127, ..) => "a loopback",
        (169, 254, _) => "a link-local",
        (224..=239, ..) => "a multicast",
        (192, 0, 0 | 2) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113) | (240.., ..) => "a reserved",
        _ => return None,
    })
}

fn inner_v6(address: Ipv6Addr) -> Option<&'static str> {
    let part = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        inner_v4(Ipv4Addr::new(a, b, c, d))
    };
    match part {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("an unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback"),
        // IPv4 in IPv6's clothes, and through a translator or a tunnel.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        [0xfc00..=0xfdff, ..] => Some("a private"),
        [0xfe80..=0xfebf, ..] => Some("a link-local"),
        [0xff00..=0xffff, ..] => Some("a multicast"),
        // Teredo, documentation, and what is not given out for use on the internet.
        [0x2001, 0 | 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("a reserved"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_may_be_reached() {
        for (address, kind) in [
            ("0.0.0.0", "an unspecified"),
            ("0.1.2.3", "an unspecified"),
            ("10.0.0.1", "a private"),
            ("172.16.0.1", "a private"),
            ("172.31.255.255", "a private"),
            ("192.168.1.1", "a private"),
            ("100.64.0.1", "a carrier's inner"),
            ("100.127.255.255", "a carrier's inner"),
            ("127.0.0.1", "a loopback"),
            ("127.255.255.254", "a loopback"),
            ("169.254.169.254", "a link-local"),
            ("224.0.0.1", "a multicast"),
            ("239.255.255.255", "a multicast"),
            ("192.0.0.8", "a reserved"),
            ("198.19.0.1", "a reserved"),
            ("203.0.113.9", "a reserved"),
            ("255.255.255.255", "a reserved"),
            ("::", "an unspecified"),
            ("::1", "a loopback"),
            ("::ffff:127.0.0.1", "a loopback"),
            ("::ffff:10.1.2.3", "a private"),
            ("::ffff:169.254.169.254", "a link-local"),
            ("::127.0.0.1", "a reserved"),
            ("64:ff9b::7f00:1", "a loopback"),
            ("64:ff9b:1::1", "a reserved"),
            ("2002:a00:1::1", "a private"),
            ("2001::1", "a reserved"),
            ("2001:db8::1", "a reserved"),
            ("fc00::1", "a private"),
            ("fd12:3456::1", "a private"),
            ("fe80::1", "a link-local"),
            ("febf::1", "a link-local"),
            ("fec0::1", "a reserved"),
            ("ff02::1", "a multicast"),
        ] {
            assert_eq!(inner(address.parse().unwrap()), Some(kind), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "169.253.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
        ] {
            assert_eq!(inner(address.parse().unwrap()), None, "{address}");
        }
    }
}
