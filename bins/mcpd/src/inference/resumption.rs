//! After the first byte: a stream that broke goes on with the next fallback, by `midStream` of the Llm that was asked for.
//!
//! Everything is decided anew at that moment, in a fresh snapshot: a caller who lost a right since the stream began, or whose
//! credential ended, gets the error. Each attempt has a decision on record, a reservation and an account of its own.

use std::{sync::Arc, time::Instant};

use futures::FutureExt as _;
use mcpctl_access::{Permit, Stored, verb::Run};
use mcpctl_api::{
    Kind, Spec,
    spec::{Capability, LlmSpec, MidStream},
};
use mcpctl_dialect::Operation;
use mcpctl_failover::FailureClass;
use mcpctl_relay::{Broken, NextAttempt, NextAttempts};
use tokio::sync::Mutex;

use super::{
    attempt::{Attempt, AttemptAnswer, BegunStream},
    call::Call,
    outcome::InferenceError,
    route::upstream_operation,
    turns::{Turn, Turns},
};
use crate::caller::{AuthenticationError, Caller};

/// How the Llm that was asked for failed, in logs: the class of a stream that broke.
const CLASS: FailureClass = FailureClass::BrokenStream;

/// What goes on with the stream of one request. It keeps the request until the stream has ended.
pub struct Resumption {
    call: Arc<Call>,
    turns: Turns,
    /// The Llm whose stream it is now.
    answering: Arc<Stored>,
    /// The key of its upstream.
    upstream: Arc<str>,
}

/// Why no attempt is made.
#[derive(Debug, thiserror::Error)]
enum NotResumed {
    #[error("the caller's credential is not valid any more")]
    Caller(#[from] AuthenticationError),
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

impl Resumption {
    /// The attempts after a break of the stream of `answering`; `None` where `midStream` allows none.
    pub fn of(
        call: &Arc<Call>,
        turns: Turns,
        answering: Arc<Stored>,
        upstream: Arc<str>,
    ) -> Option<NextAttempts> {
        if spec(&turns.llm)?.mid_stream == MidStream::Error {
            return None;
        }
        let Some(call) = call.for_stream() else {
            tracing::info!("a stream cannot be resumed: the memory for requests of streams is used up");
            return None;
        };
        let resumption = Arc::new(Mutex::new(Self { call: Arc::new(call), turns, answering, upstream }));
        Some(Box::new(move |broken| {
            let resumption = Arc::clone(&resumption);
            async move { resumption.lock().await.next(broken).await }.boxed()
        }))
    }

    /// The next attempt; `None` where there is none, and the caller gets the error of the stream that broke.
    async fn next(&mut self, broken: Broken) -> Option<NextAttempt> {
        let llm = Arc::clone(&self.turns.llm);
        match self.find(broken).await {
            Ok(Some(next)) => Some(next),
            Ok(None) => {
                tracing::warn!(llm = %llm.name(), "a stream broke, and no fallback goes on with it");
                None
            }
            // INVARIANT 8: what cannot be decided or recorded is not sent.
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(llm = %llm.name(), error, "a stream broke, and nothing may go on with it");
                None
            }
        }
    }

    async fn find(&mut self, broken: Broken) -> Result<Option<NextAttempt>, NotResumed> {
        let call = Arc::clone(&self.call);
        let app = &call.app;
        if let Some(spec) = spec(&self.answering) {
            let passage = app.inference.breakers.admit(spec, &self.upstream, &call.asked);
            passage.settle(Some(FailureClass::ServerError));
        }
        // INVARIANT 5: what was revoked since the request arrived is revoked here too.
        let caller = app.authenticate(call.caller.bearer()).await?;
        let Caller { principal, snapshot, .. } = &caller;
        let id = self.turns.llm.id().as_str();
        let decision = snapshot.authorize::<Run>(principal, Kind::Llm, id);
        if decision.is_err() {
            let name = self.turns.llm.name().as_str();
            let entry = app.audit.decision(principal, Kind::Llm, name, snapshot.revision(), &decision);
            app.audit.record(entry).await.map_err(InferenceError::from)?;
        }
        let llm = Arc::clone(decision.map_err(InferenceError::from)?.resource());
        let mid_stream = spec(&llm).map_or(MidStream::Error, |spec| spec.mid_stream);
        if mid_stream == MidStream::Error {
            return Ok(None);
        }

        // The time of an answer begins anew: a stream may have lasted for hours before it broke. The fallbacks are those of the
        // documents as they are now.
        self.turns.span = self.turns.span.next(Instant::now());
        self.turns.chain.begin_again();
        self.turns.chain.failed(&llm, FailureClass::ServerError);
        if self.answering.id() != llm.id()
            && let Some(answering) = snapshot.by_id(self.answering.id())
        {
            self.turns.chain.failed(answering, FailureClass::ServerError);
        }
        if mid_stream == MidStream::Continue
            && let Some(prefix) = &broken.prefix
            && let Some(next) = self.continued(&caller, prefix).await?
        {
            return Ok(Some(next));
        }
        self.restarted(&caller).await
    }

    /// Continues what was delivered with a fallback that can.
    async fn continued(
        &mut self,
        caller: &Caller,
        prefix: &str,
    ) -> Result<Option<NextAttempt>, InferenceError> {
        let call = Arc::clone(&self.call);
        let mut refused = Vec::new();
        let mut continued = None;
        while let Some(permit) = self.turns.chain.next_with(caller, Capability::Prefill) {
            let fallback = Arc::clone(permit.resource());
            let given = beginning(prefix, &call, &permit);
            let Some(request) = call.asked.continued(given) else {
                refused.push(fallback);
                break;
            };
            match self.turns.run(&call, caller, &request, permit, CLASS).await? {
                Turn::Answers(attempt) => {
                    if let Some(stream) = self.stream_of(*attempt) {
                        continued = Some(next_attempt(stream, Some(given.len())));
                        break;
                    }
                }
                // The model, or the translation, does not take the form. The whole request is another matter.
                Turn::Failed(FailureClass::Rejected | FailureClass::ContextLength) | Turn::Refused => {
                    refused.push(fallback);
                }
                Turn::Failed(class) => self.turns.chain.failed(&fallback, class),
            }
        }
        refused.iter().rev().for_each(|fallback| self.turns.chain.put_back(fallback));
        Ok(continued)
    }

    /// Begins the answer anew with the next fallback.
    async fn restarted(&mut self, caller: &Caller) -> Result<Option<NextAttempt>, NotResumed> {
        let call = Arc::clone(&self.call);
        while let Some(attempt) = self.turns.fall_back(&call, caller, CLASS).await? {
            if let Some(stream) = self.stream_of(attempt) {
                return Ok(Some(next_attempt(stream, None)));
            }
        }
        Ok(None)
    }

    /// The stream of an attempt, whose Llm answers from here on; a whole answer goes on with nothing.
    fn stream_of(&mut self, attempt: Attempt) -> Option<BegunStream> {
        let AttemptAnswer::Stream(stream) = attempt.answer else {
            self.turns.chain.failed(&attempt.llm, FailureClass::ServerError);
            return None;
        };
        (self.answering, self.upstream) = (attempt.llm, attempt.upstream);
        // The head of the response has named the first one.
        mcpctl_server::access_line(|line| {
            line.served_by = Some(self.answering.name().to_string());
            line.failover.get_or_insert_with(|| CLASS.as_str().to_owned());
            line.attempts = Some(self.turns.span.attempts);
        });
        Some(*stream)
    }
}

fn spec(llm: &Stored) -> Option<&LlmSpec> {
    match &llm.resource.spec {
        Spec::Llm(spec) => Some(spec.as_ref()),
        _ => None,
    }
}

/// What of the delivered text is the beginning for this Llm: Anthropic's API refuses one that ends with white space.
fn beginning<'a>(prefix: &'a str, call: &Call, permit: &Permit<Run>) -> &'a str {
    let upstream = spec(permit.resource()).map(|spec| upstream_operation(call.asked.operation, spec));
    if upstream == Some(Operation::Messages) { prefix.trim_end() } else { prefix }
}

fn next_attempt(stream: BegunStream, continues: Option<usize>) -> NextAttempt {
    let operation = stream.exchange.operation();
    let (answer, account) = stream.into_parts();
    NextAttempt { answer, operation, continues, account }
}
