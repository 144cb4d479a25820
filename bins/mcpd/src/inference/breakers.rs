//! The breakers of upstreams, each target of an Llm its own. Only those of upstreams that have failed are kept, so that a request to
//! one that works costs nothing.

use std::{sync::Arc, time::Instant};

use mcpctl_api::{breaker_status::BreakerStatus, spec::LlmSpec};
use mcpctl_dialect::{Form, Request};
use mcpctl_failover::{BreakerPermit, BreakerPolicy, Breakers, FailureClass, OpenBreaker};

use super::prepared::PreparedLlm;

/// The breakers of all upstreams.
pub struct UpstreamBreakers(Arc<Breakers<Form>>);

impl Default for UpstreamBreakers {
    fn default() -> Self {
        Self(Arc::new(Breakers::new(BreakerPolicy::default())))
    }
}

/// One request's way past the breaker of an upstream; records how the upstream did.
pub struct Passage<'a> {
    breakers: &'a UpstreamBreakers,
    spec: &'a LlmSpec,
    upstream: Arc<str>,
    request: &'a Request,
    /// `None` where the upstream has not failed so far.
    permit: Option<BreakerPermit<Form>>,
}

impl UpstreamBreakers {
    /// Admits a request to an upstream, or not.
    pub fn admit<'a>(&'a self, spec: &'a LlmSpec, upstream: &Arc<str>, request: &'a Request) -> Passage<'a> {
        let mut passage =
            Passage { breakers: self, spec, upstream: Arc::clone(upstream), request, permit: None };
        if self.0.is_tracked(upstream) {
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

    /// The breaker that would skip a request to an upstream.
    pub fn skipping(
        &self,
        spec: &LlmSpec,
        upstream: &str,
        request: &Request,
        now: Instant,
    ) -> Option<OpenBreaker> {
        if !self.0.is_tracked(upstream) {
            return None;
        }
        self.0.skipping(policy(spec), upstream, request.form(), now)
    }

    /// The class of the last failure, where the breakers of all upstreams are open: of the one that is due soonest.
    pub fn skipping_all(&self, llm: &PreparedLlm, request: &Request) -> Option<FailureClass> {
        let now = Instant::now();
        let open = llm.upstreams().map(|(_, upstream)| self.skipping(&llm.spec, &upstream.key, request, now));
        let open = open.collect::<Option<Vec<_>>>()?;
        let soonest = open.into_iter().min_by_key(|open| open.remaining)?;
        Some(soonest.last_failure.unwrap_or(FailureClass::ServerError))
    }

    /// Removes the breakers of upstreams that are gone.
    pub fn retain(&self, keep: impl FnMut(&str) -> bool) {
        self.0.retain(keep);
    }
}

fn policy(spec: &LlmSpec) -> BreakerPolicy {
    BreakerPolicy { failures: spec.breaker.failures, open: spec.breaker.open.0 }
}

impl Passage<'_> {
    fn take(&self) -> BreakerPermit<Form> {
        let Self { breakers, spec, upstream, request, .. } = self;
        breakers.0.admit_under(policy(spec), upstream, request.form(), None, Instant::now())
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
