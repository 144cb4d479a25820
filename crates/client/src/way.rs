//! The way from this machine to an mcpd, one step at a time: the addresses of its name, a connection, TLS. No request is sent, and
//! no credential; what the server answers is asked through a [`Client`](crate::Client).

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_tls::{TlsFault, TlsProblem, not_after};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::{
    error::{ClientError, check_address, one_line, shown},
    guard::Guard,
    resolver::Resolver,
    trust::Trust,
};

/// How long each step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(3);

/// The way to one server.
#[derive(Debug)]
pub struct Way<'a> {
    server: &'a Url,
    trust: &'a Trust,
}

/// A connection on which nothing was sent.
#[derive(Debug)]
pub struct Connected {
    /// The other end.
    pub peer: SocketAddr,
    stream: TcpStream,
}

/// A certificate that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The time from which it is not any more; `None` where it cannot be read.
    pub valid_until: Option<Timestamp>,
}

impl<'a> Way<'a> {
    /// The way to the server at this address.
    ///
    /// # Errors
    /// When the address is none.
    pub fn to(server: &'a Url, trust: &'a Trust) -> Result<Self, ClientError> {
        check_address(server)?;
        Ok(Self { server, trust })
    }

    /// The name that has to be resolved; `None` for an address that is written as a number.
    pub fn name(&self) -> Option<&'a str> {
        match self.server.host()? {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// Whether there is TLS on it.
    pub fn has_tls(&self) -> bool {
        self.server.scheme() == "https"
    }

    /// The addresses of the server.
    ///
    /// # Errors
    /// When its name has none.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let port = self.server.port_or_known_default().unwrap_or_default();
        let name = match self.server.host() {
            Some(Host::Ipv4(ip)) => return Ok(vec![(ip, port).into()]),
            Some(Host::Ipv6(ip)) => return Ok(vec![(ip, port).into()]),
            Some(Host::Domain(name)) => name.to_owned(),
            None => return Err(self.unreachable("it has no host")),
        };
        let shown = name.clone();
        let lookup = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let failed = |why: &str| self.unreachable(&format!("the name `{shown}` cannot be resolved: {why}"));
        match timeout(STEP_TIMEOUT, Resolver::new().run(lookup)).await {
            Ok(Ok(Ok(addresses))) if addresses.is_empty() => Err(failed("it has no address")),
            Ok(Ok(Ok(addresses))) => Ok(addresses),
            Ok(Ok(Err(error)) | Err(error)) => Err(failed(&words(&error))),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// A connection to the first of these addresses that accepts one. Over plain http a trusted user must hold the other end.
    ///
    /// # Errors
    /// When none does, or another user's program has accepted it.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> Result<Connected, ClientError> {
        let mut failed = self.unreachable("it has no address");
        for &peer in addresses {
            match timeout(STEP_TIMEOUT, TcpStream::connect(peer)).await {
                Ok(Ok(stream)) => return self.checked(stream, peer).await,
                Ok(Err(error)) => failed = self.unreachable(&words(&error)),
                Err(_) => failed = self.unreachable("no answer in time"),
            }
        }
        Err(failed)
    }

    async fn checked(&self, stream: TcpStream, peer: SocketAddr) -> Result<Connected, ClientError> {
        if let Some(guard) = Guard::of(self.server, self.trust.users) {
            let local = stream.local_addr().map_err(|error| self.unreachable(&words(&error)))?;
            let checked = guard.check_addresses(local, peer).await;
            checked.map_err(|peer| ClientError::Foreign { server: shown(self.server), peer })?;
        }
        Ok(Connected { peer, stream })
    }

    /// The certificate with which the server proves who it is.
    ///
    /// # Errors
    /// When it proves nothing, or the handshake fails otherwise.
    pub async fn secure(&self, connected: Connected) -> Result<Certificate, ClientError> {
        let config = self.trust.tls.config().map_err(|error| ClientError::Setup(error.to_string()))?;
        let mut config = (*config).clone();
        // As the clients of this crate ask.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = self.server.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| self.unreachable("no certificate can be for its host"))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, connected.stream);
        let stream = match timeout(STEP_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.distrusted(&error)),
            Err(_) => return Err(self.unreachable("the TLS handshake does not end")),
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(Certificate { valid_until: certificates.first().and_then(not_after) })
    }

    fn distrusted(&self, error: &io::Error) -> ClientError {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls.map(TlsProblem::of).or_else(|| TlsProblem::of_words(error)) {
            Some(TlsProblem { reason, hint, fault }) => {
                let problem = TlsProblem { reason: one_line(&reason), hint, fault };
                ClientError::Tls { server: shown(self.server), problem }
            }
            // A server that answers a handshake with the end of the connection most likely speaks something else.
            None if error.kind() == io::ErrorKind::UnexpectedEof => ClientError::Tls {
                server: shown(self.server),
                problem: TlsProblem {
                    reason: "it ends the TLS handshake without a word".to_owned(),
                    hint: Some("is it mcpd that listens there? Check the port"),
                    fault: TlsFault::Other,
                },
            },
            None => self.unreachable(&words(error)),
        }
    }

    fn unreachable(&self, reason: &str) -> ClientError {
        ClientError::Unreachable { server: shown(self.server), reason: one_line(reason) }
    }
}

/// A system's error; its kinds are lower case and without numbers.
fn words(error: &io::Error) -> String {
    let kind = error.kind().to_string();
    if kind.contains("uncategorized") || kind == "other error" { error.to_string() } else { kind }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn steps_fail_one_after_the_other() {
        let trust = Trust::default();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = |text: String| text.parse::<Url>().unwrap();
        let server = at("https://no-such-host.invalid".to_owned());
        let way = Way::to(&server, &trust).unwrap();
        assert_eq!(way.name(), Some("no-such-host.invalid"));
        let error = way.addresses().await.unwrap_err().to_string();
        assert!(error.contains("the name `no-such-host.invalid` cannot be resolved"), "{error}");

        let server = at(format!("https://{refused}"));
        let way = Way::to(&server, &trust).unwrap();
        let addresses = way.addresses().await.unwrap();
        assert_eq!((way.name(), addresses.as_slice()), (None, &[refused][..]));
        let error = way.connect(&addresses).await.unwrap_err().to_string();
        assert!(error.ends_with("connection refused"), "{error}");
    }
}
