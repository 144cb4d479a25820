//! The connections to model servers: one pool for each connect timeout in use, because the client below sets
//! that bound per pool. It follows no redirect, reads no proxy from the environment and tries nothing twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use url::Url;

use crate::Failure;

/// Pools are few, one for each distinct `timeouts.connect`; beyond so many, those of edited-away values are
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
}

/// Shared by all attempts; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Client {
    config: Arc<ClientConfig>,
    pools: Arc<Mutex<HashMap<Duration, reqwest::Client>>>,
}

impl Client {
    /// A client with no connections yet.
    pub fn new(config: ClientConfig) -> Self {
        Self { config: Arc::new(config), pools: Arc::default() }
    }

    /// The pool for a connect timeout.
    pub(crate) fn pool(&self, connect: Duration) -> Result<reqwest::Client, Failure> {
        // A panic cannot leave the map half-written, so a poisoned lock is as good as any.
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&connect) {
            return Ok(pool.clone());
        }
        let pool = build(&self.config, connect).map_err(Failure::no_client)?;
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        pools.insert(connect, pool.clone());
        Ok(pool)
    }
}

fn build(config: &ClientConfig, connect: Duration) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(connect)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(KEEP_IDLE);
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.clone())?);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pools_are_shared_by_timeout_and_bounded() {
        let client = Client::default();
        for seconds in 0..100 {
            client.pool(Duration::from_secs(seconds)).unwrap();
            client.clone().pool(Duration::from_secs(seconds)).unwrap();
        }
        let pools = client.pools.lock().unwrap().len();
        assert!((1..=MAX_POOLS).contains(&pools), "{pools}");
    }
}
