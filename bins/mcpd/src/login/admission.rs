//! Decides whether a login attempt is verified now, later, or not. Pure functions of counters and a time.
//!
//! Attempts are counted by network, by network and name, and by name. No decision depends on whether the user exists, with
//! one exception that no response shows: see [`Admission::Unseen`].

use std::time::Duration;

use jiff::Timestamp;
use mcpctl_store::CounterKey;
use sha2::{Digest as _, Sha256};

use super::{counters::Counters, network::Network};
use crate::config::{LoginLimits, Rate};

/// How long an attempt is held until it is within the rate; one that would wait longer is rejected with `Retry-After`.
pub const MAX_HOLD: Duration = Duration::from_secs(10);
/// Failures at one name from all networks after which guesses at it are slowed: 100 in an hour (NIST SP 800-63B, 5.2.2).
/// The first attempt from each network is verified all the same.
const MANY_GUESSES: Rate = Rate::new(100, 36);
/// Rate of attempts at such a name from one network.
const CAUTIOUS: Rate = Rate::new(1, 60);
/// Rate of attempts at one existing name beyond the network's rate.
const UNSEEN_PER_NAME: Rate = Rate::new(3, 30);

/// The counters of an attempt. Digests, so that a long name takes no more memory than a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Attempts from this network.
    pub network: CounterKey,
    /// Attempts at this name from this network.
    pub pair: CounterKey,
    /// Attempts at this name.
    pub name: CounterKey,
    /// Attempts from this network beyond its rate.
    unseen: CounterKey,
    /// Attempts at this name from this network beyond its rate.
    unseen_pair: CounterKey,
}

impl Keys {
    /// `stored` is the hash of the user's password, and `lifted_at` when an administrator lifted the throttling: after each of them
    /// every replica begins with full counters.
    pub fn new(network: Network, name: &str, stored: Option<&str>, lifted_at: Option<Timestamp>) -> Self {
        let network = network.to_string();
        let lifted = lifted_at.map(|at| format!(" {at}")).unwrap_or_default();
        let stored = format!("{}{lifted}", stored.unwrap_or_default());
        let stored = stored.as_str();
        Self {
            network: digest("network", &[&network]),
            pair: digest("pair", &[&network, name, stored]),
            name: digest("name", &[name, stored]),
            unseen: digest("unseen", &[&network]),
            unseen_pair: digest("unseen pair", &[&network, name, stored]),
        }
    }

    /// The counters of a network alone.
    pub fn of_network(network: Network) -> [CounterKey; 2] {
        let keys = Self::new(network, "", None, None);
        [keys.network, keys.unseen]
    }

    /// The counters that [`admit`] checks if the network is within its rate.
    pub fn seen(&self) -> [CounterKey; 3] {
        [self.network, self.pair, self.name]
    }

    /// The counters that [`admit`] checks if the network is beyond its rate.
    pub fn unseen(&self) -> [CounterKey; 2] {
        [self.unseen, self.unseen_pair]
    }
}

pub fn digest(what: &str, parts: &[&str]) -> CounterKey {
    let mut hasher = Sha256::new();
    for part in std::iter::once(&what).chain(parts) {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let whole: [u8; 32] = hasher.finalize().into();
    let mut key = CounterKey::default();
    key.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    key
}

/// The decision about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is verified after this time, and the caller gets the result.
    Open(Duration),
    /// The network is beyond its rate: 429 with `Retry-After`. If `verify` is set, which needs an existing user and few
    /// recent attempts, a right password is accepted all the same. A wrong one gets the same response, at the same time,
    /// as an attempt that is not verified, so that the caller cannot distinguish them.
    Unseen {
        /// Whether the password is verified.
        verify: bool,
        /// When the network may try again.
        retry_after: Duration,
    },
    /// Too many attempts at this name from this network: 429 with `Retry-After`.
    Refused(Duration),
}

/// Whether the network is beyond its rate.
pub fn is_beyond_rate(counters: &Counters, limits: &LoginLimits, keys: &Keys, now: i64) -> bool {
    !counters.wait(&keys.network, limits.per_network, now).is_zero()
}

/// Decides about an attempt, and counts it if it is verified, so that others take no memory.
pub fn admit(
    counters: &mut Counters,
    limits: &LoginLimits,
    keys: &Keys,
    exists: bool,
    now: i64,
) -> Admission {
    let retry_after = counters.wait(&keys.network, limits.per_network, now);
    if !retry_after.is_zero() {
        let verify = exists && admit_unseen(counters, limits, keys, now);
        return Admission::Unseen { verify, retry_after };
    }
    let many_guesses = !counters.wait(&keys.name, MANY_GUESSES, now).is_zero();
    // A configuration that is stricter stays in force.
    let cautious = many_guesses && limits.per_name.every < CAUTIOUS.every;
    let per_name = if cautious { CAUTIOUS } else { limits.per_name };
    let wait = counters.wait(&keys.pair, per_name, now);
    if wait > MAX_HOLD {
        return Admission::Refused(wait.saturating_sub(MAX_HOLD));
    }
    counters.charge(keys.network, limits.per_network, now);
    counters.charge(keys.pair, per_name, now);
    // Not charged beyond its rate, so that caution ends soon after the guesses end.
    if !many_guesses {
        counters.charge(keys.name, MANY_GUESSES, now);
    }
    Admission::Open(wait)
}

fn admit_unseen(counters: &mut Counters, limits: &LoginLimits, keys: &Keys, now: i64) -> bool {
    let per_network = unseen_per_network(limits);
    let in_time = counters.wait(&keys.unseen_pair, UNSEEN_PER_NAME, now).is_zero()
        && counters.wait(&keys.unseen, per_network, now).is_zero();
    if in_time {
        counters.charge(keys.unseen_pair, UNSEEN_PER_NAME, now);
        counters.charge(keys.unseen, per_network, now);
    }
    in_time
}

/// Refunds attempts after a success. The network gets back one attempt only, so that a caller with one password cannot
/// buy guesses at others.
pub fn succeeded(counters: &mut Counters, limits: &LoginLimits, keys: &Keys, admission: Admission, now: i64) {
    match admission {
        Admission::Open(_) => {
            counters.refund(keys.network, limits.per_network, now);
            counters.refund(keys.name, MANY_GUESSES, now);
        }
        Admission::Unseen { .. } => counters.refund(keys.unseen, unseen_per_network(limits), now),
        Admission::Refused(_) => return,
    }
    counters.reset(keys.pair, now);
    counters.reset(keys.unseen_pair, now);
}

/// The network's rate for unseen attempts: half its burst, at half its rate.
fn unseen_per_network(limits: &LoginLimits) -> Rate {
    let Rate { burst, every } = limits.per_network;
    Rate { burst: (burst / 2).max(1), every: mcpctl_api::HumanDuration(every.0 * 2) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mcpctl_server::Peer;

    use super::*;

    const NOW: i64 = 1_800_000_000_000_000;
    const SECOND: i64 = 1_000_000;

    struct World {
        counters: Counters,
        limits: LoginLimits,
        now: i64,
    }

    impl World {
        fn new() -> Self {
            Self { counters: Counters::default(), limits: LoginLimits::default(), now: NOW }
        }

        fn keys(network: u8, name: &str) -> Keys {
            let peer = Peer::Tcp((Ipv4Addr::new(192, 0, 2, network), 1).into());
            Keys::new(Network::of(peer, &Default::default(), &Default::default()), name, None, None)
        }

        fn attempt(&mut self, network: u8, name: &str, exists: bool) -> Admission {
            let keys = Self::keys(network, name);
            admit(&mut self.counters, &self.limits, &keys, exists, self.now)
        }
    }

    #[test]
    fn guesses_at_a_name_slow_only_their_network() {
        let mut world = World::new();
        for _ in 0..5 {
            assert_eq!(world.attempt(1, "carol", true), Admission::Open(Duration::ZERO));
        }
        assert_eq!(world.attempt(1, "carol", true), Admission::Open(MAX_HOLD));
        assert_eq!(world.attempt(1, "carol", true), Admission::Refused(Duration::from_secs(10)));
        assert_eq!(world.attempt(2, "carol", true), Admission::Open(Duration::ZERO));
        assert_eq!(world.attempt(1, "bob", true), Admission::Open(Duration::ZERO));
    }

    #[test]
    fn made_up_names_refuse_no_other_attempt() {
        let mut world = World::new();
        let mut open = 0;
        for number in 0..10_000 {
            match world.attempt(1, &format!("made-up-{number}"), false) {
                Admission::Open(_) => open += 1,
                other => assert!(matches!(other, Admission::Unseen { verify: false, .. }), "{other:?}"),
            }
        }
        assert_eq!(open, 20);
        assert!(matches!(world.attempt(1, "carol", true), Admission::Unseen { verify: true, .. }));
        assert_eq!(world.attempt(2, "carol", true), Admission::Open(Duration::ZERO));
    }

    #[test]
    fn spraying_existing_names_is_slowed() {
        let mut world = World::new();
        let mut verified = 0;
        for number in 0..1000 {
            verified += usize::from(match world.attempt(1, &format!("user-{number}"), true) {
                Admission::Open(_) => true,
                Admission::Unseen { verify, .. } => verify,
                Admission::Refused(_) => false,
            });
        }
        assert_eq!(verified, 30, "a burst of 20, and 10 more unseen");
    }

    /// Whether the user exists changes nothing that a caller sees.
    #[test]
    fn existing_and_made_up_names_get_the_same_answers() {
        let (mut one, mut other) = (World::new(), World::new());
        let shown = |admission| match admission {
            Admission::Unseen { retry_after, .. } => Admission::Unseen { verify: false, retry_after },
            other => other,
        };
        for step in 0..5000_usize {
            let (network, name) = (u8::try_from(step % 3).unwrap(), format!("n{}", step * step % 23));
            let pair = (one.attempt(network, &name, true), other.attempt(network, &name, false));
            assert_eq!(shown(pair.0), shown(pair.1), "step {step}");
            one.now += SECOND / 7;
            other.now = one.now;
        }
    }

    #[test]
    fn guesses_from_many_networks_are_slowed_and_the_user_is_not() {
        let mut world = World::new();
        for network in 0..200 {
            world.attempt(network, "carol", true);
        }
        assert_eq!(world.attempt(201, "carol", true), Admission::Open(Duration::ZERO));
        assert_eq!(world.attempt(201, "carol", true), Admission::Refused(Duration::from_secs(50)));
        assert_eq!(world.attempt(201, "bob", true), Admission::Open(Duration::ZERO));
    }

    #[test]
    fn a_success_refunds_the_name_and_one_of_the_network() {
        let mut world = World::new();
        for _ in 0..4 {
            world.attempt(1, "carol", true);
        }
        let admission = world.attempt(1, "carol", true);
        succeeded(&mut world.counters, &world.limits, &World::keys(1, "carol"), admission, NOW);
        for number in 0..16 {
            let name = if number < 5 { "carol".to_owned() } else { format!("n{number}") };
            assert_eq!(world.attempt(1, &name, true), Admission::Open(Duration::ZERO), "{number}");
        }
        assert!(matches!(world.attempt(1, "dave", true), Admission::Unseen { .. }));
    }

    #[test]
    fn a_new_password_begins_with_full_counters() {
        let network = World::keys(1, "carol");
        let keys = |hash, lifted_at| Keys::new(Network::Local, "carol", Some(hash), lifted_at);
        let old = keys("$argon2id$old", None);
        assert!(keys("$argon2id$new", None).pair != old.pair);
        let lifted = keys("$argon2id$old", Some(Timestamp::UNIX_EPOCH));
        assert!(lifted.pair != old.pair && lifted.name != old.name && lifted.network == old.network);
        assert!(network.pair != network.name && network.network != network.unseen);
    }
}
