//! The connections to model servers: one pool for each connect timeout and socket in use, because the client below sets
//! these per pool. It follows no redirect, reads no proxy from the environment and tries nothing twice.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use url::Url;

use crate::{AddressPolicy, Failure, Target, addresses::Resolver, hops::InstanceId};

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
}

/// Shared by all attempts; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Client {
    config: Arc<ClientConfig>,
    pools: Arc<Mutex<HashMap<Key, reqwest::Client>>>,
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

    /// The pool for a target, whose address is judged: here as it is written, and in the pool as it is resolved.
    pub(crate) fn pool(&self, target: &Target) -> Result<reqwest::Client, Failure> {
        let policy = self.config.addresses.as_ref().filter(|_| target.socket.is_none());
        if let Some(policy) = policy {
            policy.check_url(&target.base_url).map_err(Failure::refused_address)?;
        }
        let key = Key {
            connect: target.timeouts.connect,
            own_port: policy.and_then(|policy| policy.own_port(&target.base_url)),
            socket: target.socket.clone(),
        };
        // A panic cannot leave the map half-written, so a poisoned lock is as good as any.
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        let pool = build(&self.config, &key).map_err(Failure::no_client)?;
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        pools.insert(key, pool.clone());
        Ok(pool)
    }
}

fn build(config: &ClientConfig, key: &Key) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
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
    if let Some(policy) = &config.addresses {
        builder = builder.dns_resolver(Resolver { policy: Arc::clone(policy), port: key.own_port });
    }
    if let Some(socket) = &key.socket {
        builder = builder.unix_socket(socket.as_path());
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Peer, Timeouts};

    #[tokio::test]
    async fn pools_are_shared_by_timeout_and_bounded() {
        let client = Client::default();
        let mut target = Target {
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            socket: None,
            model: None,
            credential: None,
            timeouts: Timeouts::default(),
            peer: Peer::Provider,
        };
        for seconds in 0..100 {
            target.timeouts.connect = Duration::from_secs(seconds);
            client.pool(&target).unwrap();
            client.clone().pool(&target).unwrap();
        }
        let pools = client.pools.lock().unwrap().len();
        assert!((1..=MAX_POOLS).contains(&pools), "{pools}");
    }
}
