//! The peer that a request came from.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::{extract::FromRequestParts, http::request::Parts};

/// The other end of a request's connection; an extension of every request.
///
/// Behind a reverse proxy this is the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection, with the peer's address.
    Tcp(SocketAddr),
    /// A Unix socket of this machine.
    Unix,
}

impl Peer {
    /// The peer's network address; `None` on a Unix socket. An IPv4 address that arrived at an IPv6 socket is IPv4.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    /// A request without a listener, as in a unit test of a route, has no network address.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self::Unix))
    }
}
