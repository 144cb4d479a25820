//! The connections to model servers: one pool for each server and connect timeout. It follows no redirect, reads no proxy from
//! the environment and never retries.
//!
//! A pool is retired when a reused connection of it fails: its other idle connections are most likely dead too. The next request
//! gets a new pool and a new connection. In-flight requests keep the old pool, which closes after the last of them.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use url::{Origin, Url};

use crate::{
    AddressPolicy, Failure, Target, UpstreamKind, addresses::Resolver, hops::InstanceId,
    lookup::EveryAddress, reuse::RecordConnects, tls,
};

/// How many pools exist at most. The least recently used one is dropped for a new one; in-flight requests keep theirs.
const MAX_POOLS: usize = 512;

/// How long an idle connection is kept: shorter than mcpd and most proxies keep theirs (60 s and more). When a server closes
/// earlier (uvicorn, under vLLM: 5 s), the client notices while the connection is idle.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long sent data may stay unacknowledged before the connection is closed: a machine or a NAT that has lost the connection
/// does not respond at all. Well below `timeouts.response`, so that there is time for another connection.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// TCP keep-alive: the silence before the first probe, the interval between probes, and how many go unanswered before the
/// connection counts as dead.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const TCP_KEEPALIVE_RETRIES: u32 = 3;
/// Pings on HTTP/2, whose connections are shared by requests and may go through proxies.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(15);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// The configuration of a [`Client`].
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// A proxy for every request; the environment's proxies are never used.
    pub proxy: Option<Url>,
    /// Where connections may go; `None` allows every address.
    pub addresses: Option<Arc<AddressPolicy>>,
    /// The id of this process in the list of hops.
    pub instance: InstanceId,
}

/// What the connections of a pool have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Scheme, host and port.
    origin: Origin,
    connect: Duration,
    /// The port that they go to, where this process listens on a port of the same number.
    own_port: Option<u16>,
    socket: Option<PathBuf>,
    /// Whether they speak plain HTTP to mcpd.
    plain_mcpd: bool,
}

/// Adds a layer to the connector, e.g. a check of which user the server runs as.
pub type PrepareConnector = Box<dyn Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync>;

/// The pools, shared by all attempts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Client {
    config: Arc<ClientConfig>,
    pools: Arc<Mutex<Pools>>,
}

#[derive(Default)]
struct Pools {
    /// Applied to plain HTTP connections to mcpd.
    plain_mcpd: Option<PrepareConnector>,
    ready: HashMap<Key, Pool>,
    /// The generation of the newest pool.
    generation: u64,
}

struct Pool {
    http: reqwest::Client,
    generation: u64,
    used: Instant,
}

/// A pool in use by one request.
pub(crate) struct Lease {
    pub(crate) http: reqwest::Client,
    key: Key,
    generation: u64,
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

    /// The id of this process in the list of hops.
    pub fn instance(&self) -> &InstanceId {
        &self.config.instance
    }

    /// Applies `prepare` to plain HTTP connections to mcpd from now on. Existing ones are not reused.
    pub fn prepare_plain_mcpd(&self, prepare: PrepareConnector) {
        let mut pools = self.lock();
        pools.ready.retain(|key, _| !key.plain_mcpd);
        pools.plain_mcpd = Some(prepare);
    }

    /// Why the policy allows no connection to an address that is written as a number; that of a name shows when it is resolved.
    pub(crate) fn refusal(&self, target: &Target) -> Option<String> {
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none())?;
        policy.check_url(&target.base_url).err().map(|refused| refused.to_string())
    }

    /// The pool for a target. Its address is checked here as written, and in the pool as resolved.
    pub(crate) fn pool(&self, target: &Target) -> Result<Lease, Failure> {
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none());
        if let Some(policy) = policy {
            policy.check_url(&target.base_url).map_err(Failure::refused_address)?;
        }
        let key = self.key(target);
        let mut pools = self.lock();
        if let Some(pool) = pools.ready.get_mut(&key) {
            pool.used = Instant::now();
            return Ok(Lease { http: pool.http.clone(), generation: pool.generation, key });
        }
        let builder = match &pools.plain_mcpd {
            Some(prepare) if key.plain_mcpd => prepare(reqwest::Client::builder()),
            _ => reqwest::Client::builder(),
        };
        let http = build(builder, &self.config, &key).map_err(Failure::no_client)?;
        Ok(pools.insert(key, http))
    }

    fn key(&self, target: &Target) -> Key {
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none());
        Key {
            origin: target.base_url.origin(),
            connect: target.timeouts.connect,
            own_port: policy.and_then(|policy| policy.own_port(&target.base_url)),
            socket: target.socket.clone(),
            plain_mcpd: target.kind == UpstreamKind::Mcpd && target.base_url.scheme() != "https",
        }
    }

    /// Drops the idle connections to a target, which may be as dead as the one on which it is silent. The next request gets a
    /// new connection.
    pub fn drop_idle(&self, target: &Target) {
        let key = self.key(target);
        self.lock().ready.remove(&key);
    }

    /// Drops the idle connections of a pool, unless it was replaced since the lease was taken.
    pub(crate) fn retire(&self, lease: &Lease) {
        let mut pools = self.lock();
        if pools.ready.get(&lease.key).is_some_and(|pool| pool.generation == lease.generation) {
            pools.ready.remove(&lease.key);
        }
    }

    /// A panic cannot leave the map half-written, so a poisoned lock is used like any other.
    fn lock(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pools {
    fn insert(&mut self, key: Key, http: reqwest::Client) -> Lease {
        if self.ready.len() >= MAX_POOLS {
            let oldest = self.ready.iter().min_by_key(|(_, pool)| pool.used).map(|(key, _)| key.clone());
            if let Some(key) = oldest {
                self.ready.remove(&key);
            }
        }
        self.generation += 1;
        let generation = self.generation;
        self.ready.insert(key.clone(), Pool { http: http.clone(), generation, used: Instant::now() });
        Lease { http, key, generation }
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
        .connector_layer(RecordConnects)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .tcp_keepalive_interval(TCP_KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(TCP_KEEPALIVE_RETRIES)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if let Some(tls) = tls::config() {
        builder = builder.tls_backend_preconfigured(tls);
    }
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
    use crate::AttemptTimeouts;

    fn target(base_url: &str, kind: UpstreamKind) -> Target {
        let base_url = base_url.parse().unwrap();
        Target {
            base_url,
            socket: None,
            model: None,
            credential: None,
            timeouts: AttemptTimeouts::default(),
            api: crate::Api::Openai,
            kind,
        }
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
        for (base_url, kind, expected) in [
            ("http://127.0.0.1:1", UpstreamKind::Provider, 0),
            ("https://127.0.0.1:1", UpstreamKind::Mcpd, 0),
            ("http://127.0.0.1:1", UpstreamKind::Mcpd, 1),
            ("http://127.0.0.1:1", UpstreamKind::Mcpd, 1),
        ] {
            client.pool(&target(base_url, kind)).unwrap();
            assert_eq!(prepared.load(Ordering::Relaxed), expected, "{base_url}");
        }
        client.prepare_plain_mcpd(prepare());
        client.pool(&target("http://127.0.0.1:1", UpstreamKind::Mcpd)).unwrap();
        assert_eq!(prepared.load(Ordering::Relaxed), 2, "those of before are not used again");
    }

    #[tokio::test]
    async fn pools_are_shared_by_server_and_timeout_and_bounded() {
        let client = Client::default();
        let mut target = target("http://127.0.0.1:1", UpstreamKind::Provider);
        let first = client.pool(&target).unwrap();
        assert_eq!(client.clone().pool(&target).unwrap().generation, first.generation);
        target.base_url = "http://127.0.0.1:1/another/path".parse().unwrap();
        assert_eq!(client.pool(&target).unwrap().generation, first.generation);
        for port in 2..1000 {
            target.base_url.set_port(Some(port)).unwrap();
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
        assert_ne!(second.generation, first.generation);
        client.retire(&same);
        assert_eq!(client.pool(&target).unwrap().generation, second.generation, "of the same failure");
    }
}
