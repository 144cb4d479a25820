//! After the first byte: a stream of the primary's that broke goes on at the local provider, where `failover.midStream` allows it.
//!
//! The break counts as a failure of the primary, and the router decides anew, as for every failover: the probe with the caller's
//! own bearer, the engine, the journal, and only then the prompt. The error of the stream that broke is what else the caller gets.

use std::sync::Arc;

use futures::FutureExt as _;
use mcpctl_api::spec::MidStream;
use mcpctl_failover::{FailureClass, LlmRef, LocalAttempt, LocalError, Routed, Trail, machine::AccessGrant};
use mcpctl_relay::{Broken, NextAttempt, Recovery};
use mcpctl_upstream::Failure;

use super::{
    Content, ModelRequest, access, account,
    local::{self, FailoverAttempt, PreparedProvider},
};
use crate::{app::Runtime, providers::LocalProvider};

/// The class in the journal, in the log and in metrics.
const CLASS: FailureClass = FailureClass::BrokenStream;

/// The recovery of the primary's stream; `None` where no local provider goes on with it. It keeps the request until the stream has
/// ended.
pub(super) fn recovery(request: &Arc<ModelRequest>) -> Option<Recovery> {
    mid_stream(&request.runtime, &request.llm)?;
    let Some(kept) = request.for_stream() else {
        tracing::info!("a stream cannot be resumed: the memory for requests of streams is used up");
        return None;
    };
    // Once: a local stream that breaks ends with the error.
    let mut next_request = Some(kept);
    let next = Box::new(move |broken| {
        let request = next_request.take();
        async move { next(&request?, broken).await }.boxed()
    });
    Recovery::of_untouched(&request.request, next)
}

/// What becomes of broken streams of an Llm; `None` for the error.
fn mid_stream(runtime: &Runtime, llm: &LlmRef) -> Option<MidStream> {
    let (_, provider) = runtime.registry.failover_for(&llm.name)?;
    Some(provider.config.failover.mid_stream).filter(|mid_stream| *mid_stream != MidStream::Error)
}

async fn next(request: &ModelRequest, broken: Broken) -> Option<NextAttempt> {
    let ModelRequest { app, caller, llm, .. } = request;
    // The configuration as it is now.
    let runtime = app.runtime.load_full();
    // INVARIANT 10: but for the server. The bearer was for the one that the request began at, and that one's feed watches over it.
    if !Arc::ptr_eq(&runtime.access, &request.runtime.access) {
        return None;
    }
    let prefix = broken.prefix.filter(|_| mid_stream(&runtime, llm) == Some(MidStream::Continue));
    mid_stream(&runtime, llm)?;
    let failover = request.failover();
    let broke = || async { Err(Failure::new(FailureClass::ServerError, "its stream broke")) };
    let local = ResumingAttempt { attempt: FailoverAttempt { request, llm }, prefix };
    let routed: Routed<NextAttempt, Failure> =
        runtime.router.run(&runtime.registry, &failover, broke, &local).await;
    let Routed { result, mut trail } = routed;
    trail.primary = Some(CLASS);
    let provider = trail.provider.clone();
    let routed = Routed { result, trail };
    account::failover(app, llm, caller, &routed);
    let served = routed.result.ok()?;
    // The head of the response has named what began it.
    mcpctl_server::access_line(|line| {
        line.served_by = provider;
        line.failover = Some(CLASS.as_str().to_owned());
        line.attempts = line.attempts.map(|attempts| attempts.saturating_add(1));
    });
    Some(served.value)
}

/// The fallback of a broken stream to the Llm's local provider.
struct ResumingAttempt<'a> {
    attempt: FailoverAttempt<'a>,
    /// The delivered text, where it may be continued.
    prefix: Option<String>,
}

impl LocalAttempt<LocalProvider, NextAttempt> for ResumingAttempt<'_> {
    type Ready = PreparedProvider;

    async fn prepare(&self, provider: &LocalProvider, trail: &Trail) -> Result<PreparedProvider, LocalError> {
        LocalAttempt::<_, Content>::prepare(&self.attempt, provider, trail).await
    }

    async fn run(
        &self,
        _: &LocalProvider,
        prepared: PreparedProvider,
        grant: AccessGrant,
        trail: &Trail,
    ) -> Result<NextAttempt, LocalError> {
        let recorded = self.attempt.record(&prepared, Some(CLASS), trail).await?;
        let request = self.attempt.request;
        let access = prepared.renewed(trail, &grant);
        let resuming = local::resume(request, prepared, recorded, self.prefix.as_deref());
        let Some(access) = access else { return resuming.await };
        let next = access::while_allowed(request, &access, resuming).await?;
        access::cut_when_ended(request, &access);
        Ok(next)
    }
}
