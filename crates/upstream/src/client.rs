//! The connections to model servers: one pool for each connect timeout and socket in use, because the client below sets
//! these per pool. It follows no redirect, reads no proxy from the environment and tries nothing twice.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use url::Url;

use crate::{
    AddressPolicy, Failure, Peer, Target, addresses::Resolver, hops::InstanceId, lookup::EveryAddress,
};

/// Pools are few, one for each distinct `timeouts.connect` and socket; beyond so many, those of edited-away values are
/// dropped with the rest. Requests under way keep theirs.
const MAX_POOLS: usize = 32;

/// How long an unused connection is kept. A server that closes earlier (uvicorn, under vLLM: 5 s) is noticed
/// while the connection is idle.
const KEEP_IDLE: Duration = Duration::from_secs(60);

/// What a [`Client`] is configured with.
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// A proxy for every request; the environment's proxies are never used.
    pub proxy: Option<Url>,
    /// Where connections may go; without one, everywhere.
    pub addresses: Option<Arc<AddressPolicy>>,
    /// This process, among those that a request passes.
    pub instance: InstanceId,
}

/// What the connections of a pool have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    connect: Duration,
    /// The port they go to, where it is one that this process listens on itself.
    own_port: Option<u16>,
    socket: Option<PathBuf>,
    /// Whether they are plain HTTP to mcpd.
    plain_mcpd: bool,
}

/// Adds to what connects, e.g. a check of who answers.
pub type Prepare = Box<dyn Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync>;

/// Shared by all attempts; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Client {
    config: Arc<ClientConfig>,
    pools: Arc<Mutex<Pools>>,
}

#[derive(Default)]
struct Pools {
    /// Applied to plain HTTP connections to mcpd.
    plain_mcpd: Option<Prepare>,
    ready: HashMap<Key, reqwest::Client>,
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

    /// This process, among those that a request passes.
    pub fn instance(&self) -> &InstanceId {
        &self.config.instance
    }

    /// Prepares plain HTTP connections to mcpd like this from now on; those that stand are not used again.
    pub fn prepare_plain_mcpd(&self, prepare: Prepare) {
        let mut pools = self.lock();
        pools.ready.retain(|key, _| !key.plain_mcpd);
        pools.plain_mcpd = Some(prepare);
    }

    /// The pool for a target, whose address is judged: here as it is written, and in the pool as it is resolved.
    pub(crate) fn pool(&self, target: &Target) -> Result<reqwest::Client, Failure> {
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none());
        if let Some(policy) = policy {
            policy.check_url(&target.base_url).map_err(Failure::refused_address)?;
        }
        let plain_mcpd = target.peer == Peer::Mcpd && target.base_url.scheme() != "https";
        let key = Key {
            connect: target.timeouts.connect,
            own_port: policy.and_then(|policy| policy.own_port(&target.base_url)),
            socket: target.socket.clone(),
            plain_mcpd,
        };
        let mut pools = self.lock();
        if let Some(pool) = pools.ready.get(&key) {
            return Ok(pool.clone());
        }
        let builder = match &pools.plain_mcpd {
            Some(prepare) if plain_mcpd => prepare(reqwest::Client::builder()),
            _ => reqwest::Client::builder(),
        };
        let pool = build(builder, &self.config, &key).map_err(Failure::no_client)?;
        if pools.ready.len() >= MAX_POOLS {
            pools.ready.clear();
        }
        pools.ready.insert(key, pool.clone());
        Ok(pool)
    }

    /// A panic cannot leave the map half-written, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(
    builder: reqwest::ClientBuilder,
    config: &ClientConfig,
    key: &Key,
) -> reqwest::Result<reqwest::Client> {
    let mut builder = builder
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(key.connect)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(KEEP_IDLE);
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone())?);
    }
    builder = match &config.addresses {
        Some(policy) => builder.dns_resolver(Resolver { policy: Arc::clone(policy), port: key.own_port }),
        None => builder.dns_resolver(EveryAddress),
    };
    if let Some(socket) = &key.socket {
        builder = builder.unix_socket(socket.as_path());
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Timeouts;

    fn target(base_url: &str, peer: Peer) -> Target {
        let base_url = base_url.parse().unwrap();
        Target { base_url, socket: None, model: None, credential: None, timeouts: Timeouts::default(), peer }
    }

    #[tokio::test]
    async fn plain_connections_to_mcpd_are_prepared_and_no_others() {
        let (client, prepared) = (Client::default(), Arc::new(AtomicUsize::new(0)));
        let prepare = || {
            let prepared = Arc::clone(&prepared);
            Box::new(move |builder| {
                prepared.fetch_add(1, Ordering::Relaxed);
                builder
            })
        };
        client.prepare_plain_mcpd(prepare());
        for (base_url, peer, expected) in [
            ("http://127.0.0.1:1", Peer::Provider, 0),
            ("https://127.0.0.1:1", Peer::Mcpd, 0),
            ("http://127.0.0.1:1", Peer::Mcpd, 1),
            ("http://127.0.0.1:1", Peer::Mcpd, 1),
        ] {
            client.pool(&target(base_url, peer)).unwrap();
            assert_eq!(prepared.load(Ordering::Relaxed), expected, "{base_url}");
        }
        client.prepare_plain_mcpd(prepare());
        client.pool(&target("http://127.0.0.1:1", Peer::Mcpd)).unwrap();
        assert_eq!(prepared.load(Ordering::Relaxed), 2, "those of before are not used again");
    }

    #[tokio::test]
    async fn pools_are_shared_by_timeout_and_bounded() {
        let client = Client::default();
        let mut target = target("http://127.0.0.1:1", Peer::Provider);
        for seconds in 0..100 {
            target.timeouts.connect = Duration::from_secs(seconds);
            client.pool(&target).unwrap();
            client.clone().pool(&target).unwrap();
        }
        let pools = client.lock().ready.len();
        assert!((1..=MAX_POOLS).contains(&pools), "{pools}");
    }
}
