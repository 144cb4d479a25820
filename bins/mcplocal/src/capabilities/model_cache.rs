//! Caches what a server reports about its model. The server is asked when a request needs it, never on a timer; a cached
//! report is used at once and refreshed in the background.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{ModelInfo, ModelProbe, ModelProbeError};

/// A report is refreshed after this time, because the server's user may have loaded another model.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The cache of one server. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ModelCache(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    found: Mutex<Option<(Instant, Arc<ModelInfo>)>>,
    asking: tokio::sync::Mutex<()>,
}

impl ModelCache {
    /// The last report.
    pub fn last(&self) -> Option<Arc<ModelInfo>> {
        self.lock().as_ref().map(|(_, found)| Arc::clone(found))
    }

    /// The last report, if it is fresh.
    pub fn fresh(&self) -> Option<Arc<ModelInfo>> {
        let known = self.lock();
        known.as_ref().filter(|(at, _)| at.elapsed() < MAX_AGE).map(|(_, found)| Arc::clone(found))
    }

    /// A new report, or the one that another caller got while this one waited.
    ///
    /// # Errors
    /// Why the server gives none.
    pub async fn anew(&self, asked: &ModelProbe) -> Result<Arc<ModelInfo>, ModelProbeError> {
        let _asking = self.0.asking.lock().await;
        match self.fresh() {
            Some(found) => Ok(found),
            None => Ok(self.remember(asked.ask().await?)),
        }
    }

    /// The last report; asks the server where there is none.
    ///
    /// # Errors
    /// Why the server gives none.
    pub async fn get(&self, asked: &ModelProbe) -> Result<Arc<ModelInfo>, ModelProbeError> {
        let known = self.lock().clone();
        match known {
            Some((at, found)) if at.elapsed() < MAX_AGE => Ok(found),
            Some((_, found)) => {
                self.refresh(asked);
                Ok(found)
            }
            None => self.anew(asked).await,
        }
    }

    /// Refreshes the report in the background, unless that is in progress.
    pub fn refresh(&self, asked: &ModelProbe) {
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

    /// Makes the report stale, because the server failed.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn remember(&self, found: ModelInfo) -> Arc<ModelInfo> {
        let found = Arc::new(found);
        *self.lock() = Some((Instant::now(), Arc::clone(&found)));
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<ModelInfo>)>> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;

    #[tokio::test(start_paused = true)]
    async fn old_report_is_known_and_not_fresh() {
        let known = ModelCache::default();
        let capabilities = Capabilities::default();
        known.remember(ModelInfo { models: Vec::new(), model: None, capabilities, refuses_key: false });
        tokio::time::advance(MAX_AGE - Duration::from_millis(1)).await;
        assert!(known.fresh().is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(known.fresh().is_none() && known.last().is_some());
        known.forget();
        assert!(known.last().is_none());
    }
}
