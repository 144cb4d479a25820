//! Remembers the upstreams that reject `stream_options`, so that mcpd tries it once for each. A forgotten one costs one more
//! rejected attempt.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mcpctl_access::Stored;
use mcpctl_api::Revision;

/// Maximum of upstreams that are remembered.
const MAX_UPSTREAMS: usize = 4096;
/// How long a rejection is remembered: the provider's next version may accept the field.
const REJECTION_MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// The rejections that this process has seen.
#[derive(Debug, Default)]
pub struct StreamUsage(Mutex<HashMap<String, Rejection>>);

#[derive(Debug)]
struct Rejection {
    /// The Llm's revision: a changed Llm may have another provider.
    revision: Revision,
    at: Instant,
}

impl StreamUsage {
    /// Whether this upstream of an Llm rejected `stream_options` lately.
    pub fn is_rejected(&self, upstream: &str, llm: &Stored, now: Instant) -> bool {
        let rejections = self.rejections();
        let rejection = rejections.get(upstream);
        rejection.is_some_and(|rejection| {
            rejection.revision == llm.resource.revision
                && now.duration_since(rejection.at) < REJECTION_MAX_AGE
        })
    }

    /// Records that the upstream rejected `stream_options`, and accepted the request without it.
    pub fn rejected(&self, upstream: &str, llm: &Stored, now: Instant) {
        let mut rejections = self.rejections();
        if rejections.len() >= MAX_UPSTREAMS {
            rejections.retain(|_, rejection| now.duration_since(rejection.at) < REJECTION_MAX_AGE);
        }
        if rejections.len() >= MAX_UPSTREAMS {
            rejections.clear();
        }
        rejections.insert(upstream.to_owned(), Rejection { revision: llm.resource.revision, at: now });
    }

    fn rejections(&self) -> MutexGuard<'_, HashMap<String, Rejection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
