//! Repeats writes that mcpd refused for a reason that passes: another writer was first, or this account writes too much at the moment.

use std::{fmt, time::Duration};

use mcpctl_client::ClientError;

use crate::failure::Failure;

/// How often a change is tried that loses to other writers. Each loss is another writer's success.
const MAX_ATTEMPTS: u32 = 20;
/// How long it waits before the first repetition; longer before later ones.
const BACKOFF: Duration = Duration::from_millis(20);
/// How long to wait before a request is repeated that mcpd refused because of too many writes, and the maximum of repetitions.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
const MAX_BUSY: u32 = 120;

/// Why an attempt to read a resource and to write it changed failed.
pub enum Lost {
    /// Another writer was first, so that it is worth another attempt.
    Stale,
    /// Another reason.
    Failed(Failure),
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Self {
        if is_stale(&error) { Self::Stale } else { Self::Failed(error.into()) }
    }
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads and writes until no other writer was first. `what` names the resource in the failure.
pub async fn until_first<T>(
    what: impl fmt::Display,
    mut attempt: impl AsyncFnMut() -> Result<T, Lost>,
) -> Result<T, Failure> {
    for wait in 1..=MAX_ATTEMPTS {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(Lost::Stale) => tokio::time::sleep(BACKOFF * wait).await,
            Err(Lost::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(format!("other changes of {what} were first, {MAX_ATTEMPTS} times"))
        .hint("run it again"))
}

/// Sends a write, and waits while mcpd takes no more changes of this account.
pub async fn while_busy<T>(
    mut request: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    for _ in 0..MAX_BUSY {
        match request().await {
            Err(error) if error.code() == Some("too_many_writes") => {
                tokio::time::sleep(BUSY_INTERVAL).await;
            }
            done => return done,
        }
    }
    request().await
}

/// Whether a write was refused because another one was first.
pub fn is_stale(error: &ClientError) -> bool {
    error.status().is_some_and(|status| status.as_u16() == 412)
}
