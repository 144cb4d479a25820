//! What a failover leaves behind: a log line, counts, and an entry of the journal.

use jiff::Timestamp;
use mcpctl_failover::{FailureClass, Served, Trail};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::Failure;

use super::Reply;
use crate::{app::App, http::error::LocalHttpError, journal::Entry};

/// Log, count and journal what happened; before the first byte goes out.
pub(super) fn account(
    app: &App,
    llm: &str,
    trail: &Trail,
    class: Option<FailureClass>,
    result: &Result<Served<Reply>, Failure>,
) -> Result<(), LocalHttpError> {
    let Some(provider) = &trail.provider else { return Ok(()) };
    for access in &trail.probes {
        app.metrics.probe(access.as_str());
    }
    let served = result.as_ref().is_ok_and(|served| served.failover);
    let access = trail.probes.iter().map(|access| access.as_str()).collect::<Vec<_>>();
    // Forbidden and unreachable stay apart for those who watch.
    let (outcome, counted) = match (served, &trail.local_error) {
        (true, _) => ("served", "served"),
        (false, Some(_)) => ("failed", "failed"),
        (false, None) => ("refused", access.last().copied().unwrap_or("refused")),
    };
    let class = class.map(FailureClass::as_str);
    let local_error = trail.local_error.as_ref().map(ToString::to_string);
    let reason = local_error.or_else(|| trail.probe_error.clone());
    app.metrics.traffic.failover(Configured::resolved(llm), class.unwrap_or("connect"), counted);
    let primary = match (result, trail.primary_called) {
        (_, false) => "rests",
        (Ok(served), true) if !served.failover => "answered after all",
        _ => "failed",
    };
    tracing::warn!(
        llm,
        provider,
        primary,
        class,
        ?access,
        outcome,
        reason,
        "a local provider was to stand in"
    );
    let entry = Entry::Failover {
        at: Timestamp::now(),
        request: mcpctl_server::request_id(),
        llm: llm.to_owned(),
        provider: provider.clone(),
        class: class.map(str::to_owned),
        access,
        outcome,
        reason,
    };
    match app.record(entry) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::error!(%error, "the journal cannot be written");
            // INVARIANT 14: nothing is done in the centre's place that is not on record.
            if served { Err(LocalHttpError::no_journal()) } else { Ok(()) }
        }
    }
}
