//! Resolves names. A lookup blocks a thread and cannot be cancelled, so the lookup itself holds its permit, and not the request,
//! which may be cancelled before the lookup ends.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::connect_error::LookupError;

/// How many lookups run at a time, of all clients of this process; others wait.
const MAX_LOOKUPS: usize = 64;
/// How many lookups of one name run at a time; more fail, so that a name whose DNS server does not respond takes no more permits.
const MAX_LOOKUPS_OF_ONE_NAME: usize = 8;

static LOOKUPS: LazyLock<Lookups> =
    LazyLock::new(|| Lookups { permits: Arc::new(Semaphore::new(MAX_LOOKUPS)), names: Arc::default() });

struct Lookups {
    permits: Arc<Semaphore>,
    names: Arc<Mutex<HashMap<String, usize>>>,
}

/// The addresses of a name, with port 0.
///
/// # Errors
/// When the name has none, or too many lookups of the name are running.
pub(crate) async fn lookup(name: &str) -> Result<Vec<SocketAddr>, LookupError> {
    Ok(LOOKUPS.run(name, |name| Ok((name, 0).to_socket_addrs()?.collect())).await?)
}

impl Lookups {
    async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&str) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let counted = RunningLookup::new(&self.names, name)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let running = spawn_blocking(move || {
            let _permit = permit;
            work(&counted.name)
        });
        running.await.map_err(io::Error::other)?
    }
}

/// Counts as a running lookup of its name until it is dropped.
struct RunningLookup {
    names: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
}

impl RunningLookup {
    fn new(names: &Arc<Mutex<HashMap<String, usize>>>, name: &str) -> io::Result<Self> {
        let mut counts = names.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.to_owned()).or_default();
        if *count >= MAX_LOOKUPS_OF_ONE_NAME {
            return Err(io::Error::other("too many lookups of this name are unanswered"));
        }
        *count += 1;
        Ok(Self { names: Arc::clone(names), name: name.to_owned() })
    }
}

impl Drop for RunningLookup {
    fn drop(&mut self) {
        let mut counts = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn lookups_of_cancelled_callers_keep_their_permits() {
        let lookups =
            Arc::new(Lookups { permits: Arc::new(Semaphore::new(MAX_LOOKUPS)), names: Arc::default() });
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let (begun, mut running) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..MAX_LOOKUPS_OF_ONE_NAME {
            let (lookups, blocked, begun) = (Arc::clone(&lookups), Arc::clone(&blocked), begun.clone());
            let caller = tokio::spawn(async move {
                let work = move |_: &str| {
                    begun.send(()).unwrap();
                    let _ = blocked.lock().unwrap().recv();
                    Ok(())
                };
                lookups.run("silent.example", work).await
            });
            running.recv().await.unwrap();
            caller.abort();
        }
        assert!(lookups.run("silent.example", |_| Ok(())).await.is_err(), "the work goes on");
        assert!(lookups.run("other.example", |_| Ok(())).await.is_ok());
        drop(release);
        while !lookups.names.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(lookups.run("silent.example", |_| Ok(())).await.is_ok());
    }
}
