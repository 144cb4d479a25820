//! The agent's Unix socket, by which our own programs reach the agent of their own user: only this user can create the path,
//! and the kernel reports which user listens there. No secret is needed, and none is sent.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::{
    client::conn::http1,
    header::{HOST, HeaderValue},
    http::{Request, Uri, uri::PathAndQuery},
};
use hyper_util::rt::TokioIo;
use mcpctl_owner::{dir, own_uid, user_name};
use reqwest::{Body, Response};
use tokio::{net::UnixStream, time::timeout};

/// Longest path of a socket in bytes: `sun_path` of Linux has 108 with the final zero, of macOS 104.
pub(crate) const MAX_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The socket of one agent.
#[derive(Debug, Clone)]
pub(crate) struct AgentSocket {
    path: PathBuf,
    connect: Duration,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("it is not there")]
    Missing,
    #[error("{0}")]
    Path(#[from] mcpctl_owner::PathError),
    #[error("it belongs to user {}", user_name(*.0))]
    Foreign(u32),
    #[error("no answer in time")]
    Late,
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Http(hyper::Error),
    #[error("{0}")]
    Request(String),
}

impl AgentSocket {
    pub(crate) fn new(path: PathBuf, connect: Duration) -> Self {
        Self { path, connect }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request on a connection of its own, which is closed after the response.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<Response, SocketError> {
        let limit = request.timeout().copied();
        let sending = self.send_unlimited(request);
        match limit {
            Some(limit) => timeout(limit, sending).await.map_err(|_| SocketError::Late)?,
            None => sending.await,
        }
    }

    async fn send_unlimited(&self, request: reqwest::Request) -> Result<Response, SocketError> {
        let stream = timeout(self.connect, self.connect()).await.map_err(|_| SocketError::Late)??;
        let handshake = http1::handshake::<_, Body>(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(SocketError::Http)?;
        // Ends with the response, or when the response is dropped.
        tokio::spawn(connection);
        let request =
            Request::<Body>::try_from(request).map_err(|error| SocketError::Request(error.to_string()))?;
        let answer = sender.send_request(to_this_machine(request)).await.map_err(SocketError::Http)?;
        Ok(Response::from(answer.map(Body::wrap)))
    }

    async fn connect(&self) -> Result<UnixStream, SocketError> {
        if let Some(parent) = self.path.parent()
            && dir::check_private(parent)?.is_none()
        {
            return Err(SocketError::Missing);
        }
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SocketError::Missing,
            _ => SocketError::Io(error),
        })?;
        // The credentials are those of the process that called `listen`, on Linux and macOS.
        match stream.peer_cred().map_err(SocketError::Io)?.uid() {
            uid if uid == own_uid() => Ok(stream),
            uid => Err(SocketError::Foreign(uid)),
        }
    }
}

/// A Unix socket has neither host nor scheme, but HTTP/1.1 requires a `Host` header (RFC 9112, section 3.2).
fn to_this_machine(mut request: Request<Body>) -> Request<Body> {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    request
}
