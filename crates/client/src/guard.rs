//! Checks which user holds the other end of a plain HTTP connection, after it is established and before the first byte is sent.
//!
//! Plain HTTP is for this machine, where any user can listen on any port: the address alone is no identity. The check looks up
//! the owner of this connection and not of the listening socket, so that nothing can change in between. Over TLS the
//! certificate identifies the server, and there is no check.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::http::Extensions;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use mcpctl_owner::{
    TrustedUsers,
    connection::{PeerOwner, peer_owner, peer_owner_listed},
    user_name,
};
use tower_layer::Layer;
use tower_service::Service;
use url::Url;

/// How long a server may take to accept a connection; until then the owner of the program is unknown.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two lookups; doubled each time, up to [`MAX_POLL_INTERVAL`].
const FIRST_POLL_INTERVAL: Duration = Duration::from_millis(1);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Why the client sends nothing to the program at an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignPeer {
    /// It is another machine.
    #[error("{0} is another machine, and plain http is for this machine alone")]
    Remote(SocketAddr),
    /// It is another user's program.
    #[error("the program that listens there belongs to user {}", user_name(*.0))]
    User(u32),
    /// Its user is not known yet, because no program has accepted the connection.
    #[error("the program that listens there does not accept connections")]
    NotAccepted,
    /// Its user cannot be found out.
    #[error("whose program listens there cannot be found out: {0}")]
    Unknown(String),
}

impl ForeignPeer {
    /// The next step.
    pub fn hint(&self) -> String {
        match self {
            Self::Remote(_) => "use https".to_owned(),
            Self::User(_) => {
                "nothing was sent; if that is the user that mcpd runs as, name it: `--server-user` of \
                              mcpctl, `serverUser` in mcplocal.yaml"
                    .to_owned()
            }
            Self::NotAccepted => "is it overloaded?".to_owned(),
            Self::Unknown(_) => "nothing was sent; use https, or trust every user of this machine with \
                                 `--server-user '*'` of mcpctl, `serverUser: '*'` in mcplocal.yaml"
                .to_owned(),
        }
    }
}

/// The check, as a layer around a connector.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    trusted: TrustedUsers,
}

impl Guard {
    /// The check, for connections that are plain HTTP.
    pub fn new(trusted: TrustedUsers) -> Self {
        Self { trusted }
    }

    /// The check that connections to this server need; none where the server proves who it is by a certificate.
    pub fn of(server: &Url, trusted: TrustedUsers) -> Option<Self> {
        (server.scheme() != "https").then_some(Self::new(trusted))
    }

    /// Adds the check that connections to this server need.
    pub fn around(
        server: &Url,
        trusted: TrustedUsers,
        builder: reqwest::ClientBuilder,
    ) -> reqwest::ClientBuilder {
        match Self::of(server, trusted) {
            Some(guard) => builder.connector_layer(guard),
            None => builder,
        }
    }

    /// Checks an established connection; nothing may have been sent on it.
    ///
    /// # Errors
    /// When the other end is not on this machine, or belongs to a user that is not trusted.
    pub async fn check(self, connection: &impl Connection) -> Result<(), ForeignPeer> {
        let mut extras = Extensions::new();
        connection.connected().get_extras(&mut extras);
        let info = extras.get::<HttpInfo>();
        let info = info.ok_or_else(|| ForeignPeer::Unknown("the connection has no address".to_owned()))?;
        self.check_addresses(info.local_addr(), info.remote_addr()).await
    }

    /// As [`Guard::check`], of a connection by its addresses, whichever end opened it; nothing of it may have been used.
    ///
    /// # Errors
    /// As [`Guard::check`].
    pub async fn check_addresses(self, local: SocketAddr, remote: SocketAddr) -> Result<(), ForeignPeer> {
        if !remote.ip().to_canonical().is_loopback() {
            return Err(ForeignPeer::Remote(remote));
        }
        if self.trusted == TrustedUsers::Any {
            return Ok(());
        }
        let mut found = PeerOwner::NotHere;
        let lookup = async {
            let mut wait = FIRST_POLL_INTERVAL;
            loop {
                found = owner_of_peer(local, remote)
                    .await
                    .map_err(|error| ForeignPeer::Unknown(error.to_string()))?;
                match found {
                    PeerOwner::User(uid) if self.trusted.contains(uid) => return Ok(()),
                    PeerOwner::User(uid) => return Err(ForeignPeer::User(uid)),
                    // The kernel does not write the list at one instant, so that a socket can be missing.
                    PeerOwner::NotAccepted | PeerOwner::NotHere => tokio::time::sleep(wait).await,
                }
                wait = (wait * 2).min(MAX_POLL_INTERVAL);
            }
        };
        match tokio::time::timeout(ACCEPT_TIMEOUT, lookup).await {
            Ok(checked) => checked,
            Err(_) if found == PeerOwner::NotHere => {
                Err(ForeignPeer::Unknown("no program of this machine holds the connection".to_owned()))
            }
            Err(_) => Err(ForeignPeer::NotAccepted),
        }
    }
}

/// The owner by a lookup; where that finds none by the list of all sockets, on a blocking thread, because the kernel takes a
/// while to write it.
async fn owner_of_peer(local: SocketAddr, remote: SocketAddr) -> io::Result<PeerOwner> {
    if let Some(owner) = peer_owner(local, remote) {
        return Ok(owner);
    }
    let listed = tokio::task::spawn_blocking(move || peer_owner_listed(local, remote)).await;
    listed.map_err(io::Error::other)?
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: *self, inner }
    }
}

/// A connector that checks its connections.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<S, R> Service<R> for Guarded<S>
where
    S: Service<R>,
    S::Response: Connection + Send + Sync,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (guard, connecting) = (self.guard, self.inner.call(request));
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            guard.check(&connection).await?;
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::net::TcpStream;

    use super::*;

    async fn connected(listener: &TcpListener) -> TcpStream {
        TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
    }

    async fn check(trusted: TrustedUsers, stream: &TcpStream) -> Result<(), ForeignPeer> {
        Guard { trusted }.check_addresses(stream.local_addr().unwrap(), stream.peer_addr().unwrap()).await
    }

    #[tokio::test]
    async fn own_program_is_trusted_once_it_has_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connected(&listener).await;
        let accepting = tokio::task::spawn_blocking(move || (listener.accept().unwrap(), listener));
        assert_eq!(check(TrustedUsers::OwnAndRoot, &stream).await, Ok(()));
        let _held = accepting.await.unwrap();
    }

    #[tokio::test]
    async fn connection_that_is_not_accepted_is_not_trusted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connected(&listener).await;
        assert_eq!(check(TrustedUsers::OwnAndRoot, &stream).await, Err(ForeignPeer::NotAccepted));
        assert_eq!(check(TrustedUsers::Any, &stream).await, Ok(()));
    }

    #[tokio::test]
    async fn plain_http_does_not_leave_this_machine() {
        let guard = Guard { trusted: TrustedUsers::Any };
        let (local, remote) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        assert_eq!(guard.check_addresses(local, remote).await, Err(ForeignPeer::Remote(remote)));
        assert!(Guard::of(&"https://127.0.0.1".parse().unwrap(), TrustedUsers::Any).is_none());
        assert!(Guard::of(&"http://127.0.0.1".parse().unwrap(), TrustedUsers::Any).is_some());
    }
}
