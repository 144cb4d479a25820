//! When each device code was polled last, so that a program that polls too often causes no request to the provider.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

/// The least time between two polls of one code (RFC 8628, section 3.5, has 5 s by default; providers ask for fewer).
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum of codes; each was known to a provider within [`MIN_INTERVAL`].
const MAX_CODES: usize = 4096;

/// The codes that were polled within the last second. The digests of codes, so that a long one takes no more memory.
#[derive(Debug, Default)]
pub struct DevicePolls(Mutex<HashMap<[u8; 32], Instant>>);

impl DevicePolls {
    /// Whether the code may be polled. Not, if too many codes are being polled.
    pub fn is_due(&self, code: &str, now: Instant) -> bool {
        let mut polled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polled.retain(|_, at| now.duration_since(*at) < MIN_INTERVAL);
        polled.len() < MAX_CODES && !polled.contains_key(&digest(code))
    }

    /// Notes that the code was polled, and that the provider knows it.
    pub fn polled(&self, code: &str, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest(code), now);
    }
}

fn digest(code: &str) -> [u8; 32] {
    Sha256::digest(code.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_polled_once_a_second() {
        let (polls, now) = (DevicePolls::default(), Instant::now());
        assert!(polls.is_due("a", now) && polls.is_due("a", now));
        polls.polled("a", now);
        assert!(!polls.is_due("a", now) && polls.is_due("b", now));
        assert!(polls.is_due("a", now + MIN_INTERVAL));
        (0..MAX_CODES).for_each(|code| polls.polled(&code.to_string(), now));
        assert!(!polls.is_due("c", now) && polls.is_due("c", now + MIN_INTERVAL));
    }
}
