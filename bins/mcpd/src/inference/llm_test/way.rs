//! The way of one test to its target: which steps it needs, how long each took, and how it ended.

use std::time::{Duration, Instant};

use mcpctl_api::{
    llm_test::{Step, StepState},
    spec::{Timeouts, Upstream},
};
use mcpctl_relay::StreamOutcome;
use mcpctl_upstream::{Failure, Reached, Target};
use url::Host;

use crate::inference::route::Misconfigured;

/// The way to one target.
pub struct Way<'a> {
    /// Where it leads.
    pub upstream: Upstream<'a>,
    /// What the Llm allows requests, of which a test takes a part.
    pub timeouts: &'a Timeouts,
    /// What the attempt has reached.
    pub reached: Reached,
    /// When the first content came.
    pub first_token: Option<Instant>,
    /// When it began.
    pub begun: Instant,
    /// When it was over.
    pub ended: Instant,
}

/// How it ended.
pub enum End<'a> {
    /// No request can be sent to the target.
    Misconfigured(&'a Misconfigured),
    /// The request failed.
    Failed {
        /// Why.
        failure: &'a Failure,
        /// The target with its credential, which no message may contain.
        target: &'a Target,
    },
    /// The answer came in one piece.
    Whole,
    /// The answer was streamed.
    Streamed(StreamOutcome),
}

impl<'a> Way<'a> {
    /// A way that begins.
    pub fn new(upstream: Upstream<'a>, timeouts: &'a Timeouts, begun: Instant) -> Self {
        Self { upstream, timeouts, reached: Reached::default(), first_token: None, begun, ended: begun }
    }

    /// Whether the way to this target has such a step.
    pub fn is_needed(&self, step: Step) -> bool {
        match step {
            Step::Name => matches!(self.upstream.url.host(), Some(Host::Domain(_))),
            Step::Tls => self.upstream.url.scheme() == "https",
            Step::Credential => self.upstream.api_key.is_some(),
            _ => true,
        }
    }

    /// How long a step took, the one that failed included; `None` for one that is over with the one before.
    pub fn took(&self, step: Step) -> Option<Duration> {
        let Reached { resolved, connected, ready, head } = self.reached;
        let (from, to) = match step {
            Step::Name => (Some(self.begun), resolved),
            Step::Connect => (resolved.or(Some(self.begun)), connected),
            Step::Tls => (connected, ready),
            Step::Api => (ready, head),
            Step::Credential | Step::Model => return None,
            Step::FirstToken => (head, self.first_token),
            Step::Answer => (self.first_token, Some(self.ended)),
        };
        Some(to.unwrap_or(self.ended).duration_since(from?))
    }

    /// What is worth knowing of a step.
    pub fn note(&self, step: Step, state: StepState, end: &End<'_>) -> Option<String> {
        let note = match (step, state) {
            (Step::Name, StepState::Skipped) if !self.is_needed(step) => "the address is a number",
            (Step::Tls, StepState::Skipped) if !self.is_needed(step) => "plain http",
            (Step::Credential, StepState::Skipped) if !self.is_needed(step) => "the Llm has no key",
            (Step::Model, StepState::Ok) => return Some(self.upstream.model.to_owned()),
            (Step::FirstToken, StepState::Ok) if matches!(end, End::Whole) => {
                "the server does not stream: the whole answer came at once"
            }
            (Step::Answer, StepState::Ok) if matches!(end, End::Streamed(StreamOutcome::Cancelled)) => {
                "it goes on, and the test does not wait for its end"
            }
            _ => return None,
        };
        Some(note.to_owned())
    }
}
