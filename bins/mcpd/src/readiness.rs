//! Whether requests can be served, for load balancers and operators: the store gives a fresh snapshot and takes rows. A
//! decision has to be on record before a request gets its answer, so a full disk is a reason not to be ready.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use jiff::Timestamp;
use mcpctl_api::{Kind, Revision};
use mcpctl_store::{AuditRow, Decision, Store, StoreError, Trouble};

use crate::app::App;

/// How long the outcome of a write is good for. The route is open to strangers, and each write waits for the disk.
const KEPT: Duration = Duration::from_secs(1);

type Outcome = (Instant, Result<(), Trouble>);

/// Shares one trial write among all who ask at about the same time.
#[derive(Default)]
pub struct Readiness {
    latest: Mutex<Option<Shared<BoxFuture<'static, Outcome>>>>,
}

/// Whether requests can be served now.
///
/// # Errors
/// When the store cannot be read or takes no rows.
pub async fn check(app: &App) -> Result<(), Trouble> {
    app.fresh().await.map_err(|error| logged(&error))?;
    app.readiness.recordable(&app.store).await
}

impl Readiness {
    async fn recordable(&self, store: &Store) -> Result<(), Trouble> {
        loop {
            let (ended, outcome) = self.latest(store).await;
            // Old where those who asked for it had left before it came.
            if ended.elapsed() < KEPT {
                return outcome;
            }
        }
    }

    fn latest(&self, store: &Store) -> Shared<BoxFuture<'static, Outcome>> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some(trial) if trial.peek().is_none_or(|(ended, _)| ended.elapsed() < KEPT) => trial.clone(),
            _ => {
                // A task of its own, so that a caller who leaves does not cut the write off.
                let trial = tokio::spawn(trial(store.clone()));
                let trial = trial.map(|outcome| outcome.unwrap_or((Instant::now(), Err(Trouble::Other))));
                latest.insert(trial.boxed().shared()).clone()
            }
        }
    }
}

async fn trial(store: Store) -> Outcome {
    let outcome = store.check_recordable(&row()).await.map_err(|error| logged(&error));
    (Instant::now(), outcome)
}

fn logged(error: &StoreError) -> Trouble {
    tracing::warn!(error = error as &dyn std::error::Error, "not ready");
    error.trouble()
}

/// Never seen: it is removed in the transaction that stores it.
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
