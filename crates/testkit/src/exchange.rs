//! One exchange over TCP: all bytes of a request, then all bytes of the response, for tables of requests that no HTTP
//! client sends. For more than one exchange on a connection there is `raw`.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::TIMEOUT;

/// How long an exchange waits for the next byte of a server that keeps the connection open.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(1500);
/// The most bytes read from one connection.
const MAX_READ_BYTES: usize = 4 << 20;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The server closed it.
    Closed,
    /// The server reset it.
    Reset,
    /// The server neither sent a byte nor closed it in time.
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
    // A server may reject a request before it has read everything.
    let _ = timeout(SILENCE_TIMEOUT, stream.write_all(request.as_ref())).await;
    read_to_end(&mut stream).await
}

/// As [`send`], and reads on until that many responses have begun, or the connection ends, however slow the server is.
pub async fn send_and_wait(address: &str, request: impl AsRef<[u8]>, responses: usize) -> Exchange {
    let mut stream = connect(address).await;
    let _ = timeout(TIMEOUT, stream.write_all(request.as_ref())).await;
    read_until(&mut stream, TIMEOUT, |exchange| exchange.statuses().len() >= responses).await
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
    read_until(stream, SILENCE_TIMEOUT, |_| false).await
}

async fn read_until(stream: &mut TcpStream, silence: Duration, done: impl Fn(&Exchange) -> bool) -> Exchange {
    let mut exchange = Exchange { received: Vec::new(), end: ConnectionEnd::Silent };
    let mut buffer = vec![0; 64 << 10];
    while !done(&exchange) {
        match timeout(silence, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => exchange.end = ConnectionEnd::Closed,
            Ok(Ok(count)) => {
                exchange.received.extend_from_slice(&buffer[..count]);
                assert!(exchange.received.len() < MAX_READ_BYTES, "the server sends without end");
                continue;
            }
            Ok(Err(_)) => exchange.end = ConnectionEnd::Reset,
            Err(_) => {}
        }
        break;
    }
    exchange
}
