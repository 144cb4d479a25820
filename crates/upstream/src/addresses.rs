//! Decides which addresses connections to providers may go to. Each address that a name resolves to is checked when a connection
//! is made, so that a name that later resolves to another address does not bypass the check.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use mcpctl_api::address::{AddressClass, forbidden_host, forbidden_name};
use tower_service::Service;
use url::{Host, Url};

use crate::{connect_error::BoxError, lookup::lookup, milestones};

/// Which addresses may be connected to. Link-local, metadata, unspecified, multicast and reserved ones never may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Whether this machine's own may.
    pub loopback: bool,
    /// Whether those of private networks may.
    pub private: bool,
    /// Networks that are allowed although the two settings above deny them.
    pub networks: Vec<IpNet>,
    /// Where this process itself listens.
    pub own: Vec<SocketAddr>,
}

/// An address that may not be connected to. For logs: callers learn only that the provider cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedAddress {
    address: String,
    why: String,
}

impl RefusedAddress {
    fn new(address: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { address: address.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is refused: {}", self.address, self.why)
    }
}

impl Error for RefusedAddress {}

impl AddressPolicy {
    /// Checks the address of a URL as written. The addresses of a name are checked when it is resolved.
    ///
    /// # Errors
    /// When no connection to it would be made.
    pub fn check_url(&self, url: &Url) -> Result<(), RefusedAddress> {
        if let Some(why) = forbidden_host(url) {
            return Err(RefusedAddress::new(url.host_str().unwrap_or_default(), why));
        }
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        self.check(ip, url.port_or_known_default())
    }

    /// Those of the addresses that a name has now that may be connected to.
    ///
    /// # Errors
    /// When there are some, and none of them may.
    fn allowed_of(
        &self,
        name: &str,
        found: impl IntoIterator<Item = SocketAddr>,
        port: Option<u16>,
    ) -> Result<Vec<SocketAddr>, RefusedAddress> {
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in found {
            match self.check(address.ip(), port) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(RefusedAddress { address, why }) if allowed.is_empty() => {
                Err(RefusedAddress { address: format!("{name}, {address}"), why })
            }
            _ => Ok(allowed),
        }
    }

    fn check(&self, ip: IpAddr, port: Option<u16>) -> Result<(), RefusedAddress> {
        let allowed = |network: &IpNet| network.contains(&ip) || network.contains(&ip.to_canonical());
        let listed = || self.networks.iter().any(allowed);
        match AddressClass::of(ip) {
            AddressClass::Forbidden(why) => return Err(RefusedAddress::new(ip, why)),
            AddressClass::Loopback if !self.loopback && !listed() => {
                return Err(RefusedAddress::new(ip, "`upstreamAddresses.loopback` is false"));
            }
            AddressClass::Private if !self.private && !listed() => {
                return Err(RefusedAddress::new(ip, "`upstreamAddresses.private` is false"));
            }
            AddressClass::Public | AddressClass::Private | AddressClass::Loopback => {}
        }
        let ip = ip.to_canonical();
        let own = |own: &&SocketAddr| {
            Some(own.port()) == port
                && (own.ip().to_canonical() == ip || (own.ip().is_unspecified() && is_this_machines(ip)))
        };
        match self.own.iter().find(own) {
            Some(own) => Err(RefusedAddress::new(ip, format!("this process itself listens on {own}"))),
            None => Ok(()),
        }
    }

    /// The port of a URL, where this process listens on a port of the same number.
    pub(crate) fn own_port(&self, url: &Url) -> Option<u16> {
        url.port_or_known_default().filter(|port| self.own.iter().any(|own| own.port() == *port))
    }
}

/// Whether the address belongs to this machine: only such an address can be bound.
fn is_this_machines(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Resolves names to those of their addresses that the policy allows; without one, to all.
#[derive(Clone)]
pub(crate) struct Resolver {
    pub(crate) policy: Option<Arc<AddressPolicy>>,
    /// The port that the connections of one pool go to, where it is one that this process listens on.
    pub(crate) port: Option<u16>,
}

impl Resolver {
    async fn resolve(self, name: &str) -> Result<Vec<SocketAddr>, BoxError> {
        let Some(policy) = self.policy else { return Ok(lookup(name).await?) };
        if let Some(why) = forbidden_name(name) {
            return Err(RefusedAddress::new(name, why).into());
        }
        Ok(policy.allowed_of(name, lookup(name).await?, self.port)?)
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            milestones::note(|reached| &mut reached.resolved);
            Ok(addresses.into_iter())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> AddressPolicy {
        AddressPolicy {
            loopback: true,
            private: false,
            networks: vec!["10.1.0.0/16".parse().unwrap(), "169.254.0.0/16".parse().unwrap()],
            own: vec!["127.0.0.1:3100".parse().unwrap(), "0.0.0.0:3101".parse().unwrap()],
        }
    }

    fn refusal(url: &str) -> Option<String> {
        policy().check_url(&url.parse().unwrap()).err().map(|error| error.to_string())
    }

    #[test]
    fn policy_decides_on_private_and_loopback_addresses() {
        for url in ["http://1.1.1.1", "http://127.0.0.1:8000", "http://10.1.2.3", "http://[::ffff:10.1.2.3]"]
        {
            assert_eq!(refusal(url), None, "{url}");
        }
        for url in ["http://10.2.0.1", "http://192.168.1.1", "http://[::ffff:10.2.0.1]", "http://[fd00::1]"] {
            assert!(refusal(url).is_some_and(|why| why.contains("`upstreamAddresses.private`")), "{url}");
        }
        let closed = AddressPolicy { loopback: false, ..policy() };
        for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]"] {
            assert!(closed.check_url(&url.parse().unwrap()).is_err(), "{url}");
        }
    }

    #[test]
    fn no_list_allows_link_local_addresses() {
        for url in [
            "http://169.254.169.254",
            "http://[fe80::1]",
            "http://metadata.google.internal",
            "http://0.0.0.0",
        ] {
            assert!(refusal(url).is_some(), "{url}");
        }
    }

    #[test]
    fn own_listeners_are_refused_by_every_address() {
        for url in [
            "http://127.0.0.1:3100",
            "http://[::ffff:127.0.0.1]:3100",
            "http://127.0.0.1:3101/v1",
            "http://127.0.0.9:3101",
            "http://[::1]:3101",
        ] {
            assert!(refusal(url).is_some_and(|why| why.contains("itself listens")), "{url}");
        }
        // Another process may listen there.
        assert_eq!(refusal("http://127.0.0.2:3100"), None);
        assert_eq!(refusal("http://1.1.1.1:3101"), None);
    }

    #[tokio::test]
    async fn names_are_checked_by_their_addresses() {
        let resolve = async |policy: AddressPolicy, port| {
            let resolver = Resolver { policy: Some(Arc::new(policy)), port };
            resolver.resolve("localhost").await.map(|found| found.len())
        };
        assert!(resolve(policy(), None).await.unwrap() > 0);
        let closed = AddressPolicy { loopback: false, ..policy() };
        let error = resolve(closed, None).await.unwrap_err().to_string();
        assert!(error.starts_with("`localhost, ") && error.contains("loopback"), "{error}");
        let error = resolve(policy(), Some(3101)).await.unwrap_err().to_string();
        assert!(error.contains("itself listens"), "{error}");
        let resolver = Resolver { policy: Some(Arc::new(policy())), port: None };
        assert!(resolver.resolve("metadata.google.internal").await.is_err());
    }

    /// Each connection goes to an address of the resolution that was checked for it (DNS rebinding).
    #[test]
    fn a_name_that_changes_its_address_loses_its_connections() {
        let allowed = |addresses: &[&str]| {
            let found = addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80));
            let allowed = policy().allowed_of("models.example.com", found, Some(80));
            allowed.map(|allowed| allowed.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(allowed(&["203.0.113.7"]).unwrap(), ["203.0.113.7"]);
        for later in ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "10.2.0.1", "0.0.0.0"] {
            let error = allowed(&[later]).unwrap_err().to_string();
            assert!(error.starts_with("`models.example.com, "), "{error}");
            assert_eq!(allowed(&["203.0.113.7", later]).unwrap(), ["203.0.113.7"], "beside an allowed one");
        }
    }
}
