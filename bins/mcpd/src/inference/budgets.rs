//! The retry budget of each upstream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpctl_relay::RetryBudget;

/// Retry budgets by the key of their upstream.
#[derive(Debug, Default)]
pub struct RetryBudgets(Mutex<HashMap<String, Arc<RetryBudget>>>);

impl RetryBudgets {
    /// The budget of this upstream.
    pub fn of(&self, upstream: &str) -> Arc<RetryBudget> {
        let mut budgets = self.budgets();
        if let Some(budget) = budgets.get(upstream) {
            return Arc::clone(budget);
        }
        Arc::clone(budgets.entry(upstream.to_owned()).or_default())
    }

    /// Removes the budgets of upstreams that are gone. A request that still runs keeps its own.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.budgets().retain(|upstream, _| keep(upstream));
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<String, Arc<RetryBudget>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
