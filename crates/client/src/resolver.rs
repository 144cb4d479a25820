//! Resolves mcpd's name. A lookup blocks a thread and cannot be cancelled, so the lookup itself holds the permit that bounds
//! their number, and not the request that may be cancelled before the lookup ends.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    task::{Context, Poll},
    vec::IntoIter,
};

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tower_service::Service;

/// Maximum number of lookups at a time.
const MAX_LOOKUPS: usize = 8;

/// The system's resolver. Clones share the bound.
#[derive(Debug, Clone)]
pub(crate) struct Resolver(Arc<Semaphore>);

impl Resolver {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }

    /// Runs blocking work; waits for a permit first.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let permit = self.0.acquire_owned().await.map_err(io::Error::other)?;
        let running = spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        running.await.map_err(io::Error::other)
    }
}

impl Service<Name> for Resolver {
    type Response = IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.clone().run(move || (name.as_str(), 0).to_socket_addrs());
        Box::pin(async move { lookup.await? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    #[tokio::test]
    async fn cancelled_callers_leave_the_permits_to_their_lookups() {
        let (resolver, begun) = (Resolver::new(), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let blocking = || {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move || {
                begun.fetch_add(1, Ordering::AcqRel);
                // Until the other end is dropped.
                let _ = gate.lock().unwrap().recv();
            }
        };
        let callers: Vec<_> =
            (0..MAX_LOOKUPS * 4).map(|_| tokio::spawn(resolver.clone().run(blocking()))).collect();
        while begun.load(Ordering::Acquire) < MAX_LOOKUPS {
            tokio::task::yield_now().await;
        }
        // All callers are cancelled: lookups that were begun go on, and no other begins.
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        futures::future::join_all(callers).await;
        assert_eq!(resolver.0.available_permits(), 0);
        assert_eq!(begun.load(Ordering::Acquire), MAX_LOOKUPS);
        drop(open);
        resolver.clone().run(|| ()).await.unwrap();
    }
}
