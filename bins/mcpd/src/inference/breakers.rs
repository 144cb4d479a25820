//! The breakers of upstreams, by the Llm's id. Only those of upstreams that have failed are kept, so that a request to one that
//! works costs nothing.

use std::{sync::Arc, time::Instant};

use mcpctl_access::{Snapshot, Stored};
use mcpctl_api::{Id, breaker_status::BreakerStatus, spec::LlmSpec};
use mcpctl_dialect::{Form, Request};
use mcpctl_failover::{BreakerPermit, BreakerPolicy, Breakers, FailureClass};

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

    /// How the breaker of an upstream stands.
    pub fn status(&self, upstream: &str) -> BreakerStatus {
        let report = self.0.report(upstream, Instant::now());
        report.map_or_else(BreakerStatus::default, |report| {
            let class = report.last_failure.map(FailureClass::as_str);
            BreakerStatus::opened(report.open_for, report.next_try(), class, report.some_forms)
        })
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
        breakers.0.admit_under(policy, llm.id().as_str(), request.form(), None, Instant::now())
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
