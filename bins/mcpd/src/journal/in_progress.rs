//! Bounds the hand-overs that run at once: one of each account, and few of all. What waits holds its body in memory.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use mcpctl_api::Id;

/// Maximum of hand-overs of all accounts; they take turns at the store in any case.
const MAX_IN_PROGRESS: usize = 16;

/// Another hand-over runs, of this account or too many of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("mcpd takes lines of another journal right now")]
pub struct Busy;

/// The accounts whose lines are taken over now.
#[derive(Debug, Default)]
pub struct HandOvers(Mutex<HashSet<Id>>);

/// A hand-over that runs; counted until it is dropped.
pub struct HandOverInProgress<'a> {
    all: &'a HandOvers,
    account: Id,
}

impl HandOvers {
    /// Begins one.
    ///
    /// # Errors
    /// When one of the account runs, or too many of all.
    pub fn begin(&self, account: &Id) -> Result<HandOverInProgress<'_>, Busy> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_IN_PROGRESS || !all.insert(account.clone()) {
            return Err(Busy);
        }
        Ok(HandOverInProgress { all: self, account: account.clone() })
    }
}

impl Drop for HandOverInProgress<'_> {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_an_account_and_few_of_all_run_at_once() {
        let (all, alice) = (HandOvers::default(), Id::mint());
        let running = all.begin(&alice).unwrap();
        assert_eq!(all.begin(&alice).err(), Some(Busy));
        let others: Vec<_> = (1..MAX_IN_PROGRESS).map(|_| all.begin(&Id::mint()).unwrap()).collect();
        assert_eq!(all.begin(&Id::mint()).err(), Some(Busy));
        drop((running, others));
        assert!(all.begin(&alice).is_ok());
    }
}
