//! The steps of an inference request, from top to bottom. The caller is authenticated before; the result is rendered
//! after.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use mcpctl_access::{Permit, Stored, verb::Run};
use mcpctl_api::{Kind, Spec, Verb, spec::Capability};
use mcpctl_dialect::{self as dialect, ExtraOperations};
use mcpctl_failover::FailureClass;
use mcpctl_relay::{Exchange, Exchanged, RetryBudget, RetryPolicy, Sender, retry};
use mcpctl_store::StoreError;
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{Answer, Request, Target, hops};

use super::{
    account::{self, Account},
    chain::Chain,
    outcome::{InferenceError, InferenceOutcome, InferenceRequest, InferenceResponse},
    route::{Route, route},
    settlement::Settlement,
};
use crate::{
    app::App,
    audit::Entry,
    caller::Caller,
    limits::{Estimate, LimitError, Standing, estimate},
};

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
    let call = Call { app, caller: &caller, asked: &asked, headers: &request.headers, arrived };
    call.run_chain(permit, entry).await
}

/// A request, read, from a caller who may run the Llm that it names.
struct Call<'a> {
    app: &'a Arc<App>,
    caller: &'a Caller,
    asked: &'a dialect::Request,
    headers: &'a HeaderMap,
    arrived: Instant,
}

impl Call<'_> {
    /// Runs the Llm, and the fallbacks that it has for the caller. Where none answers, the response is the Llm's own failure.
    async fn run_chain(
        &self,
        permit: Permit<Run>,
        entry: Entry,
    ) -> Result<InferenceResponse, InferenceError> {
        let Self { app, caller: Caller { principal, snapshot, .. }, .. } = self;
        let llm = Arc::clone(permit.resource());
        let mut chain = Chain::new(snapshot, principal, &llm);
        let mut span = Span { entries: vec![entry], attempts: 0, longest: Duration::ZERO };
        let (class, own) = match self.skipped(&llm).filter(|class| chain.leads_on(&llm, *class)) {
            Some(class) => (class, None),
            None => {
                let ran = self.run_llm(permit, &mut span).await;
                let Some(class) = failure_class(&ran) else { return ran };
                (class, Some(ran))
            }
        };
        chain.failed(&llm, class);
        let count = |outcome| {
            app.metrics.inference.fallback(Configured::resolved(llm.name().as_str()), outcome);
        };
        while let Some(permit) = chain.next() {
            let fallback = Arc::clone(permit.resource());
            let (name, decision) = (fallback.name(), Ok(permit));
            if let Some(class) = self.skipped(&fallback) {
                chain.failed(&fallback, class);
                count("skipped");
                continue;
            }
            // INVARIANT 7: on record as every other decision.
            let revision = snapshot.revision();
            span.entries.push(app.audit.decision(principal, Kind::Llm, name.as_str(), revision, &decision));
            let ran = self.run_llm(decision?, &mut span).await;
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
                (Ok(response), None) => {
                    tracing::warn!(llm = %llm.name(), fallback = %name, class = class.as_str(), "a fallback answers");
                    count("served");
                    return Ok(InferenceResponse { failover: Some(class), ..response });
                }
            }
        }
        match own {
            // INVARIANT 3: the failure of the Llm that the caller asked for, whatever its fallbacks did.
            Some(ran) => ran.map(|response| InferenceResponse { attempts: span.attempts, ..response }),
            // The breaker skipped it, and nothing else answered.
            None => {
                self.run_llm(snapshot.authorize(principal, Kind::Llm, llm.id().as_str())?, &mut span).await
            }
        }
    }

    /// The class of an Llm's last failure, where its breaker is open.
    fn skipped(&self, llm: &Stored) -> Option<FailureClass> {
        let Spec::Llm(spec) = &llm.resource.spec else { return None };
        self.app.inference.breakers.admit(llm, spec, self.asked).skipped()
    }

    /// Runs one Llm.
    ///
    /// # Errors
    /// When no attempt was made, or a row could not be recorded.
    async fn run_llm(
        &self,
        permit: Permit<Run>,
        span: &mut Span,
    ) -> Result<InferenceResponse, InferenceError> {
        let Self { app, caller, asked, headers, arrived } = *self;
        let Caller { principal, snapshot, .. } = caller;
        let llm = Arc::clone(permit.resource());
        tracing::debug!(llm = %llm.name(), revision = %permit.revision(), "allowed");
        let may_edit = may_view_and_edit(caller, &llm);

        // After authorize, so that only those who may run the Llm learn what it allows. The permit is spent on the route, and
        // the credential is opened only now.
        let routed = check_choice(asked, &llm).and_then(|()| {
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
            let exchange = Exchange::new(asked, &route.target, upstream, usage, headers)?;
            Ok((route, exchange))
        });
        let (route, exchange) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                span.record(app).await?;
                return Err(error);
            }
        };
        // After the route, so that a request that cannot be sent takes nothing; before the provider gets it.
        let (settlement, standings) = match admit(app, caller, &llm, &route, asked).await {
            Ok(admitted) => admitted,
            Err(error) => {
                let (name, revision) = (llm.name().as_str(), snapshot.revision());
                // In place of the decision that allowed it.
                span.entries.pop();
                span.entries.push(app.audit.denial(
                    principal,
                    Verb::Run,
                    Kind::Llm,
                    name,
                    revision,
                    &error.to_string(),
                ));
                span.record(app).await?;
                return Err(error.into());
            }
        };
        let account = Account::open(app, principal, &llm, asked, arrived, settlement);

        // The decision is recorded while the provider works, and before the first byte is sent (INVARIANT 14).
        let deadline = span.deadline(arrived, route.llm.timeouts.answer.0);
        let relayed = relay(app, &llm, &route, &exchange, asked, deadline);
        let (sent, recorded) = tokio::join!(relayed, span.record(app));
        recorded?;

        let retry::RetryOutcome { result, attempts } = sent;
        span.attempts += attempts;
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
                InferenceOutcome::Stream { status, headers, body: Box::new(body) }
            }
            Err(failure) => {
                account.close_failed(&failure, attempts).await?;
                InferenceOutcome::Failed { failure, may_edit }
            }
        };
        let (llm, attempts) = (llm.name().clone(), span.attempts);
        Ok(InferenceResponse { llm, attempts, failover: None, outcome, standings })
    }
}

/// The class in which an Llm failed: its provider's, or that of a credential that cannot be used.
fn failure_class(ran: &Result<InferenceResponse, InferenceError>) -> Option<FailureClass> {
    match ran {
        Ok(InferenceResponse { outcome: InferenceOutcome::Failed { failure, .. }, .. }) => {
            Some(failure.class)
        }
        Err(InferenceError::Misconfigured { .. }) => Some(FailureClass::UpstreamCredentials),
        Ok(_) | Err(_) => None,
    }
}

/// What spans all Llms of one request.
struct Span {
    /// Decisions that are not recorded yet.
    entries: Vec<Entry>,
    attempts: u32,
    /// The longest `timeouts.answer` so far.
    longest: Duration,
}

impl Span {
    /// When an Llm's answer must have begun: within its own `timeouts.answer`, and within the longest one of all that were tried,
    /// from the request's arrival.
    fn deadline(&mut self, arrived: Instant, answer: Duration) -> Instant {
        self.longest = self.longest.max(answer);
        (arrived + self.longest).min(Instant::now() + answer)
    }

    async fn record(&mut self, app: &App) -> Result<(), StoreError> {
        for entry in self.entries.drain(..) {
            app.audit.record(entry).await?;
        }
        Ok(())
    }
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
    let estimate = || Estimate::of(asked.operation, input, asked.choices, asked.output_bound);
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
    asked: &dialect::Request,
    deadline: Instant,
) -> retry::RetryOutcome {
    let passage = app.inference.breakers.admit(llm, &route.llm, asked);
    // An upstream that keeps failing gets one attempt: more would only delay the error.
    let max = if passage.is_suspect() { 0 } else { route.llm.retries.max.into() };
    // One deadline over all attempts, waits included.
    let policy = RetryPolicy { max, deadline };
    let budget = app.inference.budgets.of(llm.id());
    let Exchanged { outcome, rejects_usage } =
        exchange.send(&Attempts { app, llm, target: &route.target, policy, budget: &budget }).await;
    if rejects_usage {
        tracing::info!(llm = %llm.name(), "the provider refuses `stream_options`: usage of its streams is unknown");
        app.inference.stream_usage.rejected(llm, Instant::now());
    }
    // An estimate reached no upstream, so nothing is learned about one.
    if outcome.attempts > 0 {
        passage.settle(outcome.result.as_ref().err().map(|failure| failure.class));
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
