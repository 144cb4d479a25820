//! The connections to one server. One of HTTP/1.1 is taken by a request and comes back with the last byte of its response; one of
//! HTTP/2 is shared.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::time::{Instant, sleep};

use crate::{
    connect_error::SendError,
    connector::{Connector, Sender},
};

/// How long an idle connection is kept: shorter than mcpd and most proxies keep theirs (60 s and more). When a server closes
/// earlier (uvicorn, under vLLM: 5 s), the client notices while the connection is idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

pub(crate) struct Pool {
    pub(crate) connector: Connector,
    idle: Mutex<Idle>,
}

/// The connections that no request has to itself.
#[derive(Default)]
struct Idle {
    /// The one that was used last comes last. The first is used next: bytes that its server sends without a request, as a second
    /// answer to the last one, then have the most time to arrive and close it.
    http1: VecDeque<(http1::SendRequest<Full<Bytes>>, Instant)>,
    /// The fewest of them since the last look of the task that closes connections: so many were not needed.
    fewest: usize,
    http2: Option<(http2::SendRequest<Full<Bytes>>, Instant)>,
    /// Whether a task waits to close those that are idle for too long.
    is_reaped: bool,
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self { connector, idle: Mutex::default() })
    }

    /// An idle connection or a new one, and whether another request was sent on it before.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<(Sender, bool), SendError> {
        let idle = self.lock().take();
        match idle {
            Some(sender) => Ok((sender, true)),
            // Boxed, so that requests that need no new connection do not move the future.
            None => Ok((self.share(Box::pin(self.connector.connect()).await?), false)),
        }
    }

    /// Shares a new connection of HTTP/2; where another request has connected meanwhile, its connection is used.
    fn share(self: &Arc<Self>, sender: Sender) -> Sender {
        let Sender::Http2(new) = sender else { return sender };
        let mut idle = self.lock();
        let shared = match idle.http2.take() {
            Some((shared, _)) if shared.is_ready() => shared,
            _ => new,
        };
        idle.http2 = Some((shared.clone(), Instant::now()));
        self.reap(&mut idle);
        Sender::Http2(shared)
    }

    /// Takes a connection back whose response was read to its end.
    pub(crate) fn put_back(self: &Arc<Self>, sender: http1::SendRequest<Full<Bytes>>) {
        if !sender.is_closed() {
            let mut idle = self.lock();
            idle.http1.push_back((sender, Instant::now()));
            self.reap(&mut idle);
        }
    }

    /// Closes connections that are idle for too long, until none is left.
    fn reap(self: &Arc<Self>, idle: &mut Idle) {
        if std::mem::replace(&mut idle.is_reaped, true) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(IDLE_TIMEOUT).await;
                let Some(pool) = Weak::upgrade(&pool) else { return };
                if pool.lock().close_expired() {
                    return;
                }
            }
        });
    }

    /// A panic cannot leave the lists half-written, so a poisoned lock is used like any other.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn take(&mut self) -> Option<Sender> {
        if let Some((sender, used)) = &mut self.http2 {
            if sender.is_ready() && used.elapsed() < IDLE_TIMEOUT {
                *used = Instant::now();
                return Some(Sender::Http2(sender.clone()));
            }
            self.http2 = None;
        }
        // Those whose task has yet to read the end of the last response, or to send the rest of its request.
        let mut busy = Vec::new();
        let found = loop {
            match self.http1.pop_front() {
                Some((sender, since)) if since.elapsed() >= IDLE_TIMEOUT || sender.is_closed() => {}
                Some((sender, _)) if sender.is_ready() => break Some(Sender::Http1(sender)),
                Some(other) => busy.push(other),
                None => break None,
            }
        };
        for other in busy.into_iter().rev() {
            self.http1.push_front(other);
        }
        self.fewest = self.fewest.min(self.http1.len());
        found
    }

    /// Closes what has expired or was not needed since the last call; returns whether nothing is left.
    fn close_expired(&mut self) -> bool {
        let now = Instant::now();
        let lives = |since: &Instant| now.duration_since(*since) < IDLE_TIMEOUT;
        self.http1.drain(..self.fewest.min(self.http1.len()));
        self.http1.retain(|(sender, since)| lives(since) && !sender.is_closed());
        self.fewest = self.http1.len();
        self.http2.take_if(|(sender, used)| !lives(used) || sender.is_closed());
        self.is_reaped = !self.http1.is_empty() || self.http2.is_some();
        !self.is_reaped
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::ready};

    use http::{Request, Response};
    use hyper::{body::Incoming, server, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{Api, AttemptTimeouts, TargetConfig, UpstreamKind, connection::Connection, connector};

    /// A server that answers with the address that was requested, and how many connections it has accepted.
    async fn http2_server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(async |request: Request<Incoming>| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(request.uri().to_string()))))
                });
                let builder = server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), answer));
            }
        });
        address
    }

    fn pool(address: &str) -> Arc<Pool> {
        let target = TargetConfig {
            base_url: format!("http://{address}").parse().unwrap(),
            socket: None,
            model: None,
            credential: None,
            timeouts: AttemptTimeouts::default(),
            api: Api::default(),
            kind: UpstreamKind::Provider,
        };
        Pool::new(Connector::new(&target, None, None, &mcpctl_tls::ClientTls::default()).unwrap())
    }

    async fn http2_sender(address: &str) -> Sender {
        connector::http2(TokioIo::new(TcpStream::connect(address).await.unwrap())).await.unwrap()
    }

    #[tokio::test]
    async fn http2_connection_is_shared_and_gets_whole_addresses() {
        let address = http2_server().await;
        let pool = pool(&address);
        pool.share(http2_sender(&address).await);
        let (first, second) = (Connection::of(&pool).await.unwrap(), Connection::of(&pool).await.unwrap());
        assert!(first.is_reused && second.is_reused);
        for connection in [first, second] {
            let request = Request::builder().uri("/v1/models?a=b").body(Full::default()).unwrap();
            let mut body = connection.send(request).await.unwrap().into_body();
            let answered = body.data().await.unwrap().unwrap();
            assert_eq!(answered, format!("http://{address}/v1/models?a=b"));
        }
        // Of two that were made at the same time, one is kept.
        pool.share(http2_sender(&address).await);
        assert!(pool.lock().http1.is_empty() && pool.lock().http2.is_some());
    }

    /// A server that answers with the number of the connection.
    async fn numbering_server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            for number in 0_usize.. {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = service_fn(move |_: Request<Incoming>| {
                    let number = Full::new(Bytes::from(number.to_string()));
                    ready(Ok::<_, Infallible>(Response::new(number)))
                });
                tokio::spawn(
                    server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
                );
            }
        });
        address
    }

    #[tokio::test]
    async fn connection_that_is_idle_longest_is_used_next() {
        let pool = pool(&numbering_server().await);
        let used = async |connection: Connection| {
            let request = Request::builder().uri("/").body(Full::default()).unwrap();
            let mut body = connection.send(request).await.unwrap().into_body();
            let mut number = Vec::new();
            while let Some(piece) = body.data().await {
                number.extend(piece.unwrap());
            }
            String::from_utf8(number).unwrap()
        };
        let (first, second) = (Connection::of(&pool).await.unwrap(), Connection::of(&pool).await.unwrap());
        let numbers = [used(first).await, used(second).await];
        for number in [&numbers[0], &numbers[1], &numbers[0]] {
            assert_eq!(&used(Connection::of(&pool).await.unwrap()).await, number);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_a_peak_has_left_are_closed() {
        let pool = pool(&numbering_server().await);
        for _ in 0..3 {
            let Sender::Http1(sender) = pool.connector.connect().await.unwrap() else { panic!("HTTP/2") };
            pool.put_back(sender);
        }
        // Each in turn, so that none of them expires.
        for _ in 0..8 {
            sleep(IDLE_TIMEOUT / 3).await;
            let (Sender::Http1(sender), true) = pool.take().await.unwrap() else { panic!("a new one") };
            pool.put_back(sender);
        }
        assert_eq!(pool.lock().http1.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_are_closed_after_a_while() {
        let address = http2_server().await;
        let pool = pool(&address);
        pool.share(http2_sender(&address).await);
        sleep(Duration::from_secs(1)).await;
        assert!(pool.take().await.unwrap().1);
        // After one look of the task that closes them, and before the next.
        sleep(IDLE_TIMEOUT + Duration::from_secs(30)).await;
        assert!(pool.lock().take().is_none());
        sleep(IDLE_TIMEOUT).await;
        assert!(pool.lock().http2.is_none() && !pool.lock().is_reaped);
    }
}
