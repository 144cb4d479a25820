//! One connection, from its first byte to its last.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Response, Version, header},
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::Instant,
};

use crate::{
    Limits, Peer,
    answer::{AnswerBody, Answers},
    connections::{Admitted, Connection},
    progress::{LeastRate, Progress},
    runtimes::{Placement, Suspend},
};

/// RFC 2068, section 19.7.1.1. Clients read its `timeout`, in seconds.
const KEEP_ALIVE_HEADER: HeaderName = HeaderName::from_static("keep-alive");
/// How often an HTTP/2 connection is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Bytes of request bodies that an HTTP/2 peer may send before a handler reads them.
const HTTP2_WINDOW: u32 = 256 * 1024;
const HTTP2_STREAM_WINDOW: u32 = 128 * 1024;
/// An idle connection is kept this much longer than announced: a request that was sent in time may still be on its way.
const IDLE_GRACE: Duration = Duration::from_secs(1);
/// How long an idle connection may take for a graceful shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Checks per shortest limit.
const CHECKS_PER_LIMIT: u32 = 4;

/// The progress of the writes to a connection, shared between its socket and its checks.
pub(crate) type Written = Arc<Mutex<Progress>>;

/// Serves one connection until it ends, is idle or stalled for too long, or is closed to make room. The socket below `stream` records
/// its progress in `written`.
pub(crate) async fn serve<S>(
    stream: S,
    written: Written,
    peer: Peer,
    admitted: Admitted,
    routes: Router,
    mut draining: watch::Receiver<bool>,
    placement: Option<Arc<Placement>>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = admitted.connection.limits().clone();
    let least = limits.least_rate();
    let answers = admitted.activity.answers.clone();
    let socket = TokioIo::new(stream);
    let service = Service {
        routes: TowerToHyperService::new(routes),
        peer,
        connection: admitted.connection.clone(),
        answers: answers.clone(),
        least,
        draining: draining.clone(),
        placement,
    };
    let builder = builder(&limits);
    let mut served = std::pin::pin!(builder.serve_connection(socket, service));
    let connection = &admitted.connection;
    let checks = Checks { limits: &limits, least, connection, answers: &answers, written: &written };
    let mut ending = None;
    let mut drained = false;
    loop {
        let next = checks.next(Instant::now());
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended early");
                }
                return;
            }
            () = admitted.activity.close.notified() => {
                tracing::debug!("a connection was closed: for another one, or because the daemon ends");
                return;
            }
            _ = draining.wait_for(|draining| *draining), if !drained => {
                drained = true;
                served.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep_until(next) => {
                let now = Instant::now();
                if ending.is_some_and(|ending| now >= ending) {
                    return;
                }
                match checks.verdict(now) {
                    Verdict::Continue => {}
                    Verdict::Idle => {
                        // HTTP/2 peers learn which requests were not seen; an HTTP/1 connection ends at once.
                        served.as_mut().graceful_shutdown();
                        ending.get_or_insert(now + SHUTDOWN_TIMEOUT);
                    }
                    Verdict::Close(reason) => {
                        tracing::debug!(reason, "a connection was closed");
                        return;
                    }
                }
            }
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let head_bytes = limits.head_bytes.as_u64();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // `Checks` bounds the time for a head, in both protocols and also for a connection without a first byte.
    let http1 = usize::try_from(head_bytes).unwrap_or(usize::MAX);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(http1);
    let http2 = u32::try_from(head_bytes).unwrap_or(u32::MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING_INTERVAL))
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(http2)
        .initial_connection_window_size(HTTP2_WINDOW)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .max_send_buf_size(http1);
    builder
}

/// The limits of a connection, and its state.
struct Checks<'a> {
    limits: &'a Limits,
    least: LeastRate,
    connection: &'a Connection,
    answers: &'a Answers,
    written: &'a Mutex<Progress>,
}

enum Verdict {
    Continue,
    Idle,
    Close(&'static str),
}

impl Checks<'_> {
    /// When to check again: at the deadline of a connection without a request, and often enough to notice a stalled one.
    fn next(&self, now: Instant) -> Instant {
        let shortest = self.least.window.min(self.limits.idle.0).min(self.limits.request_head.0);
        let check = now + shortest / CHECKS_PER_LIMIT;
        match self.quiet_deadline() {
            Some(deadline) if deadline > now => deadline.min(check),
            _ => check,
        }
    }

    fn quiet_deadline(&self) -> Option<Instant> {
        let since = self.answers.quiet_since()?;
        Some(match self.answers.any_request() {
            true => since + self.limits.idle_of(self.connection.is_authenticated()) + IDLE_GRACE,
            false => since + self.limits.request_head.0,
        })
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let cut = self.answers.cut_stalled(now, self.least);
        if cut > 0 {
            tracing::debug!(cut, "dropped responses that the peer does not take");
            // A reverse proxy sends the requests of many callers on one connection. One without an authenticated request
            // is closed.
            if !self.connection.is_authenticated() {
                return Verdict::Close("the peer does not take its answers");
            }
        }
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_stalled(now, self.least) {
            return Verdict::Close("the peer does not take what is written");
        }
        match self.quiet_deadline() {
            // The end of a response may still be in the buffer.
            Some(deadline) if now >= deadline && !written.is_waiting() => match self.answers.any_request() {
                true => Verdict::Idle,
                false => Verdict::Close("no request arrived in time"),
            },
            _ => Verdict::Continue,
        }
    }
}

/// The routes, and the facts about the connection that requests need.
struct Service {
    routes: TowerToHyperService<Router>,
    peer: Peer,
    connection: Connection,
    answers: Answers,
    least: LeastRate,
    draining: watch::Receiver<bool>,
    placement: Option<Arc<Placement>>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = self.answers.begin();
        request.extensions_mut().insert(self.peer);
        request.extensions_mut().insert(self.connection.clone());
        let (answers, least) = (self.answers.clone(), self.least);
        let http1 = request.version() < Version::HTTP_2;
        let stays = request.version() == Version::HTTP_11 && !requests_close(request.headers());
        let (connection, draining) = (self.connection.clone(), self.draining.clone());
        let read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let request = request.map(|inner| RequestBody { inner, read: Arc::clone(&read) });
        let moves =
            http1 && self.placement.as_ref().is_some_and(|placement| placement.turn_to(request.uri().path()));
        let answer = hyper::service::Service::call(&self.routes, request);
        let watched = move |mut response: Response<_>| {
            // hyper closes a connection with an unread body. Without the header a client may send its next request on it.
            if http1 && !read.load(Ordering::Relaxed) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            } else if stays && !*draining.borrow() {
                announce_idle_timeout(&connection, response.headers_mut());
            }
            response.map(|body| answers.watch(body, in_flight, least))
        };
        let answer = answer.map(|answer| answer.map(watched));
        if moves { Suspend::default().then(|()| answer).boxed() } else { answer.boxed() }
    }
}

fn requests_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Announces how long the connection may be idle, so that the client's pool closes it first.
fn announce_idle_timeout(connection: &Connection, headers: &mut HeaderMap) {
    let idle = connection.limits().idle_of(connection.is_authenticated()).as_secs();
    if idle == 0 || headers.contains_key(header::CONNECTION) {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(format!("timeout={idle}")) {
        headers.insert(KEEP_ALIVE_HEADER, value);
    }
}

/// The body of a request, with a record of whether it was read to its end.
struct RequestBody {
    inner: Incoming,
    read: Arc<AtomicBool>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.inner.is_end_stream() {
            self.read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
