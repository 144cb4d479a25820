//! Sends a request to the upstreams of one Llm, one after the other, until one answers.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use mcpctl_access::{Snapshot, Stored};
use mcpctl_dialect as dialect;
use mcpctl_failover::FailureClass;
use mcpctl_relay::{Exchange, ExchangeError, Exchanged, RetryBudget, RetryPolicy, Sender, retry};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{Request, Target};

use super::{
    account::Account,
    route::{Route, upstream_operation},
    targets::{TargetTurn, Targets},
};
use crate::app::App;

/// A request on its way to the upstreams of an Llm.
#[derive(Clone, Copy)]
pub struct Sending<'a> {
    /// What all requests share.
    pub app: &'a App,
    /// The request.
    pub asked: &'a dialect::Request,
    /// Its headers as they came.
    pub headers: &'a HeaderMap,
    /// The Llm.
    pub llm: &'a Stored,
    /// The way to its upstreams.
    pub route: &'a Route,
    /// The snapshot in which the request was authorized.
    pub snapshot: &'a Snapshot,
}

/// An upstream's turn, and the request as it gets it.
pub struct Prepared<'a> {
    turn: TargetTurn<'a>,
    exchange: Exchange,
}

/// What came of the upstreams of an Llm.
pub struct Relayed {
    /// Turns the answer into the caller's dialect.
    pub exchange: Exchange,
    /// The key of the upstream that was asked last.
    pub upstream: Arc<str>,
    /// The answer, or the last failure, and the attempts at all of them.
    pub outcome: retry::RetryOutcome,
}

impl Sending<'_> {
    /// The request as an upstream gets it: an Llm's targets may have different names for the model.
    ///
    /// # Errors
    /// When the request cannot be translated.
    pub fn prepare<'a>(&self, turn: TargetTurn<'a>) -> Result<Prepared<'a>, ExchangeError> {
        let Self { app, asked, headers, llm, route, .. } = *self;
        let now = Instant::now();
        let usage = route.llm().stream_usage && !app.inference.stream_usage.is_rejected(&turn.key, llm, now);
        let upstream = upstream_operation(asked.operation, route.llm());
        let exchange = Exchange::new(asked, &turn.target, upstream, usage, headers)?;
        Ok(Prepared { turn, exchange })
    }

    /// Sends the request to one upstream after the other, until one answers, or no other may or is left. A failure that may fall
    /// back leads to the next target at once; a target is asked again only where no other is left. One deadline spans all attempts,
    /// waits included.
    pub async fn relay(
        &self,
        mut targets: Targets<'_>,
        mut prepared: Prepared<'_>,
        account: &mut Account,
        deadline: Instant,
    ) -> Relayed {
        let Self { app, llm, route, snapshot, .. } = *self;
        let mut left = u32::from(route.llm().retries.max);
        let mut attempts = 0;
        loop {
            let Prepared { turn, exchange } = prepared;
            let (asked, upstream) = (turn.upstream, Arc::clone(&turn.key));
            let max = if targets.has_other() { 0 } else { left };
            let policy = RetryPolicy { max, deadline };
            let outcome = self.ask(&exchange, turn, policy, account).await;
            attempts += outcome.attempts;
            let done = |result| {
                let outcome = retry::RetryOutcome { result, attempts };
                Relayed { exchange, upstream, outcome }
            };
            let failure = match outcome.result {
                Err(failure) if failure.class.may_fail_over(&[]) => failure,
                result => return done(result),
            };
            let is_over = left == 0 || Instant::now() >= deadline;
            let next = if is_over { None } else { targets.other(snapshot, &app.store) };
            let Some(next) = next.and_then(|turn| self.prepare(turn).ok()) else {
                return done(Err(failure));
            };
            left -= 1;
            tracing::warn!(
                llm = %llm.name(), failed = %asked.host(), next = %next.turn.upstream.host(),
                class = failure.class.as_str(), "another target of the Llm is tried"
            );
            app.metrics.inference.retry(Configured::resolved(llm.name().as_str()));
            prepared = next;
        }
    }

    /// Sends the request to one upstream, and repeats it there as the policy allows.
    async fn ask(
        &self,
        exchange: &Exchange,
        turn: TargetTurn<'_>,
        mut policy: RetryPolicy,
        account: &mut Account,
    ) -> retry::RetryOutcome {
        let Self { app, llm, route, .. } = *self;
        let TargetTurn { upstream, key, target, passage, outstanding } = turn;
        account.goes_to(&upstream, app.prices.at(route.llm(), &upstream), outstanding);
        // An upstream that keeps failing gets one attempt: more would only delay the error.
        if passage.is_suspect() {
            policy.max = 0;
        }
        let budget = app.inference.budgets.of(&key);
        let attempts = Attempts { app, llm, target: &target, policy, budget: &budget };
        let Exchanged { outcome, rejects_usage } = exchange.send(&attempts).await;
        if rejects_usage {
            tracing::info!(llm = %llm.name(), "the provider refuses `stream_options`: usage of its streams is unknown");
            app.inference.stream_usage.rejected(&key, llm, Instant::now());
        }
        // An estimate reached no upstream, so nothing is learned about one.
        if outcome.attempts > 0 {
            passage.settle(outcome.result.as_ref().err().map(|failure| failure.class));
        }
        outcome
    }
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
