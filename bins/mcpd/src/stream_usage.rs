//! Which Llms have providers that refuse `stream_options`, so that each is asked only once whether it takes it. What is
//! not remembered costs one more refusal.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mcpctl_access::Stored;
use mcpctl_api::{Id, Revision};

/// The most Llms that are remembered.
const MAX_LLMS: usize = 4096;
/// How long: a provider may be taught it by its next version.
const REMEMBERED_FOR: Duration = Duration::from_secs(60 * 60);

/// The refusals of this process.
#[derive(Debug, Default)]
pub struct StreamUsage(Mutex<HashMap<Id, Refusal>>);

#[derive(Debug)]
struct Refusal {
    /// Of the Llm: one that was changed may have another provider.
    revision: Revision,
    at: Instant,
}

impl StreamUsage {
    /// Whether the provider of this Llm refused it lately.
    pub fn is_refused(&self, llm: &Stored, now: Instant) -> bool {
        let refusals = self.refusals();
        let refusal = refusals.get(llm.id());
        refusal.is_some_and(|refusal| {
            refusal.revision == llm.resource.revision && now.duration_since(refusal.at) < REMEMBERED_FOR
        })
    }

    /// The provider refused it, and answered without it.
    pub fn refused(&self, llm: &Stored, now: Instant) {
        let mut refusals = self.refusals();
        if refusals.len() >= MAX_LLMS {
            refusals.retain(|_, refusal| now.duration_since(refusal.at) < REMEMBERED_FOR);
        }
        if refusals.len() >= MAX_LLMS {
            refusals.clear();
        }
        refusals.insert(llm.id().clone(), Refusal { revision: llm.resource.revision, at: now });
    }

    fn refusals(&self) -> MutexGuard<'_, HashMap<Id, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
