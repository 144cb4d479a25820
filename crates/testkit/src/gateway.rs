//! A TCP proxy in front of mcpd that holds back what a test says: the feeds alone, or everything, as a partition does.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What passes the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Everything.
    All,
    /// Everything but feeds, which are connected and silent.
    AllButFeeds,
    /// Nothing: connections are accepted and silent.
    Nothing,
}

/// A proxy; it stops when dropped.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    passing: watch::Sender<Passing>,
    feeds: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Gateway {
    /// Starts a proxy in front of `http://ADDRESS:PORT`.
    pub async fn to(server: &str) -> Self {
        let server: SocketAddr = server.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (passing, feeds) = (watch::Sender::new(Passing::All), Arc::<AtomicUsize>::default());
        let (state, opened) = (passing.clone(), Arc::clone(&feeds));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, server, state.subscribe(), Arc::clone(&opened)));
            }
        });
        Self { address, passing, feeds, accepting }
    }

    /// `http://ADDRESS:PORT` of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets this pass from now on, on connections that are open too.
    pub fn pass(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// How many feeds have passed so far, at least their first bytes.
    pub fn feeds(&self) -> usize {
        self.feeds.load(Ordering::SeqCst)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    server: SocketAddr,
    mut passing: watch::Receiver<Passing>,
    feeds: Arc<AtomicUsize>,
) {
    let (mut sent, mut received) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let Ok(first @ 1..) = client.read(&mut sent).await else { return };
    let is_feed = sent[..first].starts_with(b"GET /api/v1/feed");
    let may_pass = move |passing: &Passing| match passing {
        Passing::All => true,
        Passing::AllButFeeds => !is_feed,
        Passing::Nothing => false,
    };
    if passing.wait_for(may_pass).await.is_err() {
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    if upstream.write_all(&sent[..first]).await.is_err() {
        return;
    }
    let mut is_answered = false;
    loop {
        tokio::select! {
            read = client.read(&mut sent) => match read {
                Ok(count @ 1..) if passing.wait_for(may_pass).await.is_ok() => {
                    if upstream.write_all(&sent[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = upstream.read(&mut received) => match read {
                Ok(count @ 1..) if passing.wait_for(may_pass).await.is_ok() => {
                    if client.write_all(&received[..count]).await.is_err() {
                        return;
                    }
                    if is_feed && !is_answered {
                        is_answered = true;
                        feeds.fetch_add(1, Ordering::SeqCst);
                    }
                }
                _ => return,
            },
        }
    }
}
