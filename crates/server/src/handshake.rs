//! TLS of a new connection. A client that speaks plain HTTP gets an answer with the reason, because a closed connection has none.

use std::{io, sync::Arc};

use axum::http::StatusCode;
use mcpctl_api::{ApiError, ErrorKind};
use mcpctl_tls::ServerTls;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{socket::Socket, tcp::Tcp};

/// What a TLS connection begins with: the type of a record that holds a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// A connection over TLS.
pub(crate) type Encrypted = TlsStream<Socket<Tcp>>;

/// Waits for the first byte of a connection. Returns whether it begins with TLS.
pub(crate) async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first == [HANDSHAKE]),
    }
}

/// Does the handshake. A client that fails it learns why by an alert.
pub(crate) async fn handshake(socket: Socket<Tcp>, tls: &ServerTls) -> Option<Encrypted> {
    match TlsAcceptor::from(tls.config()).accept(socket).into_fallible().await {
        Ok(stream) => Some(stream),
        Err((error, mut socket)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            // A socket that is closed with unread bytes is reset, and that may overtake the alert.
            let _ = socket.shutdown().await;
            None
        }
    }
}

/// Answers a client that speaks plain HTTP, and closes the connection.
pub(crate) async fn refuse_plain(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    let status = StatusCode::BAD_REQUEST;
    let error = ApiError::new(
        ErrorKind::InvalidRequestError,
        "tls_required",
        "this address speaks TLS, and the request came over plain http",
    );
    let body =
        serde_json::to_string(&error.with_hint("write https:// instead of http://")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    if socket.write_all(answer.as_bytes()).await.is_ok() {
        let _ = socket.shutdown().await;
    }
}

/// TLS of a listener.
pub(crate) type Tls = Arc<ServerTls>;
