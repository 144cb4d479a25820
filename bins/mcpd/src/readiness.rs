//! Readiness, for load balancers and operators: the store returns a fresh snapshot, stores rows, and has the master key of this process.
//! A decision must be on record before its response is sent, so mcpd is not ready while the disk is full.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use mcpctl_access::Snapshot;
use mcpctl_api::{Kind, Revision};
use mcpctl_store::{AuditRow, Decision, Store, StoreError, StoreFault};

/// How long the result of a trial write is reused. The route needs no credential, and each write waits for the disk.
const TRIAL_MAX_AGE: Duration = Duration::from_secs(1);

/// When a trial write ended, and its result.
type TrialResult = (Instant, Result<(), StoreFault>);

/// Shares one trial write among all requests of about the same time.
#[derive(Default)]
pub struct Readiness {
    latest: Mutex<Option<Shared<BoxFuture<'static, TrialResult>>>>,
    log: Arc<FaultLog>,
}

impl Readiness {
    /// Checks whether requests can be served now: whether a fresh snapshot can be loaded, and a row stored.
    ///
    /// # Errors
    /// When the store cannot be read or stores no rows.
    pub async fn check(
        &self,
        fresh: impl Future<Output = Result<Arc<Snapshot>, StoreError>>,
        store: &Store,
    ) -> Result<(), StoreFault> {
        fresh.await.map_err(|error| self.log.failed(&error))?;
        self.recordable(store).await
    }

    async fn recordable(&self, store: &Store) -> Result<(), StoreFault> {
        loop {
            let (ended, outcome) = self.latest(store).await;
            // A trial whose requests were all cancelled may have ended long ago.
            if ended.elapsed() < TRIAL_MAX_AGE {
                return outcome;
            }
        }
    }

    fn latest(&self, store: &Store) -> Shared<BoxFuture<'static, TrialResult>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(trial) if trial.peek().is_none_or(|(ended, _)| ended.elapsed() < TRIAL_MAX_AGE) => {
                trial.clone()
            }
            _ => {
                // A separate task, so that a cancelled request does not interrupt the write.
                let trial = tokio::spawn(trial(store.clone(), Arc::clone(&self.log)));
                let trial = trial.map(|outcome| outcome.unwrap_or((Instant::now(), Err(StoreFault::Other))));
                latest.insert(trial.boxed().shared()).clone()
            }
        }
    }
}

async fn trial(store: Store, log: Arc<FaultLog>) -> TrialResult {
    let tried = async {
        store.check_master_key().await?;
        store.check_recordable(&row()).await
    };
    let outcome = tried.await.map_err(|error| log.failed(&error));
    if outcome.is_ok() {
        log.recovered();
    }
    (Instant::now(), outcome)
}

/// Logs a fault when it begins, and not at each request.
#[derive(Default)]
struct FaultLog {
    present: Mutex<Option<StoreFault>>,
}

impl FaultLog {
    fn failed(&self, error: &StoreError) -> StoreFault {
        let fault = error.fault();
        if self.replace(Some(fault)) != Some(fault) {
            let hint = fault.hint();
            tracing::warn!(error = error as &dyn std::error::Error, hint, "not ready: {}", fault.message());
        }
        fault
    }

    fn recovered(&self) {
        if self.replace(None).is_some() {
            tracing::info!("ready again");
        }
    }

    fn replace(&self, fault: Option<StoreFault>) -> Option<StoreFault> {
        std::mem::replace(&mut self.present.lock().unwrap_or_else(PoisonError::into_inner), fault)
    }
}

/// The row of a trial write; the transaction that inserts it also deletes it.
fn row() -> AuditRow {
    AuditRow {
        id: uuid::Uuid::now_v7(),
        at: Timestamp::now(),
        principal: "mcpd".to_owned(),
        principal_id: None,
        token_id: None,
        action: "readyz".to_owned(),
        kind: Kind::Llm,
        resource_id: None,
        resource_name: String::new(),
        decision: Decision::Allowed,
        reason: "whether rows can be stored".to_owned(),
        revision: Revision::default(),
        request_id: String::new(),
    }
}
