//! Ends a local request when its caller's access ends: while it waits for an engine, while a whole answer is written, and while a
//! stream is on its way, read or not.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use mcpctl_dialect::translate::error_event;
use mcpctl_failover::{AccessEnded, LocalCause, LocalError, Trail};
use mcpctl_relay::Cutter;

use super::ModelRequest;
use crate::{
    access::{AccessWatch, RunningRequest},
    app::App,
};

/// What cuts the stream that the caller reads, once there is one.
pub(super) type StreamCutter = Arc<OnceLock<Cutter>>;

/// Watches over a request that a probe or a lease allowed.
pub(super) fn watch(request: &ModelRequest, trail: &Trail) -> Arc<AccessWatch> {
    let ModelRequest { runtime, caller, llm, .. } = request;
    Arc::new(runtime.access.watch(RunningRequest {
        llm: llm.clone(),
        bearer: caller.bearer.clone(),
        signed_in: caller.local,
        llm_id: trail.llm_id.clone(),
        asked_at: trail.asked_at.unwrap_or_else(Instant::now),
        allowance: trail.allowance.clone(),
    }))
}

/// Runs `work` while access lasts; it is cancelled with it.
pub(super) async fn while_allowed<T>(
    request: &ModelRequest,
    access: &AccessWatch,
    work: impl Future<Output = Result<T, LocalError>>,
) -> Result<T, LocalError> {
    tokio::select! {
        // First, so that a request that has ended already sends nothing.
        biased;
        Some(ended) = access.ended() => {
            report(&request.app, &request.llm.name, ended);
            Err(LocalError { cause: LocalCause::AccessEnded(ended.code()), reason: ended.to_string() })
        }
        result = work => result,
    }
}

/// Cuts the caller's stream when access ends. From another task, because the caller may not read.
pub(super) fn cut_when_ended(request: &ModelRequest, access: &AccessWatch) {
    let (ended, cutter) = (access.ended(), Arc::clone(&request.cutter));
    let (app, llm, operation) =
        (Arc::clone(&request.app), request.llm.name.clone(), request.request.operation);
    tokio::spawn(mcpctl_server::in_request_scope(async move {
        let Some(ended) = ended.await else { return };
        // INVARIANT 13: an error event, and nothing that looks like the end of the answer.
        let last = error_event(operation, &ended.to_string(), ended.kind(), ended.code());
        if cutter.get().is_some_and(|cutter| cutter.cut(last)) {
            report(&app, &llm, ended);
        }
    }));
}

fn report(app: &App, llm: &str, ended: AccessEnded) {
    tracing::warn!(llm, "a local request is ended: {ended}");
    app.metrics.access_ended(ended.reason());
}
