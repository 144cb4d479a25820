//! The turns of an Llm and its fallbacks at one request: each permit of the chain is recorded, run, and what came of it noted.

use std::{sync::Arc, time::Instant};

use mcpctl_access::{Permit, Stored, verb::Run};
use mcpctl_api::Kind;
use mcpctl_dialect as dialect;
use mcpctl_failover::FailureClass;
use mcpctl_telemetry::Configured;

use super::{
    attempt::{Attempt, Span, failure_class},
    call::Call,
    chain::Chain,
    outcome::InferenceError,
};
use crate::{audit::Entry, caller::Caller};

/// The Llms that one request may go to, and what came of those that were tried.
pub struct Turns {
    /// The Llm that was asked for.
    pub llm: Arc<Stored>,
    /// Those that may be next.
    pub chain: Chain,
    /// What was tried so far.
    pub span: Span,
}

/// What came of a fallback.
pub enum Turn {
    /// It answers.
    Answers(Box<Attempt>),
    /// It failed, or its breaker skipped it.
    Failed(FailureClass),
    /// It cannot get this request, for example under a Limit.
    Refused,
}

impl Turns {
    /// The turns of a request for this Llm, which this decision allowed.
    pub fn new(llm: Arc<Stored>, began: Instant, entry: Entry) -> Self {
        let mut span = Span::new(llm.id().clone(), began);
        span.entries.push(entry);
        Self { chain: Chain::new(&llm), span, llm }
    }

    /// Runs the fallbacks until one answers; `None` where none does. `class` is how the Llm that was asked for failed.
    ///
    /// # Errors
    /// When a row could not be recorded.
    pub async fn fall_back(
        &mut self,
        call: &Call,
        caller: &Caller,
        class: FailureClass,
    ) -> Result<Option<Attempt>, InferenceError> {
        while let Some(permit) = self.chain.next(caller) {
            let fallback = Arc::clone(permit.resource());
            match self.run(call, caller, &call.asked, permit, class).await? {
                Turn::Answers(attempt) => return Ok(Some(*attempt)),
                Turn::Failed(failed) => self.chain.failed(&fallback, failed),
                Turn::Refused => {}
            }
        }
        Ok(None)
    }

    /// Runs one fallback, with the request or its continuation.
    ///
    /// # Errors
    /// When a row could not be recorded.
    pub async fn run(
        &mut self,
        call: &Call,
        caller: &Caller,
        asked: &dialect::Request,
        permit: Permit<Run>,
        class: FailureClass,
    ) -> Result<Turn, InferenceError> {
        let Self { llm, span, .. } = self;
        let (app, Caller { principal, snapshot, .. }) = (&call.app, caller);
        let count = |outcome| {
            app.metrics.inference.fallback(Configured::resolved(llm.name().as_str()), outcome);
        };
        let fallback = Arc::clone(permit.resource());
        let (name, decision) = (fallback.name(), Ok(permit));
        if let Some(class) = call.skipped(&fallback) {
            count("skipped");
            return Ok(Turn::Failed(class));
        }
        // INVARIANT 7: on record as every other decision.
        let revision = snapshot.revision();
        span.entries.push(app.audit.decision(principal, Kind::Llm, name.as_str(), revision, &decision));
        let ran = call.run_llm(caller, asked, decision?, span).await;
        let failed = failure_class(&ran);
        match (ran, failed) {
            (Err(error @ InferenceError::Store(_)), _) => Err(error),
            (ran, Some(failed)) => {
                let error = ran.err().map(|error| error.to_string());
                tracing::warn!(llm = %llm.name(), fallback = %name, class = failed.as_str(), error, "a fallback failed");
                count(failed.as_str());
                Ok(Turn::Failed(failed))
            }
            (Err(error), None) => {
                tracing::warn!(llm = %llm.name(), fallback = %name, %error, "a fallback cannot answer");
                count("refused");
                Ok(Turn::Refused)
            }
            (Ok(attempt), None) => {
                tracing::warn!(llm = %llm.name(), fallback = %name, class = class.as_str(), "a fallback answers");
                count("served");
                Ok(Turn::Answers(Box::new(attempt)))
            }
        }
    }
}
