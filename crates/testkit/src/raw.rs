//! A connection that carries exactly the bytes that a test writes.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::TIMEOUT;

/// The first bytes of an HTTP/2 client: the preface and an empty SETTINGS frame.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A TCP connection to a daemon.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawConnection {
    /// Connects to `http://ADDRESS:PORT`.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.expect("a connection")
    }

    /// As [`RawConnection::connect`]; `None` where the daemon does not accept the connection in time.
    pub async fn try_connect(url: &str) -> Option<Self> {
        let address = url.split_once("://").expect("a url").1.parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        // Small, so that a daemon soon notices a test that does not read.
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        let stream = timeout(TIMEOUT, socket.connect(address)).await.ok()?.ok()?;
        Some(Self { stream, received: Vec::new() })
    }

    /// Sends bytes; false where the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads everything until the daemon closes the connection, which has to happen in time.
    pub async fn until_closed(&mut self) -> String {
        let read = async {
            let mut buffer = [0; 4096];
            // A reset closes it too.
            while let Ok(count @ 1..) = self.stream.read(&mut buffer).await {
                self.received.extend_from_slice(&buffer[..count]);
            }
        };
        timeout(TIMEOUT, read).await.expect("the daemon closes the connection");
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Sends a piece at each interval until the daemon closes the connection, which has to happen in time; returns everything
    /// that was received.
    pub async fn trickle(&mut self, piece: &[u8], interval: Duration) -> String {
        let (mut reader, mut writer) = self.stream.split();
        let write = async {
            let mut ticks = tokio::time::interval(interval);
            while writer.write_all(piece).await.is_ok() {
                ticks.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let read = async {
            let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                received.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&received).into_owned()
        };
        let read_or_write = async {
            tokio::select! {
                received = read => received,
                () = write => String::new(),
            }
        };
        timeout(TIMEOUT, read_or_write).await.expect("the daemon closes the connection")
    }

    /// Reads until the text contains `end`; `None` where the connection closes or the time is over before that.
    pub async fn until(&mut self, end: &str) -> Option<String> {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.received);
            if let Some(at) = text.find(end) {
                let found = text[..at + end.len()].to_owned();
                self.received = text[at + end.len()..].as_bytes().to_vec();
                return Some(found);
            }
            match tokio::time::timeout_at(deadline, self.stream.read(&mut buffer)).await {
                Ok(Ok(count @ 1..)) => self.received.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
    }

    /// Reads and drops that many bytes; fails the test where they do not arrive.
    pub async fn skip(&mut self, count: usize) {
        let read = async {
            let mut buffer = [0; 4096];
            while self.received.len() < count {
                match self.stream.read(&mut buffer).await {
                    Ok(read @ 1..) => self.received.extend_from_slice(&buffer[..read]),
                    _ => panic!("the connection is closed"),
                }
            }
            self.received.drain(..count);
        };
        timeout(TIMEOUT, read).await.expect("that many bytes");
    }

    /// Reads the head of the next response and returns its status.
    pub async fn status(&mut self) -> Option<u16> {
        let head = self.until("\r\n\r\n").await?;
        head.split(' ').nth(1)?.parse().ok()
    }
}
