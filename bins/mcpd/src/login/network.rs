//! The network that a login attempt comes from: that of the peer, or of the client that a trusted proxy names.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use mcpctl_server::Peer;

use crate::config::TrustedProxies;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Maximum of proxies that are read from the header; a client can write more.
const MAX_HOPS: usize = 32;
/// Each IPv4 address is a network: its neighbours are other customers.
const IPV4_PREFIX: u8 = 32;
/// The IPv6 prefix that one site usually gets (RFC 6177); it has 256 networks of 2^64 addresses each.
const IPV6_PREFIX: u8 = 56;

/// The network that attempts are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// A network of IP addresses.
    Ip(IpNet),
    /// A Unix socket on this machine.
    Local,
}

impl Network {
    /// The network of the nearest address that is not a trusted proxy.
    pub fn of(peer: Peer, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let Some(mut address) = peer.ip() else { return Self::Local };
        let fields: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).collect();
        // Each proxy appends the address of its peer, so the list is read from the end.
        let mut hops = fields.iter().rev().flat_map(|field| field.rsplit(',')).take(MAX_HOPS);
        while trusted.contains(address) {
            match hops.next().and_then(parse) {
                Some(hop) => address = hop,
                None => break,
            }
        }
        Self::containing(address)
    }

    /// The network of an address.
    pub fn containing(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let prefix = if address.is_ipv4() { IPV4_PREFIX } else { IPV6_PREFIX };
        Self::Ip(IpNet::new_assert(address, prefix).trunc())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpNet::V4(network)) => network.addr().fmt(f),
            Self::Ip(network) => network.fmt(f),
            Self::Local => f.write_str("a Unix socket"),
        }
    }
}

/// Parses an address as proxies write it: alone, or with a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address =
        hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    Some(address.ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted: TrustedProxies = serde_json::from_value(trusted.into()).unwrap();
        let peer = Peer::Tcp(SocketAddr::new(peer.parse().unwrap(), 1234));
        Network::of(peer, &headers, &trusted).to_string()
    }

    #[test]
    fn the_peer_counts_unless_it_is_a_trusted_proxy() {
        assert_eq!(of("192.0.2.1", &["203.0.113.7"], &[]), "192.0.2.1");
        assert_eq!(of("192.0.2.1", &["203.0.113.7"], &["192.0.2.0/24"]), "203.0.113.7");
        assert_eq!(of("192.0.2.9", &["203.0.113.7"], &["192.0.2.1"]), "192.0.2.9");
        assert_eq!(of("192.0.2.1", &[], &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(Network::of(Peer::Unix, &HeaderMap::new(), &TrustedProxies::default()), Network::Local);
    }

    #[test]
    fn the_last_untrusted_hop_counts() {
        let trusted = ["192.0.2.1", "10.0.0.0/8"];
        assert_eq!(of("192.0.2.1", &["1.1.1.1, 203.0.113.7, 10.0.0.3"], &trusted), "203.0.113.7");
        assert_eq!(of("192.0.2.1", &["1.1.1.1", "203.0.113.7:5555", "10.0.0.3"], &trusted), "203.0.113.7");
        assert_eq!(of("192.0.2.1", &["203.0.113.7, nonsense"], &trusted), "192.0.2.1");
        assert_eq!(of("192.0.2.1", &[&"10.0.0.3,".repeat(100)], &trusted), "192.0.2.1");
        assert_eq!(of("192.0.2.1", &[&["10.0.0.3"; 100].join(",")], &trusted), "10.0.0.3");
    }

    #[test]
    fn ipv6_counts_by_site_and_mapped_ipv4_as_ipv4() {
        assert_eq!(of("2001:db8:1:2ff::1", &[], &[]), "2001:db8:1:200::/56");
        assert_eq!(of("::1", &["[2001:db8::1]:443"], &["::1"]), "2001:db8::/56");
        assert_eq!(of("::ffff:192.0.2.1", &["203.0.113.7"], &["192.0.2.1"]), "203.0.113.7");
    }
}
