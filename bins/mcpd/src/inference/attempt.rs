//! One Llm's turn at a request: the route, the reservation, the exchange, the account. What comes of it is an [`Attempt`], of which
//! the caller has seen nothing yet; [`Attempt::into_response`] begins the response with it.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use mcpctl_access::{Permit, Stored, verb::Run};
use mcpctl_api::{Id, Kind, Spec, Verb};
use mcpctl_dialect as dialect;
use mcpctl_failover::FailureClass;
use mcpctl_relay::{CuttableBody, Exchange, NextAttempts, StreamAccount, retry};
use mcpctl_store::StoreError;
use mcpctl_upstream::{Answer, Failure, StreamAnswer, WholeAnswer};

use super::{
    account::{self, Account},
    call::Call,
    outcome::{InferenceError, InferenceOutcome, InferenceResponse},
    route::{Route, route},
    sending::{Relayed, Sending},
    settlement::Settlement,
    targets::Targets,
};
use crate::{
    app::App,
    audit::Entry,
    caller::Caller,
    limits::{Estimate, LimitError, Standing, estimate},
};

/// What came of one Llm.
pub struct Attempt {
    /// The Llm.
    pub llm: Arc<Stored>,
    /// How its provider answered.
    pub answer: AttemptAnswer,
    /// How the caller's Limits stand.
    pub standings: Vec<Standing>,
    /// The key of the upstream that was asked last, by which its breaker is kept.
    pub upstream: Arc<str>,
}

/// How a provider answered.
pub enum AttemptAnswer {
    /// With a whole response, which is accounted for.
    Whole(WholeAnswer),
    /// With a stream that has begun.
    Stream(Box<BegunStream>),
    /// Not at all, which is accounted for.
    Failed {
        /// The failure of the last attempt.
        failure: Failure,
        /// Whether the caller may view and edit the Llm, and so learn where it points.
        may_edit: bool,
    },
}

/// A stream of which nothing was forwarded so far. Dropped, it is accounted for as cancelled.
pub struct BegunStream {
    /// Targets its events into the caller's dialect.
    pub exchange: Exchange,
    /// Its events.
    pub answer: StreamAnswer,
    /// Its account, which is open.
    pub account: Account,
    /// How many attempts were made at this Llm.
    pub attempts: u32,
}

impl Attempt {
    /// Begins the response. `next` finds the attempts that go on with a stream that breaks.
    pub fn into_response(
        self,
        attempts: u32,
        next: impl FnOnce() -> Option<NextAttempts>,
    ) -> InferenceResponse {
        let Self { llm, answer, standings, .. } = self;
        let outcome = match answer {
            AttemptAnswer::Whole(whole) => InferenceOutcome::Whole(whole),
            AttemptAnswer::Failed { failure, may_edit } => InferenceOutcome::Failed { failure, may_edit },
            AttemptAnswer::Stream(stream) => stream.into_outcome(next()),
        };
        InferenceResponse { llm: llm.name().clone(), attempts, failover: None, outcome, standings }
    }
}

impl BegunStream {
    fn into_outcome(self, next: Option<NextAttempts>) -> InferenceOutcome {
        let Self { exchange, answer, account, attempts } = self;
        let (status, headers) = (answer.status, answer.headers.clone());
        // mcpd always asks for usage, and hides it from callers that did not.
        let on_content = account.on_content();
        let recovery = next.and_then(|next| exchange.recovery(next));
        let body = exchange.stream(answer, account.on_end(attempts)).on_content(on_content);
        InferenceOutcome::Stream { status, headers, body: CuttableBody::new(body.recovered_by(recovery)) }
    }

    /// Its events, and what accounts for them.
    pub fn into_parts(self) -> (StreamAnswer, StreamAccount) {
        let Self { answer, account, attempts, .. } = self;
        let on_content = account.on_content();
        (answer, StreamAccount::new(account.on_end(attempts)).on_content(on_content))
    }
}

/// The class in which an Llm failed: its provider's, or that of a credential that cannot be used.
pub fn failure_class(ran: &Result<Attempt, InferenceError>) -> Option<FailureClass> {
    match ran {
        Ok(Attempt { answer: AttemptAnswer::Failed { failure, .. }, .. }) => Some(failure.class),
        Err(InferenceError::Misconfigured { .. }) => Some(FailureClass::UpstreamCredentials),
        Ok(_) | Err(_) => None,
    }
}

/// What spans all Llms of one request.
pub struct Span {
    /// Decisions that are not recorded yet.
    pub entries: Vec<Entry>,
    /// Attempts at all of them.
    pub attempts: u32,
    /// The Llm that the caller named.
    named: Id,
    /// Whether one of them has been tried.
    has_begun: bool,
    /// When it began.
    began: Instant,
    /// The longest `timeouts.answer` so far.
    longest: Duration,
}

impl Span {
    /// A span without attempts, of a request for this Llm.
    pub fn new(named: Id, began: Instant) -> Self {
        let entries = Vec::new();
        Self { entries, attempts: 0, named, has_begun: false, began, longest: Duration::ZERO }
    }

    /// A span after this one, without its decisions and its time.
    pub fn next(&self, began: Instant) -> Self {
        Self { attempts: self.attempts, has_begun: self.has_begun, ..Self::new(self.named.clone(), began) }
    }

    /// The next Llm's place among those that are tried.
    fn position_of(&mut self, llm: &Stored) -> account::Position {
        let begins = !std::mem::replace(&mut self.has_begun, true);
        account::Position { arrived: self.began, begins, fallback: *llm.id() != self.named }
    }

    /// When an Llm's answer must have begun: within its own `timeouts.answer`, and within the longest one of all that were tried,
    /// from the beginning.
    fn deadline(&mut self, answer: Duration) -> Instant {
        self.longest = self.longest.max(answer);
        (self.began + self.longest).min(Instant::now() + answer)
    }

    async fn record(&mut self, app: &App) -> Result<(), StoreError> {
        for entry in self.entries.drain(..) {
            app.audit.record(entry).await?;
        }
        Ok(())
    }
}

impl Call {
    /// The class of an Llm's last failure, where the breakers of all its upstreams are open.
    pub fn skipped(&self, llm: &Arc<Stored>) -> Option<FailureClass> {
        let inference = &self.app.inference;
        inference.breakers.skipping_all(inference.llms.of(llm)?.as_ref(), &self.asked)
    }

    /// Runs one Llm for the caller, in the snapshot that the permit is of, with the request or its continuation.
    ///
    /// # Errors
    /// When no attempt was made, or a row could not be recorded.
    pub async fn run_llm(
        &self,
        caller: &Caller,
        asked: &dialect::Request,
        permit: Permit<Run>,
        span: &mut Span,
    ) -> Result<Attempt, InferenceError> {
        let Self { app, headers, access, .. } = self;
        let Caller { principal, snapshot, .. } = caller;
        let llm = Arc::clone(permit.resource());
        tracing::debug!(llm = %llm.name(), revision = %permit.revision(), "allowed");
        // Only failures show where the Llm points.
        let may_edit = || may_view_and_edit(caller, &llm);
        // The snapshot of the permit may be as old as the request.
        if let Err(denied) = access.turn_to(caller, &permit) {
            self.deny(caller, &llm, &denied, span).await?;
            return Err(denied.into());
        }

        // After authorize, so that only those who may run the Llm learn what it allows. The permit is spent on the route, and
        // the credential is opened only now.
        let misconfigured =
            |error| InferenceError::Misconfigured { error, llm: llm.name().clone(), may_edit: may_edit() };
        let routed = check_choice(asked, &llm)
            .and_then(|()| route(permit, &app.inference.llms).map_err(misconfigured));
        let route = match routed {
            Ok(route) => route,
            Err(error) => {
                span.record(app).await?;
                return Err(error);
            }
        };
        let sending = Sending { app, asked, headers, llm: &llm, route: &route, snapshot };
        let mut targets = Targets::new(&app.inference, &route, asked);
        let first = targets.first(snapshot, &app.store).map_err(misconfigured);
        let first = first.and_then(|turn| Ok(sending.prepare(turn)?));
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                span.record(app).await?;
                return Err(error);
            }
        };
        // After the route, so that a request that cannot be sent takes nothing; before the provider gets it.
        let (settlement, standings) = match admit(app, caller, &llm, &route, asked).await {
            Ok(admitted) => admitted,
            Err(error) => {
                self.deny(caller, &llm, &error, span).await?;
                return Err(error.into());
            }
        };
        let mut account =
            Account::open(app, principal, &llm, asked, span.position_of(&llm), settlement).under(access);

        // The decision is recorded while the provider works, and before the first byte is sent (INVARIANT 14).
        let deadline = span.deadline(route.llm().timeouts.answer.0);
        let relayed = sending.relay(targets, first, &mut account, deadline);
        let (sent, recorded) = tokio::join!(relayed, span.record(app));
        recorded?;

        let Relayed { exchange, upstream, outcome: retry::RetryOutcome { result, attempts } } = sent;
        span.attempts += attempts;
        let answer = match result {
            Ok(Answer::Whole(whole)) => {
                account.close_whole(&whole, attempts).await?;
                AttemptAnswer::Whole(whole)
            }
            Ok(Answer::Stream(answer)) => {
                AttemptAnswer::Stream(Box::new(BegunStream { exchange, answer, account, attempts }))
            }
            Err(failure) => {
                account.close_failed(&failure, attempts).await?;
                AttemptAnswer::Failed { failure, may_edit: may_edit() }
            }
        };
        Ok(Attempt { llm, answer, standings, upstream })
    }

    /// Records a denial in place of the decision that allowed it.
    async fn deny(
        &self,
        caller: &Caller,
        llm: &Stored,
        why: &impl Display,
        span: &mut Span,
    ) -> Result<(), StoreError> {
        let Caller { principal, snapshot, .. } = caller;
        let (name, revision) = (llm.name().as_str(), snapshot.revision());
        let denial = self.app.audit.denial(principal, Verb::Run, Kind::Llm, name, revision, &why.to_string());
        span.entries.pop();
        span.entries.push(denial);
        span.record(&self.app).await
    }
}

/// Reserves what the request may take under the Limits on it.
pub(super) async fn admit(
    app: &App,
    caller: &Caller,
    llm: &Stored,
    route: &Route,
    asked: &dialect::Request,
) -> Result<(Settlement, Vec<Standing>), LimitError> {
    let price = app.prices.of(route.llm());
    let input = estimate::input_tokens(asked.operation, asked.body());
    let Caller { principal, snapshot, .. } = caller;
    let estimate = || Estimate::of(asked.operation, input, asked.choices, asked.output_bound);
    let admission = app.limits.reserve(snapshot, principal, llm, price, estimate).await?;
    Ok((Settlement::new(price, admission.reservation, input), admission.standings))
}

/// Whether the caller may learn where the Llm points and where its credential is kept.
pub(super) fn may_view_and_edit(caller: &Caller, llm: &Stored) -> bool {
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
