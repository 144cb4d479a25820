//! Accepts connections at an address.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use futures::{FutureExt as _, future::BoxFuture};
use mcpctl_tls::ServerTls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener},
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    Address, BindError, Connections, Peer, Runtimes, Workload,
    connection::{self, Written},
    connections::Admitted,
    handshake::{self, Encrypted, Tls},
    runtimes::Placement,
    socket::Socket,
    socket_file,
    tcp::Tcp,
};

/// Connections that the kernel holds until they are accepted: enough for those that arrive while others are closed.
const BACKLOG: u32 = 4096;
/// Bytes of a response that the kernel buffers: enough for full speed over a long distance, and few enough to notice soon
/// that the peer takes nothing.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a connection that are looked at to place it: a method, and the longest path of ours.
const FIRST_BYTES: usize = 256;

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: ListeningSocket,
    address: Address,
    runtimes: Option<Runtimes>,
    tls: Option<Tls>,
}

#[derive(Debug)]
enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds an address. A socket file that no program listens on any more is replaced.
    ///
    /// # Errors
    /// When another program listens there, or this user may not.
    pub async fn bind(address: Address) -> Result<Self, BindError> {
        let failed = |source| BindError { address: address.clone(), source };
        match &address {
            Address::Tcp(wanted) => {
                let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
                let listening = socket.and_then(|socket| {
                    socket.set_reuseaddr(true)?;
                    // Accepted sockets inherit it.
                    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
                    socket.bind(*wanted)?;
                    socket.listen(BACKLOG)
                });
                let socket = listening.map_err(failed)?;
                let address = Address::Tcp(socket.local_addr().map_err(failed)?);
                Ok(Self { socket: ListeningSocket::Tcp(socket), address, runtimes: None, tls: None })
            }
            Address::Unix(path) => {
                socket_file::remove_dead_socket(path).await.map_err(failed)?;
                let socket = UnixListener::bind(path).map_err(failed)?;
                let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(path, private).map_err(failed)?;
                Ok(Self { socket: ListeningSocket::Unix(socket), address, runtimes: None, tls: None })
            }
        }
    }

    /// Serves each request by the runtime of its workload; without it, by the runtime that [`Listener::serve`] runs at.
    #[must_use]
    pub fn placed_by(mut self, runtimes: Runtimes) -> Self {
        self.runtimes = Some(runtimes);
        self
    }

    /// Serves over TLS alone, where it is given.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Arc<ServerTls>>) -> Self {
        self.tls = tls;
        self
    }

    /// The bound address, with the actual port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves until `draining` turns true, then waits at most `drain` for requests in flight, and cuts the rest. `connections` is one table
    /// for all listeners of the process.
    pub async fn serve(
        self,
        routes: Router,
        connections: Arc<Connections>,
        draining: watch::Receiver<bool>,
        drain: Duration,
    ) {
        // Every connection holds a sender, so that the channel closes when all have ended.
        let (open, mut ended) = mpsc::channel::<()>(1);
        let mut shutdown = draining.clone();
        let service = Service { routes, draining, open };
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&service, &connections) => accepted,
                _ = shutdown.wait_for(|draining| *draining) => break,
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
        drop((self, service));
        tokio::select! {
            _ = ended.recv() => {}
            () = tokio::time::sleep(drain) => {
                tracing::warn!("requests were still in flight at the end of the drain time");
                connections.cut().await;
            }
        }
    }

    async fn accept(&self, service: &Service, connections: &Arc<Connections>) -> io::Result<()> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                let peer = Peer::Tcp(address);
                // Drops the connection if authenticated callers use all others.
                let Some(admitted) = connections.admit(peer).await else { return Ok(()) };
                // Tokens are small, and a delay is noticeable. A socket without the option is served too.
                let _ = stream.set_nodelay(true);
                let service = service.clone();
                match (&self.tls, &self.runtimes) {
                    (Some(tls), runtimes) => {
                        let (tls, runtimes) = (Arc::clone(tls), runtimes.clone());
                        tokio::spawn(encrypt(stream, peer, admitted, service, tls, runtimes));
                    }
                    (None, None) => drop(tokio::spawn(service.serve(stream, peer, admitted, None))),
                    (None, Some(runtimes)) => {
                        tokio::spawn(place(stream, peer, admitted, service, runtimes.clone()));
                    }
                }
            }
            ListeningSocket::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                if !socket_file::is_own_user(&stream) {
                    return Ok(());
                }
                let Some(admitted) = connections.admit(Peer::Unix).await else { return Ok(()) };
                tokio::spawn(service.clone().serve(stream, Peer::Unix, admitted, None));
            }
        }
        Ok(())
    }
}

/// What connections are served with.
#[derive(Clone)]
struct Service {
    routes: Router,
    draining: watch::Receiver<bool>,
    open: mpsc::Sender<()>,
}

impl Service {
    fn serve<S>(
        self,
        stream: S,
        peer: Peer,
        admitted: Admitted,
        placement: Option<Arc<Placement>>,
    ) -> BoxFuture<'static, ()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (socket, written) = recorded(stream, &admitted);
        self.serve_recorded(socket, written, peer, admitted, placement)
    }

    /// As [`Service::serve`], of a stream whose socket records its progress already.
    fn serve_recorded<S>(
        self,
        stream: S,
        written: Written,
        peer: Peer,
        admitted: Admitted,
        placement: Option<Arc<Placement>>,
    ) -> BoxFuture<'static, ()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { routes, draining, open } = self;
        let served = connection::serve(stream, written, peer, admitted, routes, draining, placement);
        served.map(move |()| drop(open)).boxed()
    }
}

/// A socket that records the progress of its writes, and the record.
fn recorded<S>(stream: S, admitted: &Admitted) -> (Socket<S>, Written) {
    let written = Written::default();
    let least = admitted.connection.limits().least_rate();
    (Socket::new(stream, Arc::clone(&written), least), written)
}

/// Runs a step of a connection that has no request yet. `None` where the connection is closed before that: to make room, at the
/// shutdown, and when its time is over.
async fn unless_closed<T>(
    step: impl Future<Output = T>,
    admitted: &Admitted,
    draining: &mut watch::Receiver<bool>,
    deadline: Instant,
) -> Option<T> {
    tokio::select! {
        done = step => Some(done),
        () = admitted.activity.close.notified() => None,
        _ = draining.wait_for(|draining| *draining) => None,
        () = tokio::time::sleep_until(deadline) => None,
    }
}

fn deadline(admitted: &Admitted) -> Instant {
    Instant::now() + admitted.connection.limits().request_head.0
}

/// Waits for the first bytes of a connection, and registers it with the runtime of their workload.
async fn place(stream: TcpStream, peer: Peer, admitted: Admitted, mut service: Service, runtimes: Runtimes) {
    let mut bytes = [0; FIRST_BYTES];
    let deadline = deadline(&admitted);
    let peeked = unless_closed(stream.peek(&mut bytes), &admitted, &mut service.draining, deadline).await;
    let Some(Ok(peeked)) = peeked else { return };
    let workload = runtimes.of_first_bytes(bytes.get(..peeked).unwrap_or_default());
    let placement = Placement::new(runtimes.clone(), workload);
    if workload == Workload::Management {
        let served = service.serve(stream, peer, admitted, Some(Arc::clone(&placement)));
        return placement.spawn(served);
    }
    let Ok(stream) = stream.into_std() else { return };
    runtimes.of(workload).spawn(async move {
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let served = service.serve(stream, peer, admitted, Some(Arc::clone(&placement)));
        placement.spawn(served);
    });
}

/// Does the handshake of a connection, and serves it. Until its first request it has the time of a connection without one.
async fn encrypt(
    stream: TcpStream,
    peer: Peer,
    admitted: Admitted,
    mut service: Service,
    tls: Tls,
    runtimes: Option<Runtimes>,
) {
    let deadline = deadline(&admitted);
    let begun = handshake::begins_with_tls(&stream);
    let begun = unless_closed(begun, &admitted, &mut service.draining, deadline).await;
    let Some(Ok(is_tls)) = begun else { return };
    let (socket, written) = recorded(Tcp::new(stream), &admitted);
    if !is_tls {
        let refused = handshake::refuse_plain(socket);
        unless_closed(refused, &admitted, &mut service.draining, deadline).await;
        return;
    }
    // Boxed, because the state of a handshake is large and most connections are past it.
    let handshake = handshake::handshake(socket, &tls).boxed();
    let done = unless_closed(handshake, &admitted, &mut service.draining, deadline).await;
    let Some(Some(stream)) = done else { return };
    match runtimes {
        None => service.serve_recorded(stream, written, peer, admitted, None).await,
        Some(runtimes) => place_encrypted(stream, written, peer, admitted, service, runtimes),
    }
}

/// Registers a connection with the runtime of inference, whose requests are the most; the first other one moves it. Handshakes do not
/// run there: their cost is known before the caller is.
fn place_encrypted(
    mut stream: Encrypted,
    written: Written,
    peer: Peer,
    admitted: Admitted,
    service: Service,
    runtimes: Runtimes,
) {
    let runtime = runtimes.of(Workload::Inference).clone();
    let placement = Placement::new(runtimes, Workload::Inference);
    runtime.spawn(async move {
        if stream.get_mut().0.inner_mut().register_here().is_err() {
            return;
        }
        let served = service.serve_recorded(stream, written, peer, admitted, Some(Arc::clone(&placement)));
        placement.spawn(served);
    });
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
    async fn port_in_use_is_reported_with_a_hint() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = Listener::bind(first.address().clone()).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on `127.0.0.1:"), "{error}");
        assert!(error.hint().contains("another program"));
    }

    #[tokio::test]
    async fn request_in_flight_ends_before_the_server() {
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
        // New connections are refused from now on; the request in flight still gets its response.
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
    async fn request_that_outlasts_the_drain_time_is_cut() {
        let started = Arc::new(Notify::new());
        let handler = {
            let started = Arc::clone(&started);
            move || async move {
                started.notify_one();
                std::future::pending::<()>().await;
            }
        };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Address::Tcp(address) = listener.address().clone() else { panic!() };
        let (drain, draining) = watch::channel(false);
        let (routes, connections) = (Router::new().route("/", axum::routing::get(handler)), connections());
        let server = listener.serve(routes, Arc::clone(&connections), draining, Duration::from_millis(1));
        let server = tokio::spawn(server);
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        started.notified().await;
        drain.send_replace(true);
        server.await.unwrap();
        assert_eq!(Arc::strong_count(&connections), 1, "no connection is left");
        assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0, "closed without an answer");
    }

    #[tokio::test]
    async fn socket_file_is_served_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(Address::Unix(path.clone())).await.unwrap();
        let taken = Listener::bind(Address::Unix(path.clone())).await;
        assert!(taken.is_err(), "a live socket is not replaced");

        let routes = Router::new().route("/", axum::routing::get(|| async { "hello" }));
        let (drain, draining) = watch::channel(false);
        let server = tokio::spawn(listener.serve(routes, connections(), draining, Duration::from_secs(10)));
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        // A silent connection is closed, as on TCP.
        let mut silent = UnixStream::connect(&path).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed");
        drain.send_replace(true);
        server.await.unwrap();
        assert!(!path.exists());
    }

    /// The names of the threads that serve requests for `paths`, sent one after the other on one connection.
    async fn threads_of(address: std::net::SocketAddr, paths: &[&str]) -> Vec<String> {
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut names = Vec::new();
        for path in paths {
            client
                .write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b".") {
                assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "closed");
            }
            let answer = String::from_utf8(answer).unwrap();
            names.push(answer.rsplit_once("\r\n").unwrap().1.trim_end_matches('.').to_owned());
        }
        names
    }

    #[tokio::test]
    async fn connection_moves_to_the_runtime_of_each_request() {
        let thread = || async { format!("{}.", std::thread::current().name().unwrap_or_default()) };
        let routes =
            Router::new().route("/a", axum::routing::get(thread)).route("/v1/b", axum::routing::get(thread));
        let workload = |path: &str| match path.starts_with("/v1/") {
            true => Workload::Inference,
            false => Workload::Management,
        };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Address::Tcp(address) = listener.address().clone() else { panic!() };
        let listener = listener.placed_by(Runtimes::start(workload).unwrap());
        let (drain, draining) = watch::channel(false);
        let server = tokio::spawn(listener.serve(routes, connections(), draining, Duration::from_secs(10)));

        let own = std::thread::current().name().unwrap().to_owned();
        let expected = |paths: &[&str]| -> Vec<String> {
            paths
                .iter()
                .map(|path| if *path == "/a" { own.clone() } else { "inference".to_owned() })
                .collect()
        };
        for paths in [["/a", "/v1/b", "/a", "/a", "/v1/b"], ["/v1/b", "/v1/b", "/a", "/v1/b", "/a"]] {
            assert_eq!(threads_of(address, &paths).await, expected(&paths));
        }
        // A connection that brings nothing is closed after the time for a head, before it was placed too.
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed");
        // A drain ends one that has not been placed.
        let mut unplaced = TcpStream::connect(address).await.unwrap();
        drain.send_replace(true);
        assert_eq!(unplaced.read(&mut [0]).await.unwrap_or_default(), 0, "closed");
        server.await.unwrap();
    }
}
