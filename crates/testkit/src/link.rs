//! A TCP proxy whose connections a test can break, as a load balancer or a NAT does that forgets them: neither end notices
//! before it next sends something.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A proxy in front of one server; it stops when dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicU64,
    /// The proxy resets connections up to this number when the client next sends something.
    reset_up_to: AtomicU64,
    /// The proxy never reads again from connections up to this number.
    stalled_up_to: AtomicU64,
    broken_uses: AtomicUsize,
}

impl Link {
    /// Starts a proxy in front of `http://ADDRESS:PORT` or `ADDRESS:PORT`; a path after it is ignored.
    pub async fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://");
        let server = server.split('/').next().unwrap().parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// `http://ADDRESS:PORT` of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The number of broken connections that a client used.
    pub fn broken_uses(&self) -> usize {
        self.shared.broken_uses.load(Ordering::SeqCst)
    }

    /// Breaks every connection so far: it is reset when it is next used.
    pub fn reset_all(&self) {
        self.shared.reset_up_to.store(self.connections(), Ordering::SeqCst);
    }

    /// Breaks every connection so far: nothing is read from it any more.
    pub fn stall_all(&self) {
        self.shared.stalled_up_to.store(self.connections(), Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::spawn(forward(client, server, number, Arc::clone(&shared)));
    }
}

async fn forward(mut client: TcpStream, server: SocketAddr, number: u64, shared: Arc<Shared>) {
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    let (mut sent, mut received) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            readable = client.readable() => {
                if readable.is_err() {
                    return;
                }
                if number <= shared.stalled_up_to.load(Ordering::SeqCst) {
                    shared.broken_uses.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                let count = match client.try_read(&mut sent) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Ok(0) | Err(_) => return,
                    Ok(count) => count,
                };
                if number <= shared.reset_up_to.load(Ordering::SeqCst) {
                    shared.broken_uses.fetch_add(1, Ordering::SeqCst);
                    let _ = client.set_zero_linger();
                    return;
                }
                if upstream.write_all(&sent[..count]).await.is_err() {
                    return;
                }
            }
            read = upstream.read(&mut received) => match read {
                Ok(count @ 1..) if client.write_all(&received[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
