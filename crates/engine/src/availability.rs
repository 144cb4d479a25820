//! Checks that everything is there that a start needs. A file system may hang for as long as its server does, so the check
//! runs on a thread of its own, and a bounded number of them at a time.

use std::time::Duration;

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::{EngineOptions, EngineSpec, SpecError};

/// A disk that spins up needs a few seconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Checks at a time, those that hang included.
static CHECKS: Semaphore = Semaphore::const_new(16);

impl EngineSpec {
    /// Checks that the engine could be started now.
    ///
    /// # Errors
    /// What is wrong, else what is missing.
    pub async fn check_available(&self, options: &EngineOptions) -> Result<(), SpecError> {
        let (spec, options) = (self.clone(), options.clone());
        let checked = async move {
            let permit = CHECKS.acquire().await.ok();
            let checked = spawn_blocking(move || {
                // Held until the check has ended, which may be after its timeout.
                let _permit = permit;
                spec.check_start(&options)
            });
            checked.await.unwrap_or(Err(SpecError::Silent))
        };
        timeout(CHECK_TIMEOUT, checked).await.unwrap_or(Err(SpecError::Silent))
    }

    /// As [`Self::check_available`], where waiting for a disk does no harm.
    pub(crate) fn check_start(&self, options: &EngineOptions) -> Result<(), SpecError> {
        self.validate()?;
        options.check()?;
        self.check()?;
        options.check_files()
    }
}
