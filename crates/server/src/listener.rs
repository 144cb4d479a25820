//! Takes connections at an address.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket, UnixListener},
    sync::{mpsc, watch},
};

use crate::{Address, BindError, Connections, Peer, connection, socket_file};

/// Connections that the kernel keeps until they are accepted: as many as may arrive while others are closed.
const BACKLOG: u32 = 4096;
/// What the kernel keeps of an answer that the peer has not taken: enough for a long way at full speed, little enough to
/// notice soon that nothing is taken.
const SEND_BUFFER: u32 = 128 * 1024;
/// How long to wait where a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
                let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
                let listening = socket.and_then(|socket| {
                    socket.set_reuseaddr(true)?;
                    // Accepted sockets inherit it.
                    socket.set_send_buffer_size(SEND_BUFFER)?;
                    socket.bind(*wanted)?;
                    socket.listen(BACKLOG)
                });
                let socket = listening.map_err(failed)?;
                let address = Address::Tcp(socket.local_addr().map_err(failed)?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Address::Unix(path) => {
                socket_file::make_way(path).await.map_err(failed)?;
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

    /// Serves until `draining` turns true, then lets running requests end for at most `drain`. `connections` is one
    /// table for all listeners of the process.
    pub async fn serve(
        self,
        routes: Router,
        connections: Arc<Connections>,
        draining: watch::Receiver<bool>,
        drain: Duration,
    ) {
        // Every connection holds a sender, so that the channel closes when all have ended.
        let (open, mut ended) = mpsc::channel::<()>(1);
        let mut asked = draining.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&routes, &connections, &draining, &open) => accepted,
                _ = asked.wait_for(|draining| *draining) => break,
            };
            if let Err(error) = accepted {
                // Out of file descriptors, most likely.
                tracing::warn!(%error, "a connection could not be accepted");
                connections.relieve();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
        drop((self, open));
        tokio::select! {
            _ = ended.recv() => {}
            () = tokio::time::sleep(drain) => {
                tracing::warn!("requests still ran when the time to drain was over");
            }
        }
    }

    async fn accept(
        &self,
        routes: &Router,
        connections: &Arc<Connections>,
        draining: &watch::Receiver<bool>,
        open: &mpsc::Sender<()>,
    ) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                let peer = Peer::Tcp(address);
                // A stream that is dropped is a refusal: all others are in use by authenticated callers.
                let Some(admitted) = connections.admit(peer).await else { return Ok(()) };
                // Tokens are small and late ones are felt; a socket that refuses is served all the same.
                let _ = stream.set_nodelay(true);
                let served = connection::serve(stream, peer, admitted, routes.clone(), draining.clone());
                spawn(served, open);
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                if !socket_file::is_own_user(&stream) {
                    return Ok(());
                }
                let Some(admitted) = connections.admit(Peer::Unix).await else { return Ok(()) };
                let served =
                    connection::serve(stream, Peer::Unix, admitted, routes.clone(), draining.clone());
                spawn(served, open);
            }
        }
        Ok(())
    }
}

fn spawn(served: impl Future<Output = ()> + Send + 'static, open: &mpsc::Sender<()>) {
    let open = open.clone();
    tokio::spawn(async move {
        served.await;
        drop(open);
    });
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be listened to.
pub async fn shutdown_signal() -> io::Result<()> {
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
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpStream, UnixStream},
        sync::Notify,
    };

    use super::*;

    fn connections() -> Arc<Connections> {
        let request_head = mcpctl_api::HumanDuration(Duration::from_millis(300));
        Connections::new(crate::Limits { request_head, ..crate::Limits::default() }, 1024)
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

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
        let server = tokio::spawn(listener.serve(routes, connections(), draining, Duration::from_secs(10)));

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
        let server = tokio::spawn(listener.serve(routes, connections(), draining, Duration::from_secs(10)));
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        // Silence is bounded here as it is on TCP.
        let mut silent = UnixStream::connect(&path).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed");
        drain.send_replace(true);
        server.await.unwrap();
        assert!(!path.exists());
    }
}
