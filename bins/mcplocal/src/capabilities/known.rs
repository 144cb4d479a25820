//! What a server said of itself, kept for a while. It is asked by need and never on a timer; what is known already is
//! used at once and refreshed beside.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Asked, Found};

/// After so long the server is asked again: its user may have loaded another model.
const FRESH: Duration = Duration::from_secs(60);

/// The memory of one server. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    found: Mutex<Option<(Instant, Arc<Found>)>>,
    asking: tokio::sync::Mutex<()>,
}

impl Known {
    /// What was said last.
    pub fn last(&self) -> Option<Arc<Found>> {
        self.lock().as_ref().map(|(_, found)| Arc::clone(found))
    }

    /// What is known; where nothing is, the server is asked.
    ///
    /// # Errors
    /// Why it does not tell.
    pub async fn get(&self, asked: &Asked) -> Result<Arc<Found>, String> {
        let known = self.lock().clone();
        match known {
            Some((at, found)) if at.elapsed() < FRESH => Ok(found),
            Some((_, found)) => {
                self.refresh(asked);
                Ok(found)
            }
            None => self.ask(asked).await,
        }
    }

    /// Asks beside whatever goes on, unless somebody does already.
    pub fn refresh(&self, asked: &Asked) {
        let (known, asked) = (self.clone(), asked.clone());
        tokio::spawn(async move {
            if let Ok(_asking) = known.0.asking.try_lock() {
                match asked.ask().await {
                    Ok(found) => drop(known.remember(found)),
                    Err(_) => known.forget(),
                }
            }
        });
    }

    /// The server failed: what it said may not be true any more.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    async fn ask(&self, asked: &Asked) -> Result<Arc<Found>, String> {
        let _asking = self.0.asking.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(found) = self.last() {
            return Ok(found);
        }
        Ok(self.remember(asked.ask().await?))
    }

    fn remember(&self, found: Found) -> Arc<Found> {
        let found = Arc::new(found);
        *self.lock() = Some((Instant::now(), Arc::clone(&found)));
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<Found>)>> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
