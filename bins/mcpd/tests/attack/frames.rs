//! HTTP/2 frames as bytes (RFC 9113, section 4.1; header blocks by RFC 7541), written without the checks of a library.

use std::time::Duration;

use mcpctl_testkit::exchange;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// Of a request without a body.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

/// A header block begins with this byte where the status is 200: entry 8 of the static table.
const STATUS_200: u8 = 0x88;

/// A frame with any type, flags, stream and payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field that is not put into the table.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A field that is put into the table, as entry 62.
pub fn indexed_field(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// The pseudo-header fields of a request.
pub fn request(method: &str, path: &str, authority: &str) -> Vec<u8> {
    [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
        .map(|(name, value)| field(name, value))
        .concat()
}

/// RFC 7541, section 5.2, without Huffman coding.
fn string(text: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut length = text.len();
    if length < 127 {
        encoded.push(u8::try_from(length).unwrap());
    } else {
        encoded.push(127);
        length -= 127;
        while length >= 128 {
            encoded.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        encoded.push(u8::try_from(length).unwrap());
    }
    encoded.extend_from_slice(text.as_bytes());
    encoded
}

/// A connection that has sent the preface and empty settings.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        let mut stream = exchange::connect(address).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, [])).await.unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Writes all of it; false where the server has closed, or reads no more for `limit`.
    pub async fn write(&mut self, bytes: &[u8], limit: Duration) -> bool {
        matches!(timeout(limit, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Reads what there is; false where the server has closed, or sends nothing for `limit`.
    pub async fn read(&mut self, limit: Duration) -> bool {
        let mut buffer = vec![0; 64 << 10];
        match timeout(limit, self.stream.read(&mut buffer)).await {
            Ok(Ok(count @ 1..)) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            _ => false,
        }
    }

    /// Whether the server closes the connection within `limit`.
    pub async fn is_closed(&mut self, limit: Duration) -> bool {
        let closes = async {
            let mut buffer = vec![0; 64 << 10];
            while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
        };
        timeout(limit, closes).await.is_ok()
    }

    /// Whether a response of 200 was received on any stream.
    pub fn has_success(&self) -> bool {
        let mut rest = self.received.as_slice();
        while let Some((head, tail)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, next)) = tail.split_at_checked(length) else { return false };
            if head[3] == HEADERS && payload.first() == Some(&STATUS_200) {
                return true;
            }
            rest = next;
        }
        false
    }
}
