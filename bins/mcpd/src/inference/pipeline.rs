//! The steps of an inference request, from top to bottom. The caller is authenticated before; the result is rendered
//! after.

use std::{sync::Arc, time::Instant};

use mcpctl_access::{Permit, Principal, verb::Run};
use mcpctl_api::{Kind, Name, Verb};
use mcpctl_dialect::{self as dialect, translate::error_event};
use mcpctl_upstream::hops;

use super::{
    access::AccessEnded,
    account,
    attempt::{Attempt, failure_class},
    call::Call,
    outcome::{InferenceError, InferenceOutcome, InferenceRequest, InferenceResponse},
    resumption::Resumption,
    turns::Turns,
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
    let in_flight = app.in_flight.admit(&principal.id)?;
    let access = Arc::new(app.access.watch(&caller, &permit, in_flight));
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
pub(super) struct LostAccess {
    /// What all requests share.
    pub app: Arc<App>,
    /// Its caller.
    pub principal: Principal,
    /// The Llm that the caller asked for.
    pub llm: Name,
}

impl LostAccess {
    /// Records that the request was ended.
    pub async fn record(&self, ended: AccessEnded) {
        let Self { app, principal, llm } = self;
        tracing::warn!(%llm, "a running request is ended: {ended}");
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
    call: &Arc<Call>,
    permit: Permit<Run>,
    entry: Entry,
) -> Result<InferenceResponse, InferenceError> {
    let (caller, asked) = (&call.caller, &call.asked);
    let mut turns = Turns::new(Arc::clone(permit.resource()), call.arrived, entry);
    let skipped = call.skipped(&turns.llm).filter(|class| turns.chain.leads_on(caller, &turns.llm, *class));
    let (class, own) = match skipped {
        Some(class) => (class, None),
        None => {
            let ran = call.run_llm(caller, asked, permit, &mut turns.span).await;
            match failure_class(&ran) {
                Some(class) => (class, Some(ran)),
                None => return Ok(begin(call, turns, ran?)),
            }
        }
    };
    turns.chain.failed(&turns.llm, class);
    if let Some(attempt) = turns.fall_back(call, caller, class).await? {
        return Ok(InferenceResponse { failover: Some(class), ..begin(call, turns, attempt) });
    }
    let attempt = match own {
        // INVARIANT 3: the failure of the Llm that the caller asked for, whatever its fallbacks did.
        Some(ran) => ran,
        // The breaker skipped it, and nothing else answered.
        None => {
            let Caller { principal, snapshot, .. } = caller;
            let permit = snapshot.authorize(principal, Kind::Llm, turns.llm.id().as_str())?;
            call.run_llm(caller, asked, permit, &mut turns.span).await
        }
    };
    Ok(begin(call, turns, attempt?))
}

/// Begins the response with an attempt. Should its stream break, the fallbacks that are left go on with it as far as `midStream`
/// allows.
fn begin(call: &Arc<Call>, turns: Turns, attempt: Attempt) -> InferenceResponse {
    let attempts = turns.span.attempts;
    let (answering, upstream) = (Arc::clone(&attempt.llm), Arc::clone(&attempt.upstream));
    attempt.into_response(attempts, || Resumption::of(call, turns, answering, upstream))
}
