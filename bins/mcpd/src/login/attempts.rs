//! Counts attempts to get a credential without a password. Each way has counters of its own, so that a busy CI job or a stranger
//! who makes up codes slows neither another way nor passwords. Pure functions of counters and a time.

use std::time::Duration;

use mcpctl_api::oidc::IssuerUrl;
use mcpctl_store::CounterKey;

use super::{admission::digest, counters::Counters, network::Network};
use crate::config::{LoginLimits, Rate};

/// What is attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// A code of a provider is exchanged, which causes a request to the provider.
    Code,
    /// A device code is begun, which causes one too.
    DeviceCode,
    /// A device code is polled, which causes one too.
    DevicePoll,
    /// A workload's token is exchanged. It is verified first, with keys that are cached, so that only refusals count.
    Exchange,
}

/// By what an attempt is counted.
#[derive(Debug, Clone, Copy)]
pub enum Counted<'a> {
    /// The network that it came from, as long as nothing vouches for the caller.
    Network(Network),
    /// The person or workload that an issuer vouches for.
    Subject {
        /// The issuer.
        issuer: &'a IssuerUrl,
        /// Its id there.
        subject: &'a str,
    },
}

impl Attempt {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Code, Self::DeviceCode, Self::DevicePoll, Self::Exchange];

    /// Why further attempts are not made.
    pub fn excess(self, counted: Counted<'_>) -> &'static str {
        match (self, counted) {
            (Self::Code, _) => "too many sign-ins by a provider from your network did not succeed",
            (Self::DeviceCode, _) => "too many sign-ins with a device code were begun in your network",
            (Self::DevicePoll, _) => "too many device codes from your network are not valid",
            (Self::Exchange, Counted::Network(_)) => "too many tokens from your network are not valid",
            (Self::Exchange, Counted::Subject { .. }) => "too many exchanges of this workload were refused",
        }
    }

    /// Its counter.
    pub fn key(self, counted: Counted<'_>) -> CounterKey {
        let what = match self {
            Self::Code => "code",
            Self::DeviceCode => "device code",
            Self::DevicePoll => "device poll",
            Self::Exchange => "exchange",
        };
        match counted {
            Counted::Network(network) => digest(what, &["network", &network.to_string()]),
            Counted::Subject { issuer, subject } => digest(what, &["subject", issuer.as_str(), subject]),
        }
    }
}

/// The rate of attempts that are counted so.
pub fn rate(limits: &LoginLimits, counted: Counted<'_>) -> Rate {
    match counted {
        Counted::Network(_) => limits.per_network,
        Counted::Subject { .. } => limits.per_name,
    }
}

/// Counts an attempt.
///
/// # Errors
/// The time after which the next one is within the rate.
pub fn admit(counters: &mut Counters, key: CounterKey, rate: Rate, now: i64) -> Result<(), Duration> {
    let wait = counters.wait(&key, rate, now);
    if !wait.is_zero() {
        return Err(wait);
    }
    counters.charge(key, rate, now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000_000;

    #[test]
    fn no_way_slows_another_and_no_person_a_network() {
        let (mut counters, limits) = (Counters::default(), LoginLimits::default());
        let issuer: IssuerUrl = "https://id.example.com".parse().unwrap();
        let network = Counted::Network(Network::Local);
        let person = |subject| Counted::Subject { issuer: &issuer, subject };
        let mut admitted = |attempt: Attempt, counted: Counted<'_>| {
            admit(&mut counters, attempt.key(counted), rate(&limits, counted), NOW).is_ok()
        };
        for attempt in Attempt::ALL {
            assert_eq!((0..100).filter(|_| admitted(attempt, network)).count(), 20, "{attempt:?}");
            assert_eq!((0..100).filter(|_| admitted(attempt, person("a"))).count(), 5, "{attempt:?}");
            assert!(admitted(attempt, person("b")), "{attempt:?}");
        }
    }
}
