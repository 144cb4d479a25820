//! Whether an attempt to sign in is verified now, later, or not. Plain functions over counters and a moment.
//!
//! Counted are the attempts of each network, those at each name from each network, and those at each name. Nothing here
//! depends on whether a user exists, with one exception that no answer shows: see [`Admission::Unseen`].

use std::time::Duration;

use mcpctl_store::CounterKey;
use sha2::{Digest as _, Sha256};

use super::{counters::Counters, network::Network};
use crate::config::{LoginLimits, Rate};

/// How long an attempt is held until its turn; one that would wait longer is refused with the time to wait.
pub const MAX_HOLD: Duration = Duration::from_secs(10);
/// Failures at one name from everywhere after which its guessers are slowed: 100 in an hour (NIST SP 800-63B, 5.2.2).
/// The first attempt from each network is verified all the same.
const MANY_GUESSES: Rate = Rate::new(100, 36);
/// Attempts at such a name from one network.
const CAUTIOUS: Rate = Rate::new(1, 60);
/// Attempts at one existing name beyond the network's rate.
const UNSEEN_PER_NAME: Rate = Rate::new(3, 30);

/// What an attempt is counted by. Digests, so that a long name takes no more room than a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Attempts of this network.
    pub network: CounterKey,
    /// Attempts at this name from this network.
    pub pair: CounterKey,
    /// Attempts at this name.
    pub name: CounterKey,
    /// Attempts beyond the network's rate.
    unseen: CounterKey,
    /// Those at this name.
    unseen_pair: CounterKey,
}

impl Keys {
    /// `stored` is the hash of the user's password: a new password begins with full counters, on each replica.
    pub fn new(network: Network, name: &str, stored: Option<&str>) -> Self {
        let (network, stored) = (network.to_string(), stored.unwrap_or_default());
        Self {
            network: digest("network", &[&network]),
            pair: digest("pair", &[&network, name, stored]),
            name: digest("name", &[name, stored]),
            unseen: digest("unseen", &[&network]),
            unseen_pair: digest("unseen pair", &[&network, name, stored]),
        }
    }

    /// What [`admit`] looks at first.
    pub fn seen(&self) -> [CounterKey; 3] {
        [self.network, self.pair, self.name]
    }

    /// What it looks at where the network is beyond its rate.
    pub fn unseen(&self) -> [CounterKey; 2] {
        [self.unseen, self.unseen_pair]
    }
}

fn digest(what: &str, parts: &[&str]) -> CounterKey {
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

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is verified after this time, and the caller gets the outcome.
    Open(Duration),
    /// The network is beyond its rate, and the answer is 429 with `Retry-After`. A good password is accepted all the same
    /// where `verify` says so, which is where the user exists and few tried lately. A bad one gets the answer, at the
    /// time, that an attempt which is not verified gets, so the caller cannot tell.
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

/// Decides about an attempt and counts it where it is verified, so that what is not verified takes no room.
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
    // A configuration that is stricter already stays so.
    let cautious = many_guesses && limits.per_name.every < CAUTIOUS.every;
    let per_name = if cautious { CAUTIOUS } else { limits.per_name };
    let wait = counters.wait(&keys.pair, per_name, now);
    if wait > MAX_HOLD {
        return Admission::Refused(wait.saturating_sub(MAX_HOLD));
    }
    counters.charge(keys.network, limits.per_network, now);
    counters.charge(keys.pair, per_name, now);
    // Not further than to its rate, so that caution ends soon after the guesses do.
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

/// Gives attempts back after a success. Those of the network are given back one by one, so that who has one password
/// does not get to guess others.
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

/// Half of what the network has besides, at half the rate.
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
            Keys::new(Network::of(peer, &Default::default(), &Default::default()), name, None)
        }

        fn attempt(&mut self, network: u8, name: &str, exists: bool) -> Admission {
            let keys = Self::keys(network, name);
            admit(&mut self.counters, &self.limits, &keys, exists, self.now)
        }
    }

    #[test]
    fn guesses_at_a_name_are_slowed_and_nobody_else_is() {
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
    fn made_up_names_of_one_network_refuse_nobody() {
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

    /// Whether a user exists changes nothing that a caller sees.
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
    fn guessers_of_one_name_in_many_networks_are_slowed_and_its_user_is_not_refused() {
        let mut world = World::new();
        for network in 0..200 {
            world.attempt(network, "carol", true);
        }
        assert_eq!(world.attempt(201, "carol", true), Admission::Open(Duration::ZERO));
        assert_eq!(world.attempt(201, "carol", true), Admission::Refused(Duration::from_secs(50)));
        assert_eq!(world.attempt(201, "bob", true), Admission::Open(Duration::ZERO));
    }

    #[test]
    fn a_success_gives_back_the_names_attempts_and_one_of_the_networks() {
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
        let reset = Keys::new(Network::Local, "carol", Some("$argon2id$new"));
        assert!(reset.pair != Keys::new(Network::Local, "carol", Some("$argon2id$old")).pair);
        assert!(network.pair != network.name && network.network != network.unseen);
    }
}
