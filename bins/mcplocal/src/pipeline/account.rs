//! What a failover leaves behind: a log line, counts, and entries of the journal.

use std::sync::Arc;

use jiff::Timestamp;
use mcpctl_api::visible::short;
use mcpctl_failover::{FailureClass, Served, Trail};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::Failure;

use super::Reply;
use crate::{
    app::App,
    journal::{FailoverOutcome, JournalEntry, JournalError, MAX_REASON},
};

/// A request whose entry is in the journal, and which a local provider answers now. Dropped before it has, the caller went
/// away, and the journal says so.
pub(super) struct Recorded {
    app: Arc<App>,
    request: String,
    answered: bool,
}

impl Recorded {
    /// Puts the entry on record, before the prompt goes to the local provider.
    ///
    /// # Errors
    /// When the journal cannot be written; then nothing local may run.
    pub(super) fn before(app: &Arc<App>, request: String, entry: JournalEntry) -> Result<Self, JournalError> {
        app.record(entry)?;
        Ok(Self { app: Arc::clone(app), request, answered: false })
    }

    /// The provider answered or failed; how that ends is recorded elsewhere.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if !self.answered {
            let outcome = FailureClass::Cancelled.as_str();
            // Where it cannot be written, the log says so, and the entry that it belongs to stays.
            let _ = self.app.record(JournalEntry::Ended {
                at: Timestamp::now(),
                request: std::mem::take(&mut self.request),
                outcome,
                model: None,
                input_tokens: 0,
                output_tokens: 0,
            });
        }
    }
}

/// Log and count what happened, and put on record what is not yet; before the first byte goes out.
pub(super) fn account(
    app: &App,
    llm: &str,
    who: &str,
    trail: &Trail,
    class: Option<FailureClass>,
    result: &Result<Served<Reply>, Failure>,
) {
    let Some(provider) = &trail.provider else { return };
    for access in &trail.probes {
        app.metrics.probe(access.as_str());
    }
    let served = result.as_ref().is_ok_and(|served| served.failover);
    let access = trail.probes.iter().map(|access| access.as_str()).collect::<Vec<_>>();
    // Forbidden and unreachable stay apart for those who watch.
    let (outcome, counted) = match (served, &trail.local_error) {
        (true, _) => (FailoverOutcome::Served, "served"),
        (false, Some(_)) => (FailoverOutcome::Failed, "failed"),
        (false, None) => (FailoverOutcome::Refused, access.last().copied().unwrap_or("refused")),
    };
    let class = class.map(FailureClass::as_str);
    let local_error = trail.local_error.as_ref().map(ToString::to_string);
    let reason = local_error.or_else(|| trail.probe_error.clone());
    let reason = reason.map(|reason| short(&reason, MAX_REASON));
    app.metrics.traffic.failover(Configured::resolved(llm), class.unwrap_or("connect"), counted);
    let primary = match (result, trail.primary_called) {
        (_, false) => "rests",
        (Ok(served), true) if !served.failover => "answered after all",
        _ => "failed",
    };
    tracing::warn!(
        llm,
        provider,
        who,
        primary,
        class,
        ?access,
        outcome = outcome.as_str(),
        reason,
        "a local provider was to stand in"
    );
    // What was served is on record since before the prompt went out.
    if !served {
        // Nothing ran, so the answer does not depend on it; that it failed is in the log.
        let _ = app.record(JournalEntry::Failover {
            at: Timestamp::now(),
            request: mcpctl_server::request_id(),
            who: who.to_owned(),
            llm: llm.to_owned(),
            provider: provider.clone(),
            class,
            access,
            outcome,
            reason,
        });
    }
}
