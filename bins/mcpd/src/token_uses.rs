//! When tokens were last used. Uses are kept in memory and stored once a minute, all at once: a request costs no write, and
//! what a killed process loses is a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use mcpctl_api::Id;
use mcpctl_store::{Store, StoreError};

/// The uses that are not yet stored. There is at most one of each token that was accepted within a minute.
#[derive(Default)]
pub struct TokenUses(Mutex<HashMap<Id, Timestamp>>);

impl TokenUses {
    /// Notes that a token was accepted.
    pub fn note(&self, token: &Id, now: Timestamp) {
        let mut uses = self.pending();
        match uses.get_mut(token) {
            Some(at) => *at = now.max(*at),
            None => {
                uses.insert(token.clone(), now);
            }
        }
    }

    /// When each token was last used: what is stored, and what this process has not yet stored.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn all(&self, store: &Store) -> Result<HashMap<Id, Timestamp>, StoreError> {
        let mut uses = store.token_uses().await?;
        merge(&mut uses, self.pending().clone());
        Ok(uses)
    }

    /// As [`TokenUses::all`], of these tokens alone.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of(&self, store: &Store, tokens: &[Id]) -> Result<HashMap<Id, Timestamp>, StoreError> {
        let mut uses = store.token_uses_of(tokens).await?;
        let pending = self.pending();
        let own = tokens.iter().filter_map(|token| Some((token.clone(), *pending.get(token)?)));
        let own = own.collect();
        drop(pending);
        merge(&mut uses, own);
        Ok(uses)
    }

    /// Stores what is not yet stored. Where that fails, it is kept for the next time.
    pub async fn store(&self, store: &Store) {
        let uses = std::mem::take(&mut *self.pending());
        if uses.is_empty() {
            return;
        }
        if let Err(error) = store.record_token_uses(&uses).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "last uses of tokens could not be stored"
            );
            merge(&mut self.pending(), uses);
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn merge(uses: &mut HashMap<Id, Timestamp>, others: HashMap<Id, Timestamp>) {
    for (token, at) in others {
        uses.entry(token).and_modify(|known| *known = at.max(*known)).or_insert(at);
    }
}
