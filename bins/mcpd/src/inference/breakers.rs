//! The breakers of upstreams, by the Llm's id. Only those of upstreams that have failed are kept, so that a request to one that
//! works costs nothing.

use std::{sync::Arc, time::Instant};

use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{Id, spec::LlmSpec};
use mcpctl_dialect::{Operation, Request, Wants};
use mcpctl_failover::{BreakerPermit, BreakerPolicy, Breakers, FailureClass};

/// Bytes of a prompt from which its length is part of the form.
const LONG_PROMPT: usize = 24 * 1024;

/// A form of requests that an upstream may fail at while it answers others. The default is a plain request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Form {
    tools: bool,
    images: bool,
    prefill: bool,
    embeddings: bool,
    counting: bool,
    /// Binary logarithm of the prompt's bytes, 0 for one of ordinary length.
    size: u32,
}

impl Form {
    fn of(request: &Request) -> Self {
        let Wants { tools, images, prefill, text_bytes } = request.wants();
        let size = if text_bytes < LONG_PROMPT { 0 } else { text_bytes.ilog2() };
        let embeddings = request.operation == Operation::Embeddings;
        let counting = request.operation == Operation::CountTokens;
        Self { tools, images, prefill, embeddings, counting, size }
    }
}

/// The breakers of all upstreams.
pub struct UpstreamBreakers(Arc<Breakers<Form>>);

impl Default for UpstreamBreakers {
    fn default() -> Self {
        Self(Arc::new(Breakers::new(BreakerPolicy::default())))
    }
}

/// One request's way past the breaker of an Llm; records how the upstream did.
pub struct Passage<'a> {
    breakers: &'a UpstreamBreakers,
    llm: &'a Stored,
    spec: &'a LlmSpec,
    request: &'a Request,
    /// `None` where the upstream has not failed so far.
    permit: Option<BreakerPermit<Form>>,
}

impl UpstreamBreakers {
    /// Admits a request to an Llm's upstream, or not.
    pub fn admit<'a>(&'a self, llm: &'a Stored, spec: &'a LlmSpec, request: &'a Request) -> Passage<'a> {
        let mut passage = Passage { breakers: self, llm, spec, request, permit: None };
        if self.0.is_tracked(llm.id().as_str()) {
            passage.permit = Some(passage.take());
        }
        passage
    }

    /// Removes the breakers of Llms that the snapshot does not contain.
    pub fn remove_deleted(&self, snapshot: &Snapshot) {
        self.0.retain(|llm| llm.parse::<Id>().is_ok_and(|id| snapshot.by_id(&id).is_some()));
    }
}

impl Passage<'_> {
    fn take(&self) -> BreakerPermit<Form> {
        let Self { breakers, llm, spec, request, .. } = self;
        let policy = BreakerPolicy { failures: spec.breaker.failures, open: spec.breaker.open.0 };
        breakers.0.admit_under(policy, llm.id().as_str(), Form::of(request), None, Instant::now())
    }

    /// The class of the last failure, where the breaker is open.
    pub fn skipped(&self) -> Option<FailureClass> {
        let permit = self.permit.as_ref().filter(|permit| permit.is_open())?;
        Some(permit.last_failure().unwrap_or(FailureClass::ServerError))
    }

    /// Whether the upstream failed so often that one attempt at it is enough.
    pub fn is_suspect(&self) -> bool {
        self.permit.as_ref().is_some_and(BreakerPermit::is_suspect)
    }

    /// Records how the upstream did; `None` is success.
    pub fn settle(mut self, failure: Option<FailureClass>) {
        let failed = failure.is_some_and(FailureClass::trips_breaker);
        let permit = self.permit.take().or_else(|| failed.then(|| self.take()));
        if let Some(mut permit) = permit {
            permit.settle(failure, Instant::now());
        }
    }
}
