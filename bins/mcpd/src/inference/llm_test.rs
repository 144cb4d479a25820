//! Tests an Llm: one small request at each of its targets, on a connection of its own, so that each step on the way to the model
//! shows. It is a request of its caller like all others: authorized, limited, recorded, charged, and ended when access ends.
//!
//! It goes where the Llm points and nowhere else, and what it reports is for those who may edit the Llm; others learn which step
//! failed.

mod diagnosis;
mod report;
mod way;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, future::join_all};
use http::HeaderMap;
use mcpctl_access::{Stored, verb::Run};
use mcpctl_api::{
    Id, Kind, Verb,
    llm_test::{LlmTest, TargetTest},
    spec::Upstream,
};
use mcpctl_dialect::{self as dialect, Operation, error::UpstreamError};
use mcpctl_failover::{Candidate, FailureClass};
use mcpctl_relay::{Exchange, Exchanged, RetryOutcome, Sender, StreamOutcome};
use mcpctl_telemetry::Configured;
use mcpctl_upstream::{self as upstream, Answer, Failure, Milestones, Request, StreamAnswer, Target};
use serde_json::json;
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    access::AccessWatch,
    account::{self, Account, Position},
    attempt::{admit, may_view_and_edit},
    outcome::InferenceError,
    pipeline::LostAccess,
    prepared::PreparedUpstream,
    route::{Route, route, upstream_operation},
    settlement::Settlement,
};
use crate::{app::App, caller::Caller, clock};
use way::{End, Way};

/// How long a test takes at most: less than proxies in front of mcpd wait for an answer.
const TEST_TIMEOUT: Duration = Duration::from_secs(45);
/// How long a connection may take, whatever the Llm allows.
const MAX_CONNECT: Duration = Duration::from_secs(10);
/// Tokens that the model may write.
const MAX_TOKENS: u32 = 16;
/// An answer that is longer goes on in spite of `MAX_TOKENS`. It is left there, because tokens are charged.
const MAX_ANSWER: usize = 32 << 10;
/// What it is asked.
const PROMPT: &str = "Reply with the word ok.";

/// The tests that run: at most one of each account and Llm.
#[derive(Debug, Clone, Default)]
pub struct LlmTests(Arc<Mutex<HashSet<(Id, Id)>>>);

/// A test that runs, until it is dropped.
struct RunningTest {
    tests: LlmTests,
    of: (Id, Id),
}

/// Why an Llm is not tested.
#[derive(Debug, thiserror::Error)]
pub enum LlmTestError {
    /// The caller's account tests it already.
    #[error("a test of this Llm by your account is running")]
    Running,
    /// As of every request for inference.
    #[error(transparent)]
    Inference(#[from] InferenceError),
}

impl LlmTests {
    fn begin(&self, account: &Id, llm: &Id) -> Option<RunningTest> {
        let of = (account.clone(), llm.clone());
        let is_first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(of.clone());
        is_first.then(|| RunningTest { tests: self.clone(), of })
    }
}

impl Drop for RunningTest {
    fn drop(&mut self) {
        self.tests.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.of);
    }
}

/// Tests the Llm with this name or id.
///
/// # Errors
/// When the caller may not run it, a Limit does not admit the requests, access ends meanwhile, or nothing can be recorded. A step
/// that fails is no error.
pub async fn run(app: &Arc<App>, caller: Caller, named: &str) -> Result<LlmTest, LlmTestError> {
    let Caller { principal, snapshot, .. } = &caller;
    account::named(Operation::Chat, named);
    let decision = snapshot.authorize::<Run>(principal, Kind::Llm, named);
    let entry = app.audit.decision(principal, Kind::Llm, named, snapshot.revision(), &decision);
    let permit = match decision {
        Ok(permit) => permit,
        Err(denied) => {
            app.audit.record(entry).await.map_err(InferenceError::from)?;
            return Err(InferenceError::from(denied).into());
        }
    };
    let llm = Arc::clone(permit.resource());
    let tests = &app.inference.tests;
    let _running = tests.begin(&principal.id, llm.id()).ok_or(LlmTestError::Running)?;
    let in_flight = app.in_flight.admit(&principal.id).map_err(InferenceError::from)?;
    let access = Arc::new(app.access.watch(&caller, &permit, in_flight));
    let ended = access.ended();
    let may_edit = may_view_and_edit(&caller, &llm);
    let route = route(permit, &app.inference.llms).map_err(|error| InferenceError::Misconfigured {
        error,
        llm: llm.name().clone(),
        may_edit,
    })?;

    let trial = Trial { app, caller: &caller, llm: &llm, route: &route, access: &access, may_edit };
    let testing = async {
        // Before anything is sent, so that a Limit admits all of the test or none of it.
        let settlements = match trial.reserve().await {
            Ok(settlements) => settlements,
            Err(error) => {
                let (name, why) = (llm.name().as_str(), error.to_string());
                let entry =
                    app.audit.denial(principal, Verb::Run, Kind::Llm, name, snapshot.revision(), &why);
                app.audit.record(entry).await?;
                return Err(error);
            }
        };
        app.audit.record(entry).await?;
        trial.run(settlements).await
    };
    tokio::select! {
        // First, so that a test that has ended already sends nothing.
        biased;
        Some(ended) = ended => {
            let lost = LostAccess { app: Arc::clone(app), principal: principal.clone(), llm: llm.name().clone() };
            lost.record(ended).await;
            Err(InferenceError::from(ended).into())
        }
        tested = Box::pin(testing) => Ok(tested?),
    }
}

/// A test that may run.
struct Trial<'a> {
    app: &'a Arc<App>,
    caller: &'a Caller,
    llm: &'a Arc<Stored>,
    route: &'a Route,
    access: &'a Arc<AccessWatch>,
    /// Whether the caller may learn where the Llm points and what its provider answers.
    may_edit: bool,
}

/// What a target did, as it counts for the state of the Llm.
struct Tested {
    report: TargetTest,
    /// `ok`, or the class of the failure.
    outcome: &'static str,
    status: u16,
}

impl Trial<'_> {
    /// What the requests may take, of each target.
    async fn reserve(&self) -> Result<Vec<Settlement>, InferenceError> {
        let mut settlements = Vec::new();
        let asked = self.asked(LimitKey::MaxTokens)?;
        for _ in self.route.upstreams() {
            let (settlement, _) = admit(self.app, self.caller, self.llm, self.route, &asked).await?;
            settlements.push(settlement);
        }
        Ok(settlements)
    }

    /// Tests all targets at once.
    async fn run(&self, settlements: Vec<Settlement>) -> Result<LlmTest, InferenceError> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let targets = self.route.upstreams().zip(settlements);
        let tests = targets
            .map(|((upstream, prepared), settlement)| self.test(upstream, prepared, settlement, deadline));
        let tested = join_all(tests).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        // The Llm answers while one of its targets does.
        let of_all = tested.iter().find(|target| target.report.ok).or(tested.first());
        if let Some(Tested { outcome, status, .. }) = of_all {
            self.app.inference.health.note(self.llm.id(), outcome, *status, clock::now());
        }
        let targets: Vec<_> = tested.into_iter().map(|tested| tested.report).collect();
        Ok(LlmTest { llm: self.llm.name().clone(), ok: targets.iter().all(|target| target.ok), targets })
    }

    async fn test(
        &self,
        upstream: Upstream<'_>,
        prepared: &PreparedUpstream,
        settlement: Settlement,
        deadline: Instant,
    ) -> Result<Tested, InferenceError> {
        let Self { app, caller, llm, route, access, .. } = *self;
        let begun = Instant::now();
        let mut way = Way::new(upstream, &route.llm().timeouts, begun);
        let target = match route.target(&upstream, prepared, &caller.snapshot, &app.store) {
            Ok(target) => bounded(&target),
            Err(error) => return Ok(self.tested(&way, &End::Misconfigured(&error))),
        };
        let asked = self.asked(LimitKey::MaxTokens)?;
        let position = Position { arrived: begun, begins: true, fallback: false };
        let opened = Account::open(app, &caller.principal, llm, &asked, position, settlement);
        let mut account = opened.under(access).apart_from_health();
        let key = Arc::clone(&prepared.key);
        let candidate = Candidate { key, weight: upstream.weight, ejected_for: None, tried: false };
        if let Some((_, outstanding)) = app.inference.balancer.take(&[candidate]) {
            account.goes_to(&upstream, app.prices.at(route.llm(), &upstream), outstanding);
        }

        let milestones = Milestones::default();
        let sending = milestones.watch(self.send(asked, &target, prepared, deadline));
        let Sent { attempts, result } = Box::pin(sending).await;
        way.reached = milestones.reached();
        way.ended = Instant::now();
        match result {
            Err(failure) => {
                account.close_failed(&failure, attempts).await?;
                Ok(self.tested(&way, &End::Failed { failure: &failure, target: &target }))
            }
            Ok((_, Answer::Whole(whole))) => {
                account.close_whole(&whole, attempts).await?;
                way.first_token = Some(way.ended);
                Ok(self.tested(&way, &End::Whole))
            }
            Ok((exchange, Answer::Stream(answer))) => {
                way.first_token = Some(way.ended);
                let outcome = read(&exchange, answer, account, attempts, deadline).await;
                way.ended = Instant::now();
                Ok(self.tested(&way, &End::Streamed(outcome)))
            }
        }
    }

    fn tested(&self, way: &Way<'_>, end: &End<'_>) -> Tested {
        let report = report::of(way, end, self.may_edit);
        let (outcome, status) = end.outcome();
        if let Some(problem) = &report.problem {
            tracing::info!(
                llm = %self.llm.name(), target = %way.upstream.host(), class = problem.class,
                "a test of an Llm failed"
            );
        }
        Tested { report, outcome, status }
    }

    /// Sends the request, in the form that the target takes.
    async fn send(
        &self,
        asked: dialect::Request,
        target: &Target,
        prepared: &PreparedUpstream,
        deadline: Instant,
    ) -> Sent {
        let once = Once {
            // Without a connection that another request has made: each step is made anew.
            client: self.app.inference.client.unconnected(),
            target,
            app: self.app,
            llm: self.llm,
            deadline,
        };
        let first = self.exchange(&once, &asked, prepared).await;
        match &first.result {
            // OpenAI's reasoning models know the newer name alone.
            Err(failure) if names_newer_limit(failure) => match self.asked(LimitKey::MaxCompletionTokens) {
                Ok(again) => {
                    let Sent { attempts, result } = self.exchange(&once, &again, prepared).await;
                    Sent { attempts: first.attempts + attempts, result }
                }
                Err(_) => first,
            },
            _ => first,
        }
    }

    async fn exchange(&self, once: &Once<'_>, asked: &dialect::Request, prepared: &PreparedUpstream) -> Sent {
        let Self { app, llm, route, .. } = *self;
        let (key, usage) = (&prepared.key, &app.inference.stream_usage);
        let asks_for_usage = route.llm().stream_usage && !usage.is_rejected(key, llm, Instant::now());
        let operation = upstream_operation(asked.operation, route.llm());
        let exchange = Exchange::new(asked, once.target, operation, asks_for_usage, &HeaderMap::new());
        let exchange = match exchange {
            Ok(exchange) => exchange,
            Err(error) => {
                let failure = Failure::new(FailureClass::Rejected, error.to_string());
                return Sent { attempts: 0, result: Err(failure) };
            }
        };
        let Exchanged { outcome, rejects_usage } = exchange.send(once).await;
        if rejects_usage {
            usage.rejected(key, llm, Instant::now());
        }
        let RetryOutcome { result, attempts } = outcome;
        Sent { attempts, result: result.map(|answer| (exchange, answer)) }
    }

    fn asked(&self, limit: LimitKey) -> Result<dialect::Request, InferenceError> {
        let mut body = json!({
            "model": self.llm.name(), "stream": true, "messages": [{"role": "user", "content": PROMPT}],
        });
        if let Some(body) = body.as_object_mut() {
            body.insert(limit.as_str().to_owned(), MAX_TOKENS.into());
        }
        Ok(dialect::Request::read(Operation::Chat, Bytes::from(body.to_string()))?)
    }
}

/// What came of the requests at a target.
struct Sent {
    attempts: u32,
    result: Result<(Exchange, Answer), Failure>,
}

/// The name of the field that bounds the answer.
#[derive(Clone, Copy)]
enum LimitKey {
    MaxTokens,
    MaxCompletionTokens,
}

impl LimitKey {
    const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

fn names_newer_limit(failure: &Failure) -> bool {
    let names = |message: String| message.contains(LimitKey::MaxCompletionTokens.as_str());
    failure.class == FailureClass::Rejected && UpstreamError::read(&failure.body).message.is_some_and(names)
}

/// One attempt at a target, until a deadline.
struct Once<'a> {
    client: upstream::Client,
    target: &'a Target,
    app: &'a App,
    llm: &'a Stored,
    deadline: Instant,
}

impl Sender for Once<'_> {
    async fn send(&self, request: &Request) -> RetryOutcome {
        let Self { client, target, app, llm, deadline } = self;
        let sent = timeout_at((*deadline).into(), upstream::send(client, target, request));
        let late = |_| Err(Failure::new(FailureClass::NoResponse, "no answer before the end of the test"));
        let result = sent.await.unwrap_or_else(late);
        let outcome = result.as_ref().map_or_else(|failure| failure.class.as_str(), |_| "ok");
        app.metrics.inference.attempt(Configured::resolved(llm.name().as_str()), outcome);
        RetryOutcome { result, attempts: 1 }
    }
}

/// Reads a stream to its end, so that its usage is counted; what comes after the deadline is left, and what is too long.
async fn read(
    exchange: &Exchange,
    answer: StreamAnswer,
    account: Account,
    attempts: u32,
    deadline: Instant,
) -> StreamOutcome {
    let (report, ended) = oneshot::channel();
    let (on_content, on_end) = (account.on_content(), account.on_end(attempts));
    let body = exchange.stream(answer, move |end| {
        // The receiver is gone only with the whole test.
        let _ = report.send(end.outcome);
        on_end(end);
    });
    let mut body = body.on_content(on_content);
    let reading = async {
        let mut length = 0;
        while let Some(Ok(part)) = body.next().await {
            length += part.len();
            if length > MAX_ANSWER {
                break;
            }
        }
    };
    let _ = timeout_at(deadline.into(), reading).await;
    drop(body);
    ended.await.unwrap_or(StreamOutcome::Cancelled)
}

/// The target with timeouts that fit into a test.
fn bounded(target: &Target) -> Target {
    target.with(|config| {
        let timeouts = &mut config.timeouts;
        timeouts.connect = timeouts.connect.min(MAX_CONNECT);
        for timeout in
            [&mut timeouts.response, &mut timeouts.answer, &mut timeouts.first_token, &mut timeouts.idle]
        {
            *timeout = (*timeout).min(TEST_TIMEOUT);
        }
    })
}

impl End<'_> {
    /// `ok`, or the class of the failure, and the provider's status; 0 without one.
    fn outcome(&self) -> (&'static str, u16) {
        match self {
            Self::Misconfigured(_) => (FailureClass::UpstreamCredentials.as_str(), 0),
            Self::Failed { failure, .. } => {
                (failure.class.as_str(), failure.status.map_or(0, |status| status.as_u16()))
            }
            Self::Streamed(StreamOutcome::Broken(class)) => (class.as_str(), 200),
            Self::Whole | Self::Streamed(StreamOutcome::Completed | StreamOutcome::Cancelled) => ("ok", 200),
        }
    }
}
