//! Listening, the same in both daemons: connections with bounded patience, and an end that lets running requests
//! finish. What is served is not decided here.
//!
//! `axum::serve` has no time limit for request heads, so connections are served through hyper-util.

mod limits;
mod peer;
mod trace;

use std::{fmt, io, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
};

pub use limits::Limits;
pub use peer::Peer;
pub use trace::{REQUEST_ID, belonging, request_id, trace};

/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// How often an HTTP/2 connection is asked whether it still lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Where to listen: `127.0.0.1:3100`, or `unix:/path/to/socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket file, for this user alone.
    Unix(PathBuf),
}

/// A text that is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address to listen on; write e.g. `127.0.0.1:3100` or `unix:/run/user/1000/mcp.sock`"
)]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(NotAnAddress(text.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| NotAnAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`: {source}")]
pub struct BindError {
    address: Address,
    source: io::Error,
}

impl BindError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; choose another address or end it",
            io::ErrorKind::PermissionDenied => "this user may not listen there; choose another address",
            _ => "choose an address of this machine",
        }
    }
}

/// Something that takes connections.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes an address. A socket file that nobody answers at any more is replaced.
    ///
    /// # Errors
    /// When the address is taken or may not be used.
    pub async fn bind(address: Address) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.clone(), source };
        match &address {
            Address::Tcp(wanted) => {
                let socket = TcpListener::bind(wanted).await.map_err(failed)?;
                let address = Address::Tcp(socket.local_addr().map_err(failed)?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Address::Unix(path) => {
                if path.exists() {
                    if tokio::net::UnixStream::connect(path).await.is_ok() {
                        return Err(failed(io::ErrorKind::AddrInUse.into()));
                    }
                    std::fs::remove_file(path).map_err(failed)?;
                }
                let socket = UnixListener::bind(path).map_err(failed)?;
                let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(path, private).map_err(failed)?;
                Ok(Self { socket: Socket::Unix(socket), address })
            }
        }
    }

    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until `draining` turns true, then lets running requests end for at most `drain`.
    pub async fn serve(self, routes: Router, mut draining: watch::Receiver<bool>, drain: Duration) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&routes, &graceful) => accepted,
                _ = draining.wait_for(|draining| *draining) => break,
            };
            if let Err(error) = accepted {
                // Out of file descriptors, most likely: what runs now will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
        drop(self);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = tokio::time::sleep(drain) => {
                tracing::warn!("requests still ran when the time to drain was over");
            }
        }
    }

    async fn accept(&self, routes: &Router, graceful: &GracefulShutdown) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Tokens are small and late ones are felt; a socket that refuses is served all the same.
                let _ = stream.set_nodelay(true);
                connection(stream, Peer::Tcp(address), routes, graceful);
            }
            Socket::Unix(socket) => connection(socket.accept().await?.0, Peer::Unix, routes, graceful),
        }
        Ok(())
    }
}

fn connection<S>(stream: S, peer: Peer, routes: &Router, graceful: &GracefulShutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(KEEP_ALIVE));
    let service = TowerToHyperService::new(routes.clone().layer(axum::Extension(peer)));
    let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "a connection ended early");
        }
    });
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn asked_to_end() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpStream, UnixStream},
        sync::Notify,
    };

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    #[test]
    fn addresses_read_and_print() {
        for text in ["127.0.0.1:3100", "[::1]:0", "unix:/tmp/s"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "3100", "localhost:1", "unix:", "unix:relative"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_said_with_a_hint() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = Listener::bind(first.address().clone()).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on `127.0.0.1:"), "{error}");
        assert!(error.hint().contains("another program"));
    }

    #[tokio::test]
    async fn a_running_request_ends_before_the_server_does() {
        let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let routes = {
            let (started, release) = (Arc::clone(&started), Arc::clone(&release));
            let handler = move || async move {
                started.notify_one();
                release.notified().await;
                "done"
            };
            Router::new().route("/", axum::routing::get(handler))
        };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Address::Tcp(address) = listener.address().clone() else { panic!() };
        let (drain, draining) = watch::channel(false);
        let server = tokio::spawn(listener.serve(routes, draining, Duration::from_secs(10)));

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        started.notified().await;
        drain.send_replace(true);
        // No new ones from now on; the old one still gets its answer.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!server.is_finished());
        release.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_file_serves_and_a_dead_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(Address::Unix(path.clone())).await.unwrap();
        let taken = Listener::bind(Address::Unix(path.clone())).await;
        assert!(taken.is_err(), "a live socket is not taken over");

        let routes = Router::new().route("/", axum::routing::get(|| async { "hello" }));
        let (drain, draining) = watch::channel(false);
        let server = tokio::spawn(listener.serve(routes, draining, Duration::from_secs(10)));
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        drain.send_replace(true);
        server.await.unwrap();
        assert!(!path.exists());
    }
}
