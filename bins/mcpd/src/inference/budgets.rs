//! The retry budget of each Llm.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_access::Snapshot;
use mcpctl_api::Id;
use mcpctl_relay::RetryBudget;

/// Retry budgets by the id of their Llm.
#[derive(Debug, Default)]
pub struct RetryBudgets(Mutex<HashMap<Id, Arc<RetryBudget>>>);

impl RetryBudgets {
    /// The budget of this Llm.
    pub fn of(&self, llm: &Id) -> Arc<RetryBudget> {
        Arc::clone(self.budgets().entry(llm.clone()).or_default())
    }

    /// Removes the budgets of Llms that the snapshot does not contain. A request that still runs keeps its own.
    pub fn remove_deleted(&self, snapshot: &Snapshot) {
        self.budgets().retain(|llm, _| snapshot.by_id(llm).is_some());
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<Id, Arc<RetryBudget>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_access::Stored;
    use mcpctl_api::{Resource, Revision, Spec};

    use super::*;

    #[test]
    fn budgets_of_deleted_llms_are_removed() {
        let resource = Resource {
            id: Id::mint(),
            name: "l".parse().unwrap(),
            labels: Default::default(),
            revision: Revision(1),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
            spec: Spec::Group(Default::default()),
        };
        let (kept, deleted) = (resource.id.clone(), Id::mint());
        let snapshot = Snapshot::new(Revision(1), [Arc::new(Stored { resource, confidential: None })]);
        let budgets = RetryBudgets::default();
        let budget = budgets.of(&kept);
        budgets.of(&deleted);
        budgets.remove_deleted(&snapshot);
        assert_eq!(budgets.budgets().len(), 1);
        assert!(Arc::ptr_eq(&budget, &budgets.of(&kept)));
    }
}
