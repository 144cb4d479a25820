//! The class of a model server's address: public, private, this machine, or one that no model server has.
//!
//! Pure: names are not resolved here. The HTTP client classifies each address that a name resolves to, because what a
//! name resolves to can change after the name was written.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use url::{Host, Url};

/// The network that an IP address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressClass {
    /// Reachable from everywhere.
    Public,
    /// Of a company's or a home's own network: RFC 1918, RFC 4193, RFC 6598 and the like.
    Private,
    /// This machine.
    Loopback,
    /// Never the address of a model server.
    Forbidden(Forbidden),
}

/// Why an address is never that of a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forbidden {
    /// `0.0.0.0`, `::` and the rest of `0.0.0.0/8`.
    Unspecified,
    /// `169.254.0.0/16` and `fe80::/10`, where clouds keep their metadata.
    LinkLocal,
    /// A cloud's metadata service, which gives out credentials.
    Metadata,
    /// Multicast and broadcast.
    Multicast,
    /// Reserved by IANA.
    Reserved,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata service",
            Self::Multicast => "a multicast or broadcast address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// Metadata services at addresses that are not link-local: Alibaba, Oracle, and Azure's host agent.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];

/// Amazon's, Google's and Scaleway's metadata services.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Names by which clouds reach their metadata services.
const METADATA_NAMES: [&str; 8] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.com",
    "metadata.azure.internal",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
];

impl AddressClass {
    /// The class of an address. Forms of IPv6 that carry an IPv4 address have the worse class of the two.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => {
                let own = of_v6(address);
                embedded(address).into_iter().flatten().map(of_v4).fold(own, Ord::max)
            }
        }
    }
}

/// Why the host of a URL is never that of a model server, judged by the text alone.
pub fn forbidden_host(url: &Url) -> Option<Forbidden> {
    let address = match url.host()? {
        Host::Domain(name) => return forbidden_name(name),
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
    };
    match AddressClass::of(address) {
        AddressClass::Forbidden(why) => Some(why),
        _ => None,
    }
}

/// Why a host name is never that of a model server: it belongs to a metadata service, whatever it resolves to.
pub fn forbidden_name(name: &str) -> Option<Forbidden> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let of_metadata = |known: &str| {
        let rest = name.strip_suffix(known);
        rest.is_some_and(|rest| rest.is_empty() || (rest.ends_with('.') && known.contains('.')))
    };
    METADATA_NAMES.iter().any(|known| of_metadata(known)).then_some(Forbidden::Metadata)
}

fn of_v4(address: Ipv4Addr) -> AddressClass {
    let [a, b, c, _] = address.octets();
    if METADATA_V4.contains(&address) {
        return AddressClass::Forbidden(Forbidden::Metadata);
    }
    match (a, b, c) {
        (0, ..) => AddressClass::Forbidden(Forbidden::Unspecified),
        (169, 254, _) => AddressClass::Forbidden(Forbidden::LinkLocal),
        _ if address.is_multicast() || address.is_broadcast() => {
            AddressClass::Forbidden(Forbidden::Multicast)
        }
        (240.., ..) | (192, 0, 0) => AddressClass::Forbidden(Forbidden::Reserved),
        (127, ..) => AddressClass::Loopback,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) | (198, 18..=19, _) => {
            AddressClass::Private
        }
        _ => AddressClass::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> AddressClass {
    if METADATA_V6.contains(&address) {
        return AddressClass::Forbidden(Forbidden::Metadata);
    }
    let [first, second, third, ..] = address.segments();
    match first {
        _ if address.is_unspecified() => AddressClass::Forbidden(Forbidden::Unspecified),
        _ if address.is_loopback() => AddressClass::Loopback,
        0xff00.. => AddressClass::Forbidden(Forbidden::Multicast),
        0xfe80..=0xfebf => AddressClass::Forbidden(Forbidden::LinkLocal),
        // fec0::/10 was site-local (RFC 3879); 64:ff9b:1::/48 is NAT64 within a network (RFC 8215).
        0xfc00..=0xfdff | 0xfec0..=0xfeff => AddressClass::Private,
        0x64 if second == 0xff9b && third != 0 => AddressClass::Private,
        _ => AddressClass::Public,
    }
}

/// The IPv4 addresses that an IPv6 address carries: mapped and compatible (RFC 4291), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC
/// 3056), Teredo (RFC 4380) and ISATAP (RFC 5214).
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        [0, 0, 0, 0, 0, 0 | 0xffff, g, h] | [0, 0, 0, 0, 0xffff, 0, g, h] => [v4(g, h), None],
        // After 64:ff9b:1::/48 the position depends on the network's own prefix: the two usual ones.
        [0x64, 0xff9b, 1, d, e, f, g, h] => [v4(g, h), v4(d, (e << 8) | (f >> 8))],
        [0x64, 0xff9b, .., g, h] => [v4(g, h), None],
        [0x2002, b, c, ..] => [v4(b, c), None],
        // A Teredo server, and the client with every bit turned over.
        [0x2001, 0, c, d, .., g, h] => [v4(c, d), v4(!g, !h)],
        [.., 0 | 0x200, 0x5efe, g, h] => [v4(g, h), None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> AddressClass {
        AddressClass::of(text.parse().unwrap())
    }

    #[test]
    fn addresses_are_classed_by_their_network() {
        use AddressClass::{Loopback, Private, Public};
        for (text, expected) in [
            ("1.1.1.1", Public),
            ("2606:4700::1111", Public),
            ("127.0.0.1", Loopback),
            ("127.255.0.9", Loopback),
            ("::1", Loopback),
            ("10.0.0.1", Private),
            ("172.31.255.255", Private),
            ("172.32.0.1", Public),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("198.18.0.1", Private),
            ("fd12::1", Private),
            ("fec0::1", Private),
            ("0.0.0.0", AddressClass::Forbidden(Forbidden::Unspecified)),
            ("0.1.2.3", AddressClass::Forbidden(Forbidden::Unspecified)),
            ("::", AddressClass::Forbidden(Forbidden::Unspecified)),
            ("169.254.1.1", AddressClass::Forbidden(Forbidden::LinkLocal)),
            ("fe80::1", AddressClass::Forbidden(Forbidden::LinkLocal)),
            ("febf::1", AddressClass::Forbidden(Forbidden::LinkLocal)),
            ("224.0.0.1", AddressClass::Forbidden(Forbidden::Multicast)),
            ("255.255.255.255", AddressClass::Forbidden(Forbidden::Multicast)),
            ("ff02::1", AddressClass::Forbidden(Forbidden::Multicast)),
            ("240.0.0.1", AddressClass::Forbidden(Forbidden::Reserved)),
            ("192.0.0.8", AddressClass::Forbidden(Forbidden::Reserved)),
            ("100.100.100.200", AddressClass::Forbidden(Forbidden::Metadata)),
            ("192.0.0.192", AddressClass::Forbidden(Forbidden::Metadata)),
            ("168.63.129.16", AddressClass::Forbidden(Forbidden::Metadata)),
            ("fd00:ec2::254", AddressClass::Forbidden(Forbidden::Metadata)),
            ("fd20:ce::254", AddressClass::Forbidden(Forbidden::Metadata)),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn an_ipv4_address_inside_ipv6_keeps_its_class() {
        for text in [
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe:0:0:feff:fefe",
            "2001::5601:5601",
            "fe80::5efe:169.254.169.254",
            "2606:4700::5efe:169.254.169.254",
        ] {
            assert_eq!(class(text), AddressClass::Forbidden(Forbidden::LinkLocal), "{text}");
        }
        for text in ["::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"] {
            assert_eq!(class(text), AddressClass::Loopback, "{text}");
        }
        assert_eq!(class("::ffff:10.0.0.1"), AddressClass::Private);
    }

    #[test]
    fn hosts_are_judged_however_they_are_written() {
        let why = |url: &str| forbidden_host(&url.parse().unwrap());
        for url in [
            "http://169.254.169.254/latest",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://0251.0376.0251.0376/",
            "http://169.254.43518/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[fe80::1]:8000/v1",
        ] {
            assert_eq!(why(url), Some(Forbidden::LinkLocal), "{url}");
        }
        for url in [
            "http://metadata.google.internal/",
            "http://METADATA.google.internal./",
            "http://x.metadata.google.internal/",
            "http://metadata/",
            "http://100.100.100.200/",
            "http://[fd00:ec2::254]/",
        ] {
            assert_eq!(why(url), Some(Forbidden::Metadata), "{url}");
        }
        for url in
            ["http://127.1/", "http://10.0.0.1/", "https://api.openai.com/v1", "http://my-metadata.example/"]
        {
            assert_eq!(why(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_ipv6_form_is_milder_than_what_it_carries(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets().map(u16::from);
            let (high, low) = ((a << 8) | b, (c << 8) | d);
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert!(AddressClass::of(v6.into()) >= AddressClass::of(v4.into()), "{}", v6);
            }
        }
    }
}
