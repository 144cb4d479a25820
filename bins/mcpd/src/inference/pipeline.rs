//! The steps of an inference request, from top to bottom. The caller is authenticated before; the result is rendered
//! after.

use std::{sync::Arc, time::Instant};

use mcpctl_access::{Permit, Principal, Stored, verb::Run};
use mcpctl_api::{Kind, Name, Verb};
use mcpctl_dialect::{self as dialect, translate::error_event};
use mcpctl_failover::FailureClass;
use mcpctl_telemetry::Configured;
use mcpctl_upstream::hops;

use super::{
    access::AccessEnded,
    account,
    attempt::{Attempt, AttemptAnswer, Span},
    call::Call,
    chain::Chain,
    outcome::{InferenceError, InferenceOutcome, InferenceRequest, InferenceResponse},
};
use crate::{app::App, audit::Entry, caller::Caller};

/// Authorizes, routes, relays and accounts for a request.
///
/// # Errors
/// When no attempt was made, or a row could not be recorded. A failure of the provider is no error.
pub async fn run(
    app: &Arc<App>,
    caller: Caller,
    request: InferenceRequest,
) -> Result<InferenceResponse, InferenceError> {
    let arrived = Instant::now();
    let Caller { principal, snapshot, .. } = &caller;
    // Before any lookup or record, so that a request in a loop costs as little as possible.
    hops::check(&request.headers, app.inference.client.instance())?;

    // Read before authorize, because the body names the Llm. Nothing else in it is trusted.
    let asked = dialect::Request::read(request.operation, request.body)?;
    let named = match &request.llm {
        Some(llm) => llm.clone(),
        None => asked.require_model()?.to_owned(),
    };
    account::named(request.operation, &named);

    // Authorize in the snapshot that the caller was authenticated in, which is as new as the store was on arrival.
    let decision = snapshot.authorize(principal, Kind::Llm, &named);
    let entry = app.audit.decision(principal, Kind::Llm, &named, snapshot.revision(), &decision);
    let permit = match decision {
        Ok(permit) => permit,
        Err(denied) => {
            app.audit.record(entry).await?;
            return Err(denied.into());
        }
    };
    let llm = permit.resource().name().clone();
    let access = Arc::new(app.access.watch(caller.bearer(), principal, permit.resource()));
    let ended = access.ended();
    let call = Call { app: Arc::clone(app), caller, asked, headers: request.headers, arrived, access };
    let call = Arc::new(call);
    let ran = tokio::select! {
        // First, so that a request that has ended already sends nothing.
        biased;
        Some(ended) = ended => Err(ended),
        ran = run_chain(&call, permit, entry) => Ok(ran),
    };
    let lost = LostAccess { app: Arc::clone(app), principal: call.caller.principal.clone(), llm };
    match ran {
        Ok(Ok(response)) => Ok(cut_when_access_ends(&call, response, lost)),
        Ok(Err(error)) => Err(error),
        Err(ended) => {
            lost.record(ended).await;
            Err(ended.into())
        }
    }
}

/// Cuts the stream of a response when access ends. From another task, because the caller may not read.
fn cut_when_access_ends(call: &Call, response: InferenceResponse, lost: LostAccess) -> InferenceResponse {
    if let InferenceOutcome::Stream { body, .. } = &response.outcome {
        let (cutter, operation, ended) = (body.cutter(), call.asked.operation, call.access.ended());
        tokio::spawn(mcpctl_server::in_request_scope(async move {
            let Some(ended) = ended.await else { return };
            let last = error_event(operation, &ended.to_string(), ended.kind(), ended.code());
            if cutter.cut(last) {
                lost.record(ended).await;
            }
        }));
    }
    response
}

/// A running request, should its caller lose access.
struct LostAccess {
    app: Arc<App>,
    principal: Principal,
    llm: Name,
}

impl LostAccess {
    async fn record(&self, ended: AccessEnded) {
        let Self { app, principal, llm } = self;
        tracing::warn!(%llm, principal = %principal.subject, "a running request is ended: {ended}");
        let revision = app.replica.latest().revision();
        let reason = ended.to_string();
        let entry = app.audit.denial(principal, Verb::Run, Kind::Llm, llm.as_str(), revision, &reason);
        // The request ends, whether or not the row is stored.
        if let Err(error) = app.audit.record(entry).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the denial could not be stored");
        }
    }
}

/// Runs the Llm, and the fallbacks that it has for the caller. Where none answers, the response is the Llm's own failure.
async fn run_chain(
    call: &Call,
    permit: Permit<Run>,
    entry: Entry,
) -> Result<InferenceResponse, InferenceError> {
    let caller = &call.caller;
    let llm = Arc::clone(permit.resource());
    let mut turns = Turns { chain: Chain::new(&llm), span: Span::new(call.arrived), llm };
    turns.span.entries.push(entry);
    let skipped = call.skipped(&turns.llm).filter(|class| turns.chain.leads_on(caller, &turns.llm, *class));
    let (class, own) = match skipped {
        Some(class) => (class, None),
        None => {
            let ran = call.run_llm(caller, permit, &mut turns.span).await;
            match failure_class(&ran) {
                Some(class) => (class, Some(ran)),
                None => return Ok(ran?.into_response(turns.span.attempts)),
            }
        }
    };
    turns.chain.failed(&turns.llm, class);
    if let Some(attempt) = turns.fall_back(call, caller, class).await? {
        let response = attempt.into_response(turns.span.attempts);
        return Ok(InferenceResponse { failover: Some(class), ..response });
    }
    let attempt = match own {
        // INVARIANT 3: the failure of the Llm that the caller asked for, whatever its fallbacks did.
        Some(ran) => ran,
        // The breaker skipped it, and nothing else answered.
        None => {
            let Caller { principal, snapshot, .. } = caller;
            let permit = snapshot.authorize(principal, Kind::Llm, turns.llm.id().as_str())?;
            call.run_llm(caller, permit, &mut turns.span).await
        }
    };
    Ok(attempt?.into_response(turns.span.attempts))
}

/// The turns of the Llms that one request may go to.
struct Turns {
    /// The Llm that was asked for.
    llm: Arc<Stored>,
    chain: Chain,
    span: Span,
}

impl Turns {
    /// Runs the fallbacks until one answers; `None` where none does. `class` is how the Llm that was asked for failed.
    ///
    /// # Errors
    /// When a row could not be recorded.
    async fn fall_back(
        &mut self,
        call: &Call,
        caller: &Caller,
        class: FailureClass,
    ) -> Result<Option<Attempt>, InferenceError> {
        let Self { llm, chain, span } = self;
        let (app, Caller { principal, snapshot, .. }) = (&call.app, caller);
        let count = |outcome| {
            app.metrics.inference.fallback(Configured::resolved(llm.name().as_str()), outcome);
        };
        while let Some(permit) = chain.next(caller) {
            let fallback = Arc::clone(permit.resource());
            let (name, decision) = (fallback.name(), Ok(permit));
            if let Some(class) = call.skipped(&fallback) {
                chain.failed(&fallback, class);
                count("skipped");
                continue;
            }
            // INVARIANT 7: on record as every other decision.
            let revision = snapshot.revision();
            span.entries.push(app.audit.decision(principal, Kind::Llm, name.as_str(), revision, &decision));
            let ran = call.run_llm(caller, decision?, span).await;
            let failed = failure_class(&ran);
            match (ran, failed) {
                (Err(error @ InferenceError::Store(_)), _) => return Err(error),
                (ran, Some(failed)) => {
                    let error = ran.err().map(|error| error.to_string());
                    tracing::warn!(llm = %llm.name(), fallback = %name, class = failed.as_str(), error, "a fallback failed");
                    chain.failed(&fallback, failed);
                    count(failed.as_str());
                }
                (Err(error), None) => {
                    tracing::warn!(llm = %llm.name(), fallback = %name, %error, "a fallback cannot answer");
                    count("refused");
                }
                (Ok(attempt), None) => {
                    tracing::warn!(llm = %llm.name(), fallback = %name, class = class.as_str(), "a fallback answers");
                    count("served");
                    return Ok(Some(attempt));
                }
            }
        }
        Ok(None)
    }
}

/// The class in which an Llm failed: its provider's, or that of a credential that cannot be used.
fn failure_class(ran: &Result<Attempt, InferenceError>) -> Option<FailureClass> {
    match ran {
        Ok(Attempt { answer: AttemptAnswer::Failed { failure, .. }, .. }) => Some(failure.class),
        Err(InferenceError::Misconfigured { .. }) => Some(FailureClass::UpstreamCredentials),
        Ok(_) | Err(_) => None,
    }
}
