//! Who used how much: adds rows of usage to the sums, and answers questions from the sums.

mod question;
mod report;

use std::time::Duration;

use mcpctl_store::{Store, StoreError};
use tokio::{sync::Mutex, time::timeout};

use crate::{caller::Caller, record_questions::MAX_TIME};

pub use question::{Question, UsageError, first_kept_hour};
pub use report::{MAX_PARTS, PartKey, Report};

/// Maximum of rows that one transaction counts: a request that records waits for it.
pub const COUNT_BATCH: u32 = 200;
/// Maximum of batches that a question waits for.
const MAX_BATCHES: u32 = 20;

/// Counts and answers, for all requests of this process.
#[derive(Default)]
pub struct UsageReports {
    counting: Mutex<()>,
}

impl UsageReports {
    /// Adds rows to the sums, at most so many batches; returns whether none is left. `pause` is between two batches, so that writers
    /// get their turn.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self, store: &Store, max_batches: u32, pause: Duration) -> Result<bool, StoreError> {
        let _turn = self.counting.lock().await;
        for _ in 0..max_batches {
            if store.count_usage(COUNT_BATCH).await? < u64::from(COUNT_BATCH) {
                return Ok(true);
            }
            tokio::time::sleep(pause).await;
        }
        Ok(false)
    }

    /// Answers a question that has its turn, up to the last row that is on record.
    ///
    /// # Errors
    /// When it cannot be answered, or not in time.
    pub async fn answer(
        &self,
        store: &Store,
        caller: &Caller,
        question: Question,
    ) -> Result<Report, UsageError> {
        let answer = async {
            let complete = self.count(store, MAX_BATCHES, Duration::ZERO).await?;
            Report::read(store, caller, question, complete).await
        };
        timeout(MAX_TIME, answer).await.map_err(|_| UsageError::TooLong)?
    }
}
