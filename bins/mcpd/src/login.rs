//! Signing in: how often it may be tried, and what hashing passwords may cost.
//!
//! An attempt is counted by its network first, then by name and network. Beyond a rate it is slowed, and refused only
//! where another caller in the same network keeps guessing; guesses of others never refuse a person. What callers see does not
//! depend on whether a user exists. Counts are shared by replicas through the store.

mod admission;
mod counters;
mod hashers;
mod line;
mod network;
mod shared;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use mcpctl_secret::password;
use mcpctl_server::Peer;
use mcpctl_store::{CounterKey, Store, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::config::LoginLimits;
use admission::{Admission, Keys};
use hashers::Hashers;
use shared::Shared;

pub use hashers::Busy;
pub use network::{Network, TrustedProxies};

/// When an attempt beyond its network's rate is answered, verified or not. Long enough that a verification is done by
/// then.
const UNSEEN_ANSWER: Duration = Duration::from_secs(2);
/// Attempts that are held at once, of all networks and of each; more are refused at once.
const MAX_HELD: u32 = 4096;
const MAX_HELD_PER_NETWORK: u32 = 1024;
/// When to come again where all places are taken.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// One attempt to sign in.
pub struct Attempt<'a> {
    /// Whose name; of the shape of a name.
    pub name: &'a str,
    /// From where.
    pub network: Network,
    /// The password that was sent.
    pub password: SecretString,
    /// The hash of the user's password, where there is such a user who may sign in.
    pub stored: Option<&'a str>,
}

/// Why an attempt was not answered with yes or no.
#[derive(Debug, thiserror::Error)]
pub enum NotChecked {
    /// Too many attempts at this name from this network.
    #[error("too many attempts to sign in as this user from your network")]
    Name(Duration),
    /// Too many attempts from this network.
    #[error("too many attempts to sign in from your network")]
    Network(Duration),
    /// Too many passwords wait to be hashed.
    #[error("too many attempts to sign in at once")]
    Busy(Duration),
    /// Attempts could not be counted, so none is allowed (INVARIANT 8).
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts attempts to sign in and hashes passwords.
pub struct Logins {
    limits: LoginLimits,
    trusted_proxies: TrustedProxies,
    hashers: Hashers<CounterKey>,
    shared: Arc<Shared>,
    held: Mutex<HashMap<CounterKey, u32>>,
}

impl Logins {
    /// Starts the hashers, and to share counts with other replicas.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        store: Store,
        limits: LoginLimits,
        trusted_proxies: TrustedProxies,
    ) -> std::io::Result<Self> {
        let hashers = Hashers::start(limits.hashers, limits.waiting)?;
        let shared = Shared::start(store);
        Ok(Self { limits, trusted_proxies, hashers, shared, held: Mutex::default() })
    }

    /// The network that a request is counted by.
    pub fn network(&self, peer: Peer, headers: &HeaderMap) -> Network {
        Network::of(peer, headers, &self.trusted_proxies)
    }

    /// Sessions that one user may have.
    pub fn max_sessions(&self) -> usize {
        usize::try_from(self.limits.sessions).unwrap_or(usize::MAX)
    }

    /// Whether the password is the user's, as soon as the attempt may be verified.
    ///
    /// # Errors
    /// When it may not be verified now.
    pub async fn check(&self, attempt: Attempt<'_>) -> Result<bool, NotChecked> {
        let begun = Instant::now();
        let keys = Keys::new(attempt.network, attempt.name, attempt.stored);
        let exists = attempt.stored.is_some();
        let now = shared::now();
        // A network that is beyond its rate stays so without a question to the store.
        let beyond = self.shared.with(|c| admission::is_beyond_rate(c, &self.limits, &keys, now));
        if beyond && exists {
            self.shared.read(&keys.unseen()).await?;
        } else if !beyond {
            self.shared.read(&keys.seen()).await?;
        }
        let now = shared::now();
        let admission = self.shared.with(|c| admission::admit(c, &self.limits, &keys, exists, now));
        let stored = attempt.stored.map(str::to_owned);
        let good = match admission {
            Admission::Refused(wait) => return Err(NotChecked::Name(wait)),
            Admission::Open(wait) => {
                if !wait.is_zero() {
                    let _held = self.hold(keys.network).ok_or(NotChecked::Name(wait))?;
                    tokio::time::sleep(wait).await;
                }
                let verified = self.hashers.verify(keys.network, attempt.password, stored).await;
                verified.map_err(|Busy| NotChecked::Busy(BUSY_RETRY))?
            }
            Admission::Unseen { verify, retry_after } => {
                let retry_after = retry_after.max(BUSY_RETRY);
                let _held = self.hold(keys.network).ok_or(NotChecked::Network(retry_after))?;
                let answer_at = begun + UNSEEN_ANSWER;
                let verified = async {
                    verify && self.hashers.verify(keys.network, attempt.password, stored).await == Ok(true)
                };
                if tokio::time::timeout_at(answer_at, verified).await != Ok(true) {
                    tokio::time::sleep_until(answer_at).await;
                    return Err(NotChecked::Network(retry_after));
                }
                true
            }
        };
        if good {
            let now = shared::now();
            self.shared.with(|c| admission::succeeded(c, &self.limits, &keys, admission, now));
        }
        Ok(good)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When its length is not allowed, or with [`Busy`] where too many passwords wait to be hashed.
    pub async fn hash(&self, password: String) -> anyhow::Result<String> {
        let password = SecretString::from(password);
        // Before it waits for a hasher.
        password::check_length(password.expose_secret())?;
        Ok(self.hashers.hash(password).await??)
    }

    /// Stores what was counted last, before the daemon ends.
    pub async fn finish(&self) {
        self.shared.write_group().await;
    }

    /// Holds an attempt; nothing where too many are held.
    fn hold(&self, network: CounterKey) -> Option<Hold<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all: u32 = held.values().sum();
        let own = held.entry(network).or_default();
        if in_all >= MAX_HELD || *own >= MAX_HELD_PER_NETWORK {
            if *own == 0 {
                held.remove(&network);
            }
            return None;
        }
        *own += 1;
        Some(Hold { logins: self, network })
    }
}

/// An attempt that is held; ends when dropped.
struct Hold<'a> {
    logins: &'a Logins,
    network: CounterKey,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.logins.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.network);
            }
        }
    }
}
