//! The steps of an inference request, from top to bottom. The caller is authenticated before; the result is rendered
//! after.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcpctl_access::{Denied, Stored};
use mcpctl_api::{Kind, Name, Spec, Verb, spec::Capability};
use mcpctl_dialect::{self as dialect, ExtraOperations, Operation, RequestError, translate::Untranslatable};
use mcpctl_failover::FailureClass;
use mcpctl_relay::{
    Exchange, ExchangeError, Exchanged, RetryBudget, RetryPolicy, Sender, body::StreamBody, retry,
};
use mcpctl_store::StoreError;
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{
    Answer, Failure, Request, Target, WholeAnswer,
    hops::{self, HopError},
};

use super::{
    account::{self, Account},
    route::{Misconfigured, Route, route},
    settlement::Settlement,
};
use crate::{
    app::App,
    caller::Caller,
    limits::{Estimate, LimitError, Standing, estimate},
};

/// A request for inference.
pub struct InferenceRequest {
    /// The operation.
    pub operation: Operation,
    /// Name or id of the Llm from the path; the body's `model` names it otherwise.
    pub llm: Option<String>,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
}

/// The result of attempts at a provider.
pub struct InferenceResponse {
    /// The Llm's name.
    pub llm: Name,
    /// How many attempts were made.
    pub attempts: u32,
    /// What the provider returned.
    pub outcome: InferenceOutcome,
    /// How the caller's Limits stand.
    pub standings: Vec<Standing>,
}

/// What the provider returned.
pub enum InferenceOutcome {
    /// A whole response.
    Whole(WholeAnswer),
    /// A stream that has begun.
    Stream {
        /// The provider's status.
        status: StatusCode,
        /// The provider's headers.
        headers: HeaderMap,
        /// The events. They account for themselves when they end.
        body: StreamBody,
    },
    /// The failure of the last attempt.
    Failed {
        /// The failure.
        failure: Failure,
        /// Whether the caller may view and edit the Llm, and so learn where it points.
        may_edit: bool,
    },
}

/// Why no attempt was made.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The request has passed this process before, or too many daemons.
    #[error(transparent)]
    Hops(#[from] HopError),
    /// The body cannot be read.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// The caller may not run the Llm.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A field by which the provider would choose another model, and that the Llm does not allow.
    #[error("`{field}` would let the provider choose the model or the place by itself")]
    ChoosesUpstream {
        /// The field.
        field: String,
        /// The Llm.
        llm: Name,
    },
    /// The Llm's provider serves nothing that can answer the operation.
    #[error(transparent)]
    Untranslatable(#[from] Untranslatable),
    /// The Llm's credential cannot be used.
    #[error("{error}")]
    Misconfigured {
        /// The cause.
        #[source]
        error: Misconfigured,
        /// The Llm.
        llm: Name,
        /// Whether the caller may view and edit the Llm.
        may_edit: bool,
    },
    /// A Limit does not admit the request.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The decision or the usage could not be recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ExchangeError> for InferenceError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Field(error) => Self::Malformed(error),
            ExchangeError::Untranslatable(error) => Self::Untranslatable(error),
        }
    }
}

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
    let llm = Arc::clone(permit.resource());
    tracing::debug!(llm = %llm.name(), revision = %permit.revision(), "allowed");
    let may_edit = may_view_and_edit(&caller, &llm);

    // After authorize, so that only those who may run the Llm learn what it allows. The permit is spent on the route, and
    // the credential is opened only now.
    let routed = check_choice(&asked, &llm).and_then(|()| {
        let misconfigured =
            |error| InferenceError::Misconfigured { error, llm: llm.name().clone(), may_edit };
        route(permit, snapshot, &app.store).map_err(misconfigured)
    });
    let prepared = routed.and_then(|route| {
        let usage = route.llm.stream_usage && !app.inference.stream_usage.is_rejected(&llm, arrived);
        let extra = ExtraOperations {
            responses: route.llm.can(Capability::Responses),
            messages: route.llm.can(Capability::Messages),
        };
        let upstream = asked.operation.at(route.target.api.dialect(), extra);
        let exchange = Exchange::new(&asked, &route.target, upstream, usage, &request.headers)?;
        Ok((route, exchange))
    });
    let (route, exchange) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            app.audit.record(entry).await?;
            return Err(error);
        }
    };
    // After the route, so that a request that cannot be sent takes nothing; before the provider gets it.
    let (settlement, standings) = match admit(app, &caller, &llm, &route, &asked).await {
        Ok(admitted) => admitted,
        Err(error) => {
            let (name, revision) = (llm.name().as_str(), snapshot.revision());
            let refusal =
                app.audit.denial(principal, Verb::Run, Kind::Llm, name, revision, &error.to_string());
            app.audit.record(refusal).await?;
            return Err(error.into());
        }
    };
    let account = Account::open(app, principal, &llm, &asked, arrived, settlement);

    // The decision is recorded while the provider works, and before the first byte is sent (INVARIANT 14).
    let relayed = relay(app, &llm, &route, &exchange, arrived);
    let (sent, recorded) = tokio::join!(relayed, app.audit.record(entry));
    recorded?;

    let retry::RetryOutcome { result, attempts } = sent;
    let outcome = match result {
        Ok(Answer::Whole(whole)) => {
            account.close_whole(&whole, attempts).await?;
            InferenceOutcome::Whole(whole)
        }
        Ok(Answer::Stream(stream)) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            // mcpd always asks for usage, and hides it from callers that did not.
            let on_content = account.on_content();
            let body = exchange.stream(stream, account.on_end(attempts)).on_content(on_content);
            InferenceOutcome::Stream { status, headers, body }
        }
        Err(failure) => {
            account.close_failed(&failure, attempts).await?;
            InferenceOutcome::Failed { failure, may_edit }
        }
    };
    Ok(InferenceResponse { llm: llm.name().clone(), attempts, outcome, standings })
}

/// Reserves what the request may take under the Limits on it.
async fn admit(
    app: &App,
    caller: &Caller,
    llm: &Stored,
    route: &Route,
    asked: &dialect::Request,
) -> Result<(Settlement, Vec<Standing>), LimitError> {
    let price = app.prices.of(&route.llm);
    let input = estimate::input_tokens(asked.operation, asked.body());
    let Caller { principal, snapshot, .. } = caller;
    // The body is read again only if a Limit is on the request.
    let estimate = || Estimate::of(asked.operation, input, asked.choices, asked.body());
    let admission = app.limits.reserve(snapshot, principal, llm, price, estimate).await?;
    Ok((Settlement::new(price, admission.reservation, input), admission.standings))
}

/// Whether the caller may learn where the Llm points and where its credential is kept.
fn may_view_and_edit(caller: &Caller, llm: &Stored) -> bool {
    let Caller { principal, snapshot, .. } = caller;
    let may = |verb| snapshot.authorize_name(principal, verb, Kind::Llm, llm.name().as_str()).is_ok();
    may(Verb::View) && may(Verb::Edit)
}

/// Only the authorized Llm may answer: rejects fields by which its provider would choose another model, unless the Llm
/// allows them.
fn check_choice(asked: &dialect::Request, llm: &Stored) -> Result<(), InferenceError> {
    let Spec::Llm(spec) = &llm.resource.spec else { return Ok(()) };
    match asked.routing_keys.iter().find(|field| !spec.allow_fields.contains(field)) {
        None => Ok(()),
        Some(field) => Err(InferenceError::ChoosesUpstream { field: field.clone(), llm: llm.name().clone() }),
    }
}

async fn relay(
    app: &App,
    llm: &Stored,
    route: &Route,
    exchange: &Exchange,
    arrived: Instant,
) -> retry::RetryOutcome {
    let policy = RetryPolicy {
        max: route.llm.retries.max.into(),
        // One deadline over all attempts, waits included.
        deadline: arrived + route.llm.timeouts.answer.0,
    };
    let budget = app.inference.budgets.of(llm.id());
    let Exchanged { outcome, rejects_usage } =
        exchange.send(&Attempts { app, llm, target: &route.target, policy, budget: &budget }).await;
    if rejects_usage {
        tracing::info!(llm = %llm.name(), "the provider refuses `stream_options`: usage of its streams is unknown");
        app.inference.stream_usage.rejected(llm, Instant::now());
    }
    outcome
}

/// Attempts at a target of an Llm, counted.
struct Attempts<'a> {
    app: &'a App,
    llm: &'a Stored,
    target: &'a Target,
    policy: RetryPolicy,
    budget: &'a RetryBudget,
}

impl Sender for Attempts<'_> {
    async fn send(&self, request: &Request) -> retry::RetryOutcome {
        let Self { app, llm, target, policy, budget } = *self;
        let (name, metrics) = (Configured::resolved(llm.name().as_str()), &app.metrics.inference);
        let on_retry = |class: FailureClass| {
            metrics.attempt(name, class.as_str());
            metrics.retry(name);
        };
        let sent = retry::send(&app.inference.client, target, request, policy, budget, on_retry).await;
        let outcome = sent.result.as_ref().map_or_else(|failure| failure.class.as_str(), |_| "ok");
        metrics.attempt(name, outcome);
        sent
    }
}
