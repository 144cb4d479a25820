//! A connection that carries exactly the bytes that a test writes.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// What an HTTP/2 client sends first: the preface and an empty SETTINGS frame.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// How long the waiting methods wait before they fail the test.
const PATIENCE: Duration = Duration::from_secs(20);

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

    /// As [`RawConnection::connect`]; `None` where the daemon does not answer in time.
    pub async fn try_connect(url: &str) -> Option<Self> {
        let address = url.trim_start_matches("http://").parse().expect("an address");
        let socket = TcpSocket::new_v4().expect("a socket");
        // Small, so that a test that reads nothing is seen to read nothing soon.
        socket.set_recv_buffer_size(16 * 1024).expect("a socket");
        let stream = timeout(PATIENCE, socket.connect(address)).await.ok()?.ok()?;
        Some(Self { stream, received: Vec::new() })
    }

    /// Sends bytes; whether the other side still takes them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Everything until the other side closes the connection, which has to happen in time.
    pub async fn until_closed(&mut self) -> String {
        let read = async {
            let mut buffer = [0; 4096];
            // A reset is an end too.
            while let Ok(count @ 1..) = self.stream.read(&mut buffer).await {
                self.received.extend_from_slice(&buffer[..count]);
            }
        };
        timeout(PATIENCE, read).await.expect("the daemon closes the connection");
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Sends a piece at each interval until the other side closes the connection, which has to happen in time; everything
    /// that was received.
    pub async fn trickle(&mut self, piece: &[u8], every: Duration) -> String {
        let (mut reader, mut writer) = self.stream.split();
        let write = async {
            let mut ticks = tokio::time::interval(every);
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
        timeout(PATIENCE, read_or_write).await.expect("the daemon closes the connection")
    }

    /// What came until the text contains `end`; `None` where the connection closes or nothing comes before that.
    pub async fn until(&mut self, end: &str) -> Option<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
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

    /// Passes over so many bytes; fails the test where they do not come.
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
        timeout(PATIENCE, read).await.expect("so many bytes");
    }

    /// The status of the next response, whose head is read.
    pub async fn status(&mut self) -> Option<u16> {
        let head = self.until("\r\n\r\n").await?;
        head.split(' ').nth(1)?.parse().ok()
    }
}
