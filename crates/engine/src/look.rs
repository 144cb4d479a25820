//! Whether everything is there that a start needs. File systems may hang for as long as a server does, so they are looked at
//! beside everything else, and a bounded number of times at once.

use std::time::Duration;

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use crate::{EngineOptions, EngineSpec, SpecError};

/// A disk that spins up needs a few seconds.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Looks at once, those that hang included.
static LOOKS: Semaphore = Semaphore::const_new(16);

impl EngineSpec {
    /// Whether the engine could be started now.
    ///
    /// # Errors
    /// What is wrong, else what is missing.
    pub async fn check_available(&self, options: &EngineOptions) -> Result<(), SpecError> {
        let (spec, options) = (self.clone(), options.clone());
        let looked = async move {
            let permit = LOOKS.acquire().await.ok();
            let looked = spawn_blocking(move || {
                // Held until the look has ended, and not until its caller lost patience.
                let _permit = permit;
                spec.check_start(&options)
            });
            looked.await.unwrap_or(Err(SpecError::Silent))
        };
        timeout(LOOK_TIMEOUT, looked).await.unwrap_or(Err(SpecError::Silent))
    }

    /// As [`Self::check_available`], where waiting for a disk does no harm.
    pub(crate) fn check_start(&self, options: &EngineOptions) -> Result<(), SpecError> {
        self.validate()?;
        options.check()?;
        self.check()?;
        options.check_files()
    }
}
