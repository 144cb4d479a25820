//! A caller's request at one target: as it came where the target serves its operation, else translated, and the answer
//! translated back. Usage is requested in streams too, and once more without that where the server rejects it. Tokens are
//! estimated here where the target does not count them.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use mcpctl_api::header::ESTIMATED;
use mcpctl_dialect::{
    self as dialect, Operation, RequestError,
    error::UpstreamError,
    translate::{
        self, AnswerTranslation, Translation, Untranslatable,
        messages::{count_body, estimate_tokens},
        reply::WriterOptions,
    },
};
use mcpctl_failover::FailureClass;
use mcpctl_upstream::{Answer, Failure, Request, StreamAnswer, Target, WholeAnswer};

use crate::{
    RetryOutcome,
    account::StreamEnd,
    body::StreamBody,
    recovery::{NextAttempts, Recovery},
};

/// A request as one target gets it.
#[derive(Debug)]
pub struct Exchange {
    caller: Operation,
    /// The operation at the target.
    upstream: Operation,
    /// How a stream for the caller is written.
    options: WriterOptions,
    request: Request,
    /// The same without the request for usage, where the caller did not make that.
    without_usage: Option<Request>,
    hide_usage: bool,
    answer: Option<AnswerTranslation>,
    /// The answer, where it takes no target.
    estimate: Option<Bytes>,
    /// The caller's body, to estimate its tokens from where the target turns out to have no counter.
    uncounted: Option<Bytes>,
}

/// Why a target cannot get a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The target serves no operation that can answer it.
    #[error(transparent)]
    Untranslatable(#[from] Untranslatable),
    /// A field that is malformed, or that the target's dialect cannot express.
    #[error(transparent)]
    Field(#[from] RequestError),
}

/// Sends requests to a target.
pub trait Sender {
    /// Sends one, in as many attempts as its rules allow.
    fn send(&self, request: &Request) -> impl Future<Output = RetryOutcome> + Send;
}

/// What came of an exchange.
#[derive(Debug)]
pub struct Exchanged {
    /// The answer in the caller's dialect, unless it is a stream, or the last failure.
    pub outcome: RetryOutcome,
    /// Whether the server rejected the request for usage, and answered without it.
    pub rejects_usage: bool,
}

impl Exchange {
    /// Prepares a request for a target that serves `upstream`. `ask_for_usage` is whether the target counts usage in streams
    /// where it is requested.
    ///
    /// # Errors
    /// When the request cannot be translated; the field by its name.
    pub fn new(
        asked: &dialect::Request,
        target: &Target,
        upstream: Operation,
        ask_for_usage: bool,
        headers: &HeaderMap,
    ) -> Result<Self, ExchangeError> {
        let caller = asked.operation;
        let untouched = |usage| Request::untouched(asked, target, usage, headers);
        if caller == Operation::CountTokens && upstream != Operation::CountTokens {
            let estimate = Some(count_body(estimate_tokens(asked.body())?));
            let request = untouched(false);
            let options = WriterOptions::default();
            return Ok(Self {
                caller,
                upstream,
                options,
                request,
                without_usage: None,
                hide_usage: false,
                answer: None,
                estimate,
                uncounted: None,
            });
        }
        let Some(translation) = Translation::between(caller, upstream)? else {
            let ask_for_usage = ask_for_usage && asked.lacks_usage();
            let (request, without_usage) =
                (untouched(ask_for_usage), ask_for_usage.then(|| untouched(false)));
            let hide_usage = !asked.include_usage;
            let uncounted = (caller == Operation::CountTokens).then(|| asked.body().clone());
            let options =
                WriterOptions { include_usage: asked.include_usage, now: now(), ..WriterOptions::default() };
            return Ok(Self {
                caller,
                upstream,
                options,
                request,
                without_usage,
                hide_usage,
                answer: None,
                estimate: None,
                uncounted,
            });
        };
        let model = target.model.as_deref().or(asked.model.as_deref()).unwrap_or_default();
        let translated = translation.request(asked.body(), model, now())?;
        let asked = dialect::Request::read(upstream, translated.body)?;
        let ask_for_usage = ask_for_usage && asked.lacks_usage();
        let with = |usage| Request::untouched(&asked, target, usage, headers);
        let (request, without_usage) = (with(ask_for_usage), ask_for_usage.then(|| with(false)));
        // The writer of the caller's dialect shows usage where that has it.
        let options = translated.answer.options().clone();
        let answer = Some(translated.answer);
        Ok(Self {
            caller,
            upstream,
            options,
            request,
            without_usage,
            hide_usage: false,
            answer,
            estimate: None,
            uncounted: None,
        })
    }

    /// Sends the request.
    pub async fn send(&self, sender: &impl Sender) -> Exchanged {
        if let Some(estimate) = &self.estimate {
            let outcome = RetryOutcome { result: Ok(Answer::Whole(estimated(estimate))), attempts: 0 };
            return Exchanged { outcome, rejects_usage: false };
        }
        let first = sender.send(&self.request).await;
        let (outcome, rejects_usage) = match (&first.result, &self.without_usage) {
            // The field was added here, so its rejection must not fail the request.
            (Err(failure), Some(without)) if failure.refuses_stream_options() => {
                let RetryOutcome { result, attempts } = sender.send(without).await;
                let rejects_usage = result.is_ok();
                (RetryOutcome { result, attempts: first.attempts + attempts }, rejects_usage)
            }
            _ => (first, false),
        };
        let RetryOutcome { result, attempts } = outcome;
        let result = match (result, &self.answer) {
            (Ok(Answer::Whole(whole)), Some(answer)) => whole_for_caller(whole, answer),
            (Err(failure), Some(_)) => Err(self.failure_for_caller(failure)),
            (Err(failure), None) if has_no_route(&failure) => self.estimate_instead(failure),
            (result, _) => result,
        };
        Exchanged { outcome: RetryOutcome { result, attempts }, rejects_usage }
    }

    /// The body of a stream that answers the request, in the caller's dialect.
    pub fn stream(
        &self,
        answer: StreamAnswer,
        on_end: impl FnOnce(StreamEnd) + Send + 'static,
    ) -> StreamBody {
        let body = StreamBody::new(answer, self.hide_usage, on_end).for_caller(self.caller);
        match &self.answer {
            None => body,
            Some(answer) => body.translated(answer.stream()),
        }
    }

    /// The estimate of a count for which the target has no route; any other failure as it is.
    fn estimate_instead(&self, failure: Failure) -> Result<Answer, Failure> {
        let estimate = self.uncounted.as_ref().and_then(|body| estimate_tokens(body).ok());
        estimate.map_or(Err(failure), |tokens| Ok(Answer::Whole(estimated(&count_body(tokens)))))
    }

    /// The operation at the target.
    pub fn operation(&self) -> Operation {
        self.upstream
    }

    /// The recovery of the stream that answers the request, from attempts that `next` finds. `None` for operations whose broken
    /// streams end with the error ([`Recovery::new`]).
    pub fn recovery(&self, next: NextAttempts) -> Option<Recovery> {
        Recovery::new(self.caller, self.upstream, self.options.clone(), next)
    }

    /// An error response in the caller's dialect.
    fn failure_for_caller(&self, mut failure: Failure) -> Failure {
        if let Some(status) = failure.status.filter(|status| !status.is_success()) {
            let error = UpstreamError::read(&failure.body);
            if error.message.is_some() {
                failure.body = translate::error_body(self.caller, &error, status.as_u16());
            }
        }
        failure
    }
}

/// Whether a server does not know the path, which is no failure of its model.
fn has_no_route(failure: &Failure) -> bool {
    matches!(failure.status.map(|status| status.as_u16()), Some(404 | 405 | 501))
        && failure.class != FailureClass::ModelUnavailable
}

/// An estimate as an answer, marked as one.
fn estimated(body: &Bytes) -> WholeAnswer {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ESTIMATED, HeaderValue::from_static("input_tokens")),
    ];
    let headers = headers.into_iter().collect();
    WholeAnswer { status: StatusCode::OK, headers, body: body.clone(), usage: None, model: None }
}

fn whole_for_caller(whole: WholeAnswer, answer: &AnswerTranslation) -> Result<Answer, Failure> {
    match answer.whole(&whole.body) {
        Some(body) => Ok(Answer::Whole(WholeAnswer { body, ..whole })),
        None => Err(Failure::new(FailureClass::ServerError, "the answer cannot be translated")),
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
