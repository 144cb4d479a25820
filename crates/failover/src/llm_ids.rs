//! The ids of the Llms that have a local provider, as mcpd's *allowed* answers to probes of their names brought them: a caller who
//! names an Llm by its id gets the provider that is configured for its name. It gives no access; mcpd judges the id itself.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::llm::{LlmId, LlmRef};

/// Most names that are kept; beyond them the one that was confirmed first is dropped.
const MAX_NAMES: usize = 256;

/// Ids by name.
#[derive(Debug, Default)]
pub struct LlmIds(Mutex<Vec<KnownId>>);

#[derive(Debug)]
struct KnownId {
    name: String,
    id: LlmId,
    /// When mcpd confirmed it last.
    confirmed: Instant,
}

impl LlmIds {
    /// mcpd answered a probe of this Llm with this id. An answer to a probe of an id does not have the name.
    pub fn learn(&self, llm: &LlmRef, id: &LlmId, now: Instant) {
        if llm.asked == id.as_str() {
            return;
        }
        let mut known = self.lock();
        // The name may have been another Llm's; an id has one name.
        known.retain(|entry| entry.name != llm.asked && entry.id != *id);
        known.push(KnownId { name: llm.asked.clone(), id: id.clone(), confirmed: now });
        let surplus = known.len().saturating_sub(MAX_NAMES);
        known.drain(..surplus);
    }

    /// The name of the Llm with this id.
    pub fn name_of(&self, id: &str) -> Option<String> {
        let known = self.lock();
        known.iter().find(|entry| entry.id.as_str() == id).map(|entry| entry.name.clone())
    }

    /// Whether the id of this name was confirmed within `max_age`.
    pub fn is_fresh(&self, name: &str, now: Instant, max_age: Duration) -> bool {
        let known = self.lock();
        let entry = known.iter().find(|entry| entry.name == name);
        entry.is_some_and(|entry| now.saturating_duration_since(entry.confirmed) < max_age)
    }

    /// Forgets all, as another mcpd has other ids.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<KnownId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_leads_to_the_name_that_mcpd_confirmed_last() {
        let (ids, now) = (LlmIds::default(), Instant::now());
        let [one, two] = ["id-1", "id-2"].map(LlmId::new);
        ids.learn(&LlmRef::named("claude"), &one, now);
        assert_eq!(ids.name_of("id-1").as_deref(), Some("claude"));
        assert_eq!(ids.name_of("claude"), None);

        // Made again under the same name: another Llm.
        ids.learn(&LlmRef::named("claude"), &two, now);
        assert_eq!((ids.name_of("id-1"), ids.name_of("id-2").as_deref()), (None, Some("claude")));
        // Renamed.
        ids.learn(&LlmRef::named("sonnet"), &two, now);
        assert_eq!(ids.name_of("id-2").as_deref(), Some("sonnet"));
        assert!(!ids.is_fresh("claude", now, Duration::from_secs(9)));
        // A probe of the id does not confirm a name.
        ids.learn(&LlmRef::by_id(&one, "sonnet"), &one, now);
        assert_eq!(ids.name_of("id-1"), None);

        let is_fresh = |age| ids.is_fresh("sonnet", now + Duration::from_secs(age), Duration::from_secs(9));
        assert_eq!((is_fresh(8), is_fresh(9)), (true, false));
    }

    #[test]
    fn names_have_a_bound() {
        let (ids, now) = (LlmIds::default(), Instant::now());
        for number in 0..MAX_NAMES + 5 {
            ids.learn(&LlmRef::named(format!("n{number}")), &LlmId::new(&format!("id-{number}")), now);
        }
        assert_eq!(ids.lock().len(), MAX_NAMES);
        assert_eq!((ids.name_of("id-4"), ids.name_of("id-5").as_deref()), (None, Some("n5")));
    }
}
