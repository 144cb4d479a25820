//! When each device code was polled last, so that each causes at most one request to the provider at a time, and one a second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

/// The least time between two polls of one code (RFC 8628, section 3.5, has 5 s by default; providers ask for fewer).
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum of codes: those that a provider knows, within [`MIN_INTERVAL`], and those that are being polled.
const MAX_CODES: usize = 4096;

/// The codes that are polled now, or were within the last second. The digests of codes, so that a long one takes no more memory.
#[derive(Debug, Default)]
pub struct DevicePolls(Mutex<HashMap<Digest, Polled>>);

type Digest = [u8; 32];

#[derive(Debug, Clone, Copy)]
enum Polled {
    Now,
    At(Instant),
}

/// A poll of a code. While it lasts there is no other one of the same code.
#[derive(Debug)]
pub struct DevicePoll<'a> {
    polls: &'a DevicePolls,
    code: Digest,
    pending_at: Option<Instant>,
}

impl DevicePolls {
    /// Begins a poll; `None` if the code is being polled or was just now, or too many are.
    pub fn begin(&self, code: &str, now: Instant) -> Option<DevicePoll<'_>> {
        let code: Digest = Sha256::digest(code.as_bytes()).into();
        let mut polled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        polled.retain(|_, polled| match polled {
            Polled::Now => true,
            Polled::At(at) => now.duration_since(*at) < MIN_INTERVAL,
        });
        if polled.len() >= MAX_CODES || polled.contains_key(&code) {
            return None;
        }
        polled.insert(code, Polled::Now);
        Some(DevicePoll { polls: self, code, pending_at: None })
    }
}

impl DevicePoll<'_> {
    /// The provider knows the code, and no person has answered yet: it may be polled again a second later.
    pub fn is_pending(&mut self, now: Instant) {
        self.pending_at = Some(now);
    }
}

impl Drop for DevicePoll<'_> {
    fn drop(&mut self) {
        let mut polled = self.polls.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.pending_at {
            Some(at) => polled.insert(self.code, Polled::At(at)),
            // Made-up codes take no memory.
            None => polled.remove(&self.code),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_polled_by_one_at_a_time_and_once_a_second() {
        let (polls, now) = (DevicePolls::default(), Instant::now());
        let mut first = polls.begin("a", now).unwrap();
        assert!(polls.begin("a", now).is_none() && polls.begin("b", now).is_some());
        first.is_pending(now);
        drop(first);
        assert!(polls.begin("a", now).is_none());
        assert!(polls.begin("a", now + MIN_INTERVAL).is_some());
        assert!(
            polls.begin("a", now + MIN_INTERVAL).is_some(),
            "a code that the provider does not know is forgotten"
        );
        let held: Vec<_> = (0..MAX_CODES).map(|code| polls.begin(&code.to_string(), now).unwrap()).collect();
        assert!(polls.begin("c", now).is_none());
        drop(held);
        assert!(polls.begin("c", now).is_some());
    }
}
