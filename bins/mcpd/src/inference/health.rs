//! How Llms have done in this process: when each was last used, how it last failed, and since when it has done nothing but fail.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use mcpctl_access::Snapshot;
use mcpctl_api::{Id, breaker_status::LlmFailure};
use mcpctl_failover::FailureClass;

/// How each Llm that was used has done.
#[derive(Default)]
pub struct LlmHealth(Mutex<HashMap<Id, Seen>>);

/// How one Llm has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// When a request to it last ended.
    pub last_used_at: Option<Timestamp>,
    /// Its last failure.
    pub last_failure: Option<LlmFailure>,
    /// The first failure since the last answer.
    pub failing_since: Option<Timestamp>,
}

impl LlmHealth {
    /// Records how a request ended. An end that the caller caused is no failure of the Llm.
    pub fn note(&self, llm: &Id, outcome: &str, status: u16, at: Timestamp) {
        let mut all = self.all();
        let seen = all.entry(llm.clone()).or_default();
        seen.last_used_at = Some(at);
        if outcome == "ok" {
            seen.failing_since = None;
        } else if is_failure(outcome) {
            seen.failing_since.get_or_insert(at);
            seen.last_failure = Some(LlmFailure { at, class: outcome.to_owned(), status });
        }
    }

    /// How an Llm has done; nothing where it was not used.
    pub fn of(&self, llm: &Id) -> Seen {
        self.all().get(llm).cloned().unwrap_or_default()
    }

    /// Forgets the Llms that the snapshot has not.
    pub fn retain(&self, snapshot: &Snapshot) {
        self.all().retain(|llm, _| snapshot.by_id(llm).is_some());
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Id, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an outcome is a failure of the Llm: what fails over, and a stream that broke.
fn is_failure(outcome: &str) -> bool {
    let class = FailureClass::ALL.into_iter().find(|class| class.as_str() == outcome);
    class.is_some_and(|class| class.may_fail_over(&[]) || class == FailureClass::BrokenStream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_ends_a_time_of_failures_and_callers_begin_none() {
        let (health, llm) = (LlmHealth::default(), Id::mint());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(health.of(&llm), Seen::default());
        health.note(&llm, "rejected", 400, at(1));
        health.note(&llm, "cancelled", 0, at(2));
        assert_eq!(health.of(&llm), Seen { last_used_at: Some(at(2)), ..Seen::default() });
        health.note(&llm, "connect", 0, at(3));
        health.note(&llm, "server_error", 503, at(4));
        let failure = LlmFailure { at: at(4), class: "server_error".to_owned(), status: 503 };
        let failing = Seen {
            last_used_at: Some(at(4)),
            last_failure: Some(failure.clone()),
            failing_since: Some(at(3)),
        };
        assert_eq!(health.of(&llm), failing);
        health.note(&llm, "ok", 200, at(5));
        let ok = Seen { last_used_at: Some(at(5)), last_failure: Some(failure), failing_since: None };
        assert_eq!(health.of(&llm), ok);
        health.retain(&Snapshot::default());
        assert_eq!(health.of(&llm), Seen::default());
    }
}
