//! Password verification: bounds how often it may be tried, and how many passwords are hashed at once.
//!
//! An attempt is counted by its network first, then by name and network. Beyond a rate it is slowed, and rejected only if
//! another caller in the same network keeps guessing; guesses from other networks never reject a user. What callers see
//! does not depend on whether a user exists. Replicas share the counters through the store.

mod admission;
mod attempts;
mod counters;
mod fair_queue;
mod hashers;
mod network;
mod shared_counters;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use jiff::Timestamp;
use mcpctl_secret::password;
use mcpctl_server::Peer;
use mcpctl_store::{CounterKey, Store, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use crate::config::{LoginLimits, TrustedProxies};
use admission::{Admission, Keys};
use hashers::Hashers;
use shared_counters::SharedCounters;

pub use attempts::{Attempt, Counted};
pub use hashers::Busy;
pub use network::Network;

/// How long an attempt beyond its network's rate waits for its response, verified or not. Longer than a verification
/// takes.
const UNSEEN_RESPONSE_TIME: Duration = Duration::from_secs(2);
/// Maximum of attempts held at once, of all networks and of each; further ones are rejected.
const MAX_HELD: u32 = 4096;
const MAX_HELD_PER_NETWORK: u32 = 1024;
/// `Retry-After` when all places are taken.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One login attempt.
pub struct LoginAttempt<'a> {
    /// The user's name; it has the shape of a name.
    pub name: &'a str,
    /// The network that the attempt comes from.
    pub network: Network,
    /// The password of the request.
    pub password: SecretString,
    /// The hash of the user's password, if the user exists and may sign in.
    pub stored: Option<&'a str>,
    /// When an administrator lifted the throttling of attempts as this user.
    pub lifted_at: Option<Timestamp>,
}

/// Why an attempt was not verified.
#[derive(Debug, thiserror::Error)]
pub enum NotChecked {
    /// Too many attempts at this name from this network.
    #[error("too many attempts to sign in as this user from your network")]
    Name(Duration),
    /// Too many attempts from this network.
    #[error("too many attempts to sign in from your network")]
    Network(Duration),
    /// Too many attempts of a way without a password.
    #[error("{excess}")]
    Attempts {
        /// Of which way, by whom.
        excess: &'static str,
        /// When the next one is within the rate.
        wait: Duration,
    },
    /// Too many passwords wait to be hashed, or too many requests to a provider are under way.
    #[error("too many attempts to sign in at once")]
    Busy(Duration),
    /// The attempt could not be counted, so it is denied (INVARIANT 8).
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts login attempts and verifies passwords.
pub struct Logins {
    limits: LoginLimits,
    trusted_proxies: TrustedProxies,
    hashers: Hashers<CounterKey>,
    shared: Arc<SharedCounters>,
    held: Mutex<HashMap<CounterKey, u32>>,
}

impl Logins {
    /// Starts the hashers, and the tasks that share counters with other replicas.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        store: Store,
        limits: LoginLimits,
        trusted_proxies: TrustedProxies,
    ) -> std::io::Result<Self> {
        let hashers = Hashers::start(limits.hashers, limits.waiting)?;
        let shared = SharedCounters::start(store);
        Ok(Self { limits, trusted_proxies, hashers, shared, held: Mutex::default() })
    }

    /// Whether this is the address of a proxy whose `X-Forwarded-For` counts.
    pub fn trusts_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.contains(address)
    }

    /// The network that a request is counted by.
    pub fn network(&self, peer: Peer, headers: &HeaderMap) -> Network {
        Network::of(peer, headers, &self.trusted_proxies)
    }

    /// Maximum of sessions of one user.
    pub fn max_sessions(&self) -> usize {
        usize::try_from(self.limits.sessions).unwrap_or(usize::MAX)
    }

    /// Waits until the attempt may be verified, then returns whether the password is the user's.
    ///
    /// # Errors
    /// When the attempt may not be verified now.
    pub async fn check(&self, attempt: LoginAttempt<'_>) -> Result<bool, NotChecked> {
        let begun = Instant::now();
        let keys = Keys::new(attempt.network, attempt.name, attempt.stored, attempt.lifted_at);
        let exists = attempt.stored.is_some();
        let now = shared_counters::now();
        // A network that is beyond its rate here needs no read of the store.
        let beyond = self.shared.with(|c| admission::is_beyond_rate(c, &self.limits, &keys, now));
        if beyond && exists {
            self.shared.read(&keys.unseen()).await?;
        } else if !beyond {
            self.shared.read(&keys.seen()).await?;
        }
        let now = shared_counters::now();
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
                verified.map_err(|Busy| NotChecked::Busy(BUSY_RETRY_AFTER))?
            }
            Admission::Unseen { verify, retry_after } => {
                let retry_after = retry_after.max(BUSY_RETRY_AFTER);
                let _held = self.hold(keys.network).ok_or(NotChecked::Network(retry_after))?;
                let answer_at = begun + UNSEEN_RESPONSE_TIME;
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
            let now = shared_counters::now();
            self.shared.with(|c| admission::succeeded(c, &self.limits, &keys, admission, now));
        }
        Ok(good)
    }

    /// Counts an attempt of a way without a password.
    ///
    /// # Errors
    /// When too many were counted, or it cannot be counted.
    pub async fn admit(&self, attempt: Attempt, counted: Counted<'_>) -> Result<(), NotChecked> {
        let (key, rate) = (attempt.key(counted), attempts::rate(&self.limits, counted));
        self.shared.read(&[key]).await?;
        let now = shared_counters::now();
        let admitted = self.shared.with(|counters| attempts::admit(counters, key, rate, now));
        let excess = attempt.excess(counted);
        admitted.map_err(|wait| NotChecked::Attempts { excess, wait: wait.max(BUSY_RETRY_AFTER) })
    }

    /// Refunds an attempt of a network: it succeeded, was not made, waits for a person, or is counted otherwise.
    pub fn refund(&self, attempt: Attempt, network: Network) {
        let counted = Counted::Network(network);
        let (key, rate, now) =
            (attempt.key(counted), attempts::rate(&self.limits, counted), shared_counters::now());
        self.shared.with(|counters| counters.refund(key, rate, now));
    }

    /// Lets all attempts from a network count anew: here at once, at other replicas by the time that the network would wait.
    pub fn lift(&self, network: Network) {
        let now = shared_counters::now();
        let ways = Attempt::ALL.map(|attempt| attempt.key(Counted::Network(network)));
        self.shared.with(|counters| {
            for key in Keys::of_network(network).into_iter().chain(ways) {
                counters.reset(key, now);
            }
        });
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When its length is not allowed; [`Busy`] if too many passwords wait to be hashed.
    pub async fn hash(&self, password: String) -> anyhow::Result<String> {
        let password = SecretString::from(password);
        // Checked before it waits for a hasher.
        password::check_length(password.expose_secret())?;
        Ok(self.hashers.hash(password).await??)
    }

    /// Stores the last counts, before the daemon ends.
    pub async fn finish(&self) {
        self.shared.write_group().await;
    }

    /// Counts a held attempt; `None` if too many are held.
    fn hold(&self, network: CounterKey) -> Option<HeldAttempt<'_>> {
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
        Some(HeldAttempt { logins: self, network })
    }
}

/// An attempt that is held until this is dropped.
struct HeldAttempt<'a> {
    logins: &'a Logins,
    network: CounterKey,
}

impl Drop for HeldAttempt<'_> {
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
