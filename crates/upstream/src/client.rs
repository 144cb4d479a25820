//! The connections to model servers: one pool for each server and connect timeout. It follows no redirect, reads no proxy from
//! the environment and never retries.
//!
//! A pool is retired when a reused connection of it fails: its other idle connections are most likely dead too. The next request
//! gets a new pool and a new connection. In-flight requests keep the old pool, which closes after the last of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use mcpctl_tls::ClientTls;

use crate::{
    AddressPolicy, PeerCheck, Target, connect_error::SendError, connector::Connector, hops::InstanceId,
    pool::Pool, prepared::Key,
};

/// How many pools exist at most. The least recently used one is dropped for a new one; in-flight requests keep theirs.
const MAX_POOLS: usize = 512;

/// The configuration of a [`Client`].
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// Where connections may go; `None` allows every address.
    pub addresses: Option<Arc<AddressPolicy>>,
    /// The id of this process in the list of hops.
    pub instance: InstanceId,
}

/// The pools, shared by all attempts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Client {
    config: Arc<ClientConfig>,
    pools: Arc<Mutex<Pools>>,
}

#[derive(Default)]
struct Pools {
    /// The check of plain HTTP connections to mcpd.
    plain_mcpd: Option<PeerCheck>,
    /// TLS of connections to mcpd.
    mcpd_tls: ClientTls,
    ready: HashMap<Key, Used>,
}

struct Used {
    pool: Arc<Pool>,
    at: Instant,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools").field("ready", &self.ready.keys()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with no connections yet.
    pub fn new(config: ClientConfig) -> Self {
        Self { config: Arc::new(config), pools: Arc::default() }
    }

    /// A client with the same rules and without connections, for an attempt that has to make its own.
    #[must_use]
    pub fn unconnected(&self) -> Self {
        let pools = self.lock();
        let (plain_mcpd, mcpd_tls) = (pools.plain_mcpd.clone(), pools.mcpd_tls.clone());
        let pools = Pools { plain_mcpd, mcpd_tls, ready: HashMap::new() };
        Self { config: Arc::clone(&self.config), pools: Arc::new(Mutex::new(pools)) }
    }

    /// The id of this process in the list of hops.
    pub fn instance(&self) -> &InstanceId {
        &self.config.instance
    }

    /// Makes this check on plain HTTP connections to mcpd from now on. Existing ones are not reused.
    pub fn check_plain_mcpd(&self, check: PeerCheck) {
        let mut pools = self.lock();
        pools.ready.retain(|key, _| !key.mcpd || key.tls);
        pools.plain_mcpd = Some(check);
    }

    /// Trusts mcpd by this on TLS connections from now on. Existing ones are not reused.
    pub fn trust_mcpd(&self, tls: ClientTls) {
        let mut pools = self.lock();
        pools.ready.retain(|key, _| !key.mcpd || !key.tls);
        pools.mcpd_tls = tls;
    }

    /// Why the policy allows no connection to an address that is written as a number; that of a name shows when it is resolved.
    pub(crate) fn refusal(&self, target: &Target) -> Option<String> {
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none())?;
        policy.check_url(&target.base_url).err().map(|refused| refused.to_string())
    }

    /// The pool for a target. Its address is checked when the pool is made, and for each connection as written and as resolved.
    pub(crate) fn pool(&self, target: &Target) -> Result<Arc<Pool>, SendError> {
        let mut pools = self.lock();
        if let Some(used) = pools.ready.get_mut(target.key()) {
            used.at = Instant::now();
            return Ok(Arc::clone(&used.pool));
        }
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none());
        if let Some(policy) = policy {
            policy.check_url(&target.base_url).map_err(|refused| SendError::Connect(refused.into()))?;
        }
        let key = target.key();
        let check = pools.plain_mcpd.clone().filter(|_| key.mcpd && !key.tls);
        let tls = if key.mcpd { pools.mcpd_tls.clone() } else { ClientTls::default() };
        let connector = Connector::new(target, policy, check, &tls)?;
        Ok(pools.insert(target.key().clone(), Pool::new(connector)))
    }

    /// Drops the idle connections to a target, which may be as dead as the one on which it is silent. The next request gets a
    /// new connection.
    pub fn drop_idle(&self, target: &Target) {
        self.lock().ready.remove(target.key());
    }

    /// Drops the idle connections of a pool, unless it was replaced already.
    pub(crate) fn retire(&self, retired: &Arc<Pool>) {
        self.lock().ready.retain(|_, used| !Arc::ptr_eq(&used.pool, retired));
    }

    /// A panic cannot leave the map half-written, so a poisoned lock is used like any other.
    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pools {
    fn insert(&mut self, key: Key, pool: Arc<Pool>) -> Arc<Pool> {
        if self.ready.len() >= MAX_POOLS {
            let oldest = self.ready.iter().min_by_key(|(_, used)| used.at).map(|(key, _)| key.clone());
            if let Some(key) = oldest {
                self.ready.remove(&key);
            }
        }
        self.ready.insert(key, Used { pool: Arc::clone(&pool), at: Instant::now() });
        pool
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::FutureExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{AttemptTimeouts, TargetConfig, UpstreamKind};

    fn target(base_url: &str, kind: UpstreamKind) -> Target {
        let base_url = base_url.parse().unwrap();
        Target::new(TargetConfig {
            base_url,
            socket: None,
            model: None,
            credential: None,
            timeouts: AttemptTimeouts::default(),
            api: crate::Api::Openai,
            kind,
        })
    }

    #[tokio::test]
    async fn plain_connections_to_mcpd_are_checked_and_no_others() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, checked) = (Client::default(), Arc::new(AtomicUsize::new(0)));
        let check = |allow: bool| -> PeerCheck {
            let checked = Arc::clone(&checked);
            Arc::new(move |_, _| {
                checked.fetch_add(1, Ordering::Relaxed);
                future::ready(if allow { Ok(()) } else { Err("another user's".into()) }).boxed()
            })
        };
        let address = format!("http://{}", server.local_addr().unwrap());
        let connect = async |kind| client.pool(&target(&address, kind)).unwrap().take().await.is_ok();
        client.check_plain_mcpd(check(true));
        assert!(connect(UpstreamKind::Provider).await);
        assert_eq!(checked.load(Ordering::Relaxed), 0);
        assert!(connect(UpstreamKind::Mcpd).await);
        assert_eq!(checked.load(Ordering::Relaxed), 1);
        client.check_plain_mcpd(check(false));
        assert!(!connect(UpstreamKind::Mcpd).await);
        assert!(connect(UpstreamKind::Provider).await);
        assert_eq!(checked.load(Ordering::Relaxed), 2);
        let target = target("http://localhost", UpstreamKind::Mcpd);
        let socket = target.with(|target| target.socket = Some("/tmp/none".into()));
        assert!(client.pool(&socket).is_err(), "its addresses cannot be checked");
    }

    #[tokio::test]
    async fn pools_are_shared_by_server_and_timeout_and_bounded() {
        let client = Client::default();
        let mut target = target("http://127.0.0.1:1", UpstreamKind::Provider);
        let first = client.pool(&target).unwrap();
        assert!(Arc::ptr_eq(&client.clone().pool(&target).unwrap(), &first));
        target = target.with(|target| target.base_url.set_path("/another/path"));
        assert!(Arc::ptr_eq(&client.pool(&target).unwrap(), &first));
        for port in 2..1000 {
            target = target.with(|target| target.base_url.set_port(Some(port)).unwrap());
            client.pool(&target).unwrap();
        }
        assert_eq!(client.lock().ready.len(), MAX_POOLS);
    }

    #[tokio::test]
    async fn retired_pool_is_replaced_once() {
        let (client, target) = (Client::default(), target("http://127.0.0.1:1", UpstreamKind::Provider));
        let (first, same) = (client.pool(&target).unwrap(), client.pool(&target).unwrap());
        client.retire(&first);
        let second = client.pool(&target).unwrap();
        assert!(!Arc::ptr_eq(&second, &first));
        client.retire(&same);
        assert!(Arc::ptr_eq(&client.pool(&target).unwrap(), &second), "of the same failure");
    }
}
