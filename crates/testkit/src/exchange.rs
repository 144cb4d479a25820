//! One exchange over TCP: all bytes of a request, then all bytes of the answer, for tables of requests that no HTTP
//! client sends. A conversation is the matter of `raw`.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long an exchange waits for the next byte of a server that keeps the connection open.
const SILENCE: Duration = Duration::from_millis(1500);
/// The most bytes read of one connection.
const MAX_READ: usize = 4 << 20;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The server closed it.
    Closed,
    /// The server reset it.
    Reset,
    /// The server neither sent nor closed for a while.
    Silent,
}

/// What a server sent over one connection.
#[derive(Debug)]
pub struct Exchange {
    /// All bytes received.
    pub received: Vec<u8>,
    /// How the connection ended.
    pub end: ConnectionEnd,
}

impl Exchange {
    /// The received bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// The statuses of all HTTP/1 responses, in order.
    pub fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        let starts = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12));
        starts.filter_map(|status| status.parse().ok()).collect()
    }

    /// Whether any response has a status of 2xx, or anything else than HTTP/1 was received.
    pub fn succeeded(&self) -> bool {
        let is_http = self.received.is_empty() || self.received.starts_with(b"HTTP/1.");
        !is_http || self.statuses().iter().any(|status| (200..300).contains(status))
    }
}

/// Sends `request` on a new connection to `address` (`host:port`, or a URL of it) and reads until the connection ends.
pub async fn send(address: &str, request: impl AsRef<[u8]>) -> Exchange {
    let mut stream = connect(address).await;
    // A server may refuse before it has read everything.
    let _ = timeout(SILENCE, stream.write_all(request.as_ref())).await;
    read_to_end(&mut stream).await
}

/// A new connection to `address` (`host:port`, or a URL of it).
pub async fn connect(address: &str) -> TcpStream {
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// Reads until the connection ends or the server is silent.
pub async fn read_to_end(stream: &mut TcpStream) -> Exchange {
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let end = loop {
        match timeout(SILENCE, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => break ConnectionEnd::Closed,
            Ok(Ok(count)) => received.extend_from_slice(&buffer[..count]),
            Ok(Err(_)) => break ConnectionEnd::Reset,
            Err(_) => break ConnectionEnd::Silent,
        }
        assert!(received.len() < MAX_READ, "the server sends without end");
    };
    Exchange { received, end }
}
