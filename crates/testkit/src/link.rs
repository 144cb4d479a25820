//! A way between two programs whose connections can be made to fail: as when a load balancer or a NAT has forgotten them,
//! which is noticed only when they are used.

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

/// Forwards every connection to one server; it stops when dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicU64,
    /// Connections up to this one are reset when the client next sends something.
    dead: AtomicU64,
    /// Connections up to this one are never read again.
    deaf: AtomicU64,
    met: AtomicUsize,
}

impl Link {
    /// A way to `http://ADDRESS:PORT` or `ADDRESS:PORT`, whatever path follows.
    pub async fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://");
        let server = server.split('/').next().unwrap().parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// `http://ADDRESS:PORT` of this end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Those that were used after they had failed.
    pub fn met_failed(&self) -> usize {
        self.shared.met.load(Ordering::SeqCst)
    }

    /// Lets every connection so far be reset when it is next used.
    pub fn kill(&self) {
        self.shared.dead.store(self.connections(), Ordering::SeqCst);
    }

    /// Lets nothing be read of any connection so far.
    pub fn deafen(&self) {
        self.shared.deaf.store(self.connections(), Ordering::SeqCst);
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
    let (mut there, mut back) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            readable = client.readable() => {
                if readable.is_err() {
                    return;
                }
                if number <= shared.deaf.load(Ordering::SeqCst) {
                    shared.met.fetch_add(1, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                let count = match client.try_read(&mut there) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Ok(0) | Err(_) => return,
                    Ok(count) => count,
                };
                if number <= shared.dead.load(Ordering::SeqCst) {
                    shared.met.fetch_add(1, Ordering::SeqCst);
                    let _ = client.set_zero_linger();
                    return;
                }
                if upstream.write_all(&there[..count]).await.is_err() {
                    return;
                }
            }
            read = upstream.read(&mut back) => match read {
                Ok(count @ 1..) if client.write_all(&back[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
