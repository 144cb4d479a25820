//! Makes the connections of one pool: over TCP, TLS or a Unix socket, to addresses that the policy allows.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Uri, uri::Parts};
use http_body_util::Full;
use hyper::{
    client::conn::{http1, http2},
    rt::{Read, Write},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use mcpctl_tls::ClientTls;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tower_service::Service;
use url::Url;

use crate::{
    AddressPolicy, TargetConfig,
    addresses::Resolver,
    connect_error::{self, BoxError, SendError},
    milestones,
};

/// How long sent data may stay unacknowledged before the connection is closed: a machine or a NAT that has lost the connection
/// does not respond at all. Well below `timeouts.response`, so that there is time for another connection.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// TCP keep-alive: the silence before the first probe, the interval between probes, and how many go unanswered before the
/// connection counts as dead.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
/// Pings on HTTP/2, whose connections are shared by requests and may go through proxies.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(15);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks a TCP connection by its addresses, this end's and the other's, e.g. which user the server runs as, before anything is
/// sent on it.
pub type PeerCheck =
    Arc<dyn Fn(SocketAddr, SocketAddr) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// A new connection, by its protocol.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub(crate) struct Connector {
    /// Scheme, host and port, without credentials.
    pub(crate) origin: Uri,
    /// The origin as the header `Host`.
    pub(crate) host: HeaderValue,
    dial: Dial,
    timeout: Duration,
    /// Checked again for each connection, because the addresses of this machine change.
    address: Option<(Arc<AddressPolicy>, Url)>,
    check: Option<PeerCheck>,
}

enum Dial {
    Socket(PathBuf),
    Tcp(Tcp),
    Tls(HttpsConnector<Tcp>),
}

/// Connects over TCP, below TLS where there is any.
#[derive(Clone)]
struct Tcp(HttpConnector<Resolver>);

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<TokioIo<TcpStream>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async move {
            let stream = connecting.await?;
            milestones::note(|reached| &mut reached.connected);
            Ok(stream)
        })
    }
}

impl Connector {
    /// The connector to a target; `check` is made on each of its connections.
    ///
    /// # Errors
    /// When the URL cannot be used, or TLS cannot be set up.
    pub(crate) fn new(
        target: &TargetConfig,
        policy: Option<&Arc<AddressPolicy>>,
        check: Option<PeerCheck>,
        tls: &ClientTls,
    ) -> Result<Self, SendError> {
        let url = &target.base_url;
        let host = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let origin =
            Uri::builder().scheme(url.scheme()).authority(authority.as_str()).path_and_query("/").build();
        let origin = origin.map_err(|error| SendError::Request(error.into()))?;
        let host = HeaderValue::try_from(authority).map_err(|error| SendError::Request(error.into()))?;
        let dial = match &target.socket {
            // Neither can be checked or encrypted; no target needs it.
            Some(_) if check.is_some() || url.scheme() == "https" => {
                return Err(SendError::Request("a Unix socket is for plain HTTP to a provider".into()));
            }
            Some(path) => Dial::Socket(path.clone()),
            None => {
                let port = policy.and_then(|policy| policy.own_port(url));
                let tcp = tcp(Resolver { policy: policy.cloned(), port }, target.timeouts.connect);
                match url.scheme() {
                    "https" => {
                        let tls = tls.config().map_err(|error| SendError::Connect(error.into()))?;
                        Dial::Tls(HttpsConnector::from((tcp, tls)))
                    }
                    "http" => Dial::Tcp(tcp),
                    _ => return Err(SendError::Request("a model server speaks http or https".into())),
                }
            }
        };
        Ok(Self {
            origin,
            host,
            dial,
            timeout: target.timeouts.connect,
            address: policy.map(|policy| (Arc::clone(policy), url.clone())),
            check,
        })
    }

    /// Connects: DNS, TCP, the check of the peer, and TLS, within one timeout.
    pub(crate) async fn connect(&self) -> Result<Sender, SendError> {
        match timeout(self.timeout, self.establish()).await {
            Ok(Ok(sender)) => {
                milestones::note(|reached| &mut reached.ready);
                Ok(sender)
            }
            // A name with one address has all the time for it.
            Ok(Err(error)) if connect_error::is_timeout(&*error) => Err(SendError::ConnectTimeout),
            Ok(Err(error)) => Err(SendError::Connect(error)),
            Err(_) => Err(SendError::ConnectTimeout),
        }
    }

    async fn establish(&self) -> Result<Sender, BoxError> {
        if let Some((policy, url)) = &self.address {
            policy.check_url(url)?;
        }
        match &self.dial {
            Dial::Socket(path) => http1(TokioIo::new(UnixStream::connect(path).await?)).await,
            Dial::Tcp(tcp) => {
                let stream = tcp.clone().call(self.origin.clone()).await?;
                self.check_peer(stream.inner()).await?;
                http1(stream).await
            }
            Dial::Tls(tls) => {
                let stream = tls.clone().call(self.origin.clone()).await?;
                if stream.connected().is_negotiated_h2() { http2(stream).await } else { http1(stream).await }
            }
        }
    }

    async fn check_peer(&self, stream: &TcpStream) -> Result<(), BoxError> {
        match &self.check {
            Some(check) => check(stream.local_addr()?, stream.peer_addr()?).await,
            None => Ok(()),
        }
    }

    /// The origin with the path of a request, as HTTP/2 needs it.
    pub(crate) fn absolute(&self, uri: Uri) -> Result<Uri, http::uri::InvalidUriParts> {
        let mut parts = self.origin.clone().into_parts();
        let Parts { path_and_query, .. } = uri.into_parts();
        parts.path_and_query = path_and_query;
        Uri::from_parts(parts)
    }
}

/// `timeout` is shared among the addresses of a name, so that a dead one leaves time for the others.
fn tcp(resolver: Resolver, timeout: Duration) -> Tcp {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(timeout));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    Tcp(tcp)
}

async fn http1(stream: impl Read + Write + Unpin + Send + 'static) -> Result<Sender, BoxError> {
    let (mut sender, connection) = http1::handshake(stream).await?;
    // Its errors are those of its requests.
    tokio::spawn(async { drop(connection.await) });
    sender.ready().await?;
    Ok(Sender::Http1(sender))
}

pub(crate) async fn http2(stream: impl Read + Write + Unpin + Send + 'static) -> Result<Sender, BoxError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_INTERVAL)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT);
    let (mut sender, connection) = builder.handshake(stream).await?;
    tokio::spawn(async { drop(connection.await) });
    sender.ready().await?;
    Ok(Sender::Http2(sender))
}
