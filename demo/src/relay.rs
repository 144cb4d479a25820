//! A network path that can be cut: forwards connections of one port to another while it is open.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A path from a loopback port of its own to an address.
pub(crate) struct Relay {
    here: SocketAddr,
    there: SocketAddr,
    forwarding: Option<tokio::task::JoinHandle<()>>,
}

impl Relay {
    pub(crate) async fn open(there: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let here = listener.local_addr()?;
        Ok(Self { here, there, forwarding: Some(tokio::spawn(forward(listener, there))) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.here
    }

    /// Breaks every connection, and refuses new ones.
    pub(crate) async fn cut(&mut self) {
        if let Some(forwarding) = self.forwarding.take() {
            forwarding.abort();
            let _ = forwarding.await;
        }
    }

    /// Forwards again, on the same port.
    pub(crate) async fn restore(&mut self) -> Result<()> {
        if self.forwarding.is_none() {
            let listener = TcpListener::bind(self.here).await?;
            self.forwarding = Some(tokio::spawn(forward(listener, self.there)));
        }
        Ok(())
    }
}

/// Its connections are its own, so they end with it.
async fn forward(listener: TcpListener, there: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(there).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
