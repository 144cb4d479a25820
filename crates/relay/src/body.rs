//! The body that the caller receives: the upstream's events, untouched or translated into the caller's dialect, counted on the
//! way. A broken stream goes on with another attempt where there is one, and ends with an error event otherwise.

use std::{
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, future::BoxFuture};
use mcpctl_api::HumanDuration;
use mcpctl_dialect::{
    EventMeaning, Operation,
    error::UpstreamError,
    meaning::ErrorMeaning,
    translate::{StreamTranslation, error_event, resume::Differs},
};
use mcpctl_failover::class::FailureClass;
use mcpctl_upstream::{AttemptTimeout, Failure, StreamAnswer, StreamEvent, StreamEvents};
use tokio::time::Interval;

use crate::{
    account::{StreamAccount, StreamEnd, StreamOutcome},
    recovery::{NextAttempt, Recovery},
};

/// A comment, which clients ignore, and which shows each party on the way that the stream goes on.
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// Events that have arrived together are joined up to this many bytes, so that they are written at once.
const MAX_JOINED_BYTES: usize = 16 * 1024;

/// How often a comment is sent while the next attempt is on its way.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Where the timeouts of a stream are configured, for its error to name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutKeys {
    /// In the Llm's document.
    #[default]
    Llm,
    /// Below `primary` in `mcplocal.yaml`.
    Primary,
    /// Nowhere.
    Fixed,
}

impl TimeoutKeys {
    /// The timeout and its key.
    fn name(self, timeout: &AttemptTimeout) -> String {
        let (key, time) = (timeout.kind.key(), HumanDuration(timeout.duration));
        match self {
            Self::Llm => format!("`timeouts.{key}` ({time}) of the Llm"),
            Self::Primary => format!("`primary.timeouts.{key}` ({time}) in mcplocal.yaml"),
            Self::Fixed => time.to_string(),
        }
    }
}

/// A stream of events on its way to the caller. Dropping it cancels the provider's work.
pub struct StreamBody {
    held: std::vec::IntoIter<StreamEvent>,
    rest: StreamEvents,
    account: StreamAccount,
    caller: Operation,
    timeouts: TimeoutKeys,
    hide_usage: bool,
    translation: Option<Box<StreamTranslation>>,
    recovery: Option<Box<Recovery>>,
    waiting: Option<Waiting>,
    /// The failure of the first attempt, which the caller gets where no other one goes on.
    original: Option<Failure>,
    done: bool,
}

/// The next attempt is on its way.
struct Waiting {
    next: BoxFuture<'static, Option<NextAttempt>>,
    keep_alive: Interval,
}

/// What becomes of an event.
enum Step {
    Send(Bytes),
    Skip,
    /// These are the last bytes.
    Complete(Bytes),
    /// These are the last bytes: an error, because the answer cannot go on in the caller's dialect.
    Fail(Bytes),
    /// The attempt contradicts what was delivered.
    Differs,
}

impl StreamBody {
    /// Forwards `answer`. With `hide_usage` the event that holds only usage is removed, for callers who did not ask for it.
    pub fn new(
        answer: StreamAnswer,
        hide_usage: bool,
        on_end: impl FnOnce(StreamEnd) + Send + 'static,
    ) -> Self {
        let StreamAnswer { held, rest, .. } = answer;
        Self {
            held: held.into_iter(),
            rest,
            account: StreamAccount::new(on_end),
            caller: Operation::Chat,
            timeouts: TimeoutKeys::default(),
            hide_usage,
            translation: None,
            recovery: None,
            waiting: None,
            original: None,
            done: false,
        }
    }

    /// Calls `on_content` for every event with content, also for one that the caller has already from an attempt before.
    #[must_use]
    pub fn on_content(mut self, on_content: impl FnMut() + Send + 'static) -> Self {
        self.account = self.account.on_content(on_content);
        self
    }

    /// Names the operation that the caller asked for, in whose dialect errors are written; chat completions without it.
    #[must_use]
    pub fn for_caller(mut self, caller: Operation) -> Self {
        self.caller = caller;
        self
    }

    /// Names where its timeouts are configured; in the Llm's document without it.
    #[must_use]
    pub fn timed_by(mut self, timeouts: TimeoutKeys) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Translates the events into the caller's dialect.
    #[must_use]
    pub fn translated(mut self, translation: StreamTranslation) -> Self {
        self.translation = Some(Box::new(translation));
        self
    }

    /// Goes on with another attempt where the stream breaks.
    #[must_use]
    pub fn recovered_by(mut self, recovery: Option<Recovery>) -> Self {
        self.recovery = recovery.map(Box::new);
        self
    }

    /// Whether the caller has its last bytes.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    fn end(&mut self, outcome: StreamOutcome) {
        self.done = true;
        self.account.end(outcome);
    }

    /// What an event becomes for the caller.
    fn take(&mut self, StreamEvent { frame, event }: StreamEvent) -> Step {
        if event.usage.is_some() {
            self.account.usage = event.usage;
        }
        if self.account.model.is_none() {
            self.account.model = event.model;
        }
        let done = event.meaning == EventMeaning::Done;
        let has_content = event.meaning == EventMeaning::Content;
        let Some(translation) = &mut self.translation else {
            if self.hide_usage && event.meaning == EventMeaning::UsageOnly {
                return Step::Skip;
            }
            if let Some(recovery) = &mut self.recovery {
                recovery.record(&frame, has_content);
            }
            if has_content {
                self.account.content();
            }
            return if done { Step::Complete(frame.raw) } else { Step::Send(frame.raw) };
        };
        let mut out = BytesMut::new();
        for delta in translation.read(&frame) {
            let passed = match &mut self.recovery {
                None => Some(delta),
                Some(recovery) => match recovery.pass(delta) {
                    Ok(passed) => passed,
                    Err(Differs) => return Step::Differs,
                },
            };
            if let Some(delta) = passed {
                out.extend_from_slice(&translation.write(&delta));
            }
        }
        if has_content {
            self.account.content();
        }
        if translation.exceeds_bounds() {
            let message = "the answer has more calls of tools than can be translated";
            out.extend_from_slice(&error_event(self.caller, message, "upstream_error", "answer_too_large"));
            return Step::Fail(out.freeze());
        }
        if translation.has_failed() {
            return Step::Fail(out.freeze());
        }
        if done {
            return self.complete(out);
        }
        match event.meaning {
            _ if !out.is_empty() => Step::Send(out.freeze()),
            // A comment of the upstream, or content that the caller has already.
            EventMeaning::Silent | EventMeaning::Content => Step::Send(KEEP_ALIVE),
            _ => Step::Skip,
        }
    }

    /// The end of a translated stream that is complete.
    fn complete(&mut self, mut out: BytesMut) -> Step {
        if self.recovery.as_ref().is_some_and(|recovery| !recovery.caught_up()) {
            return Step::Differs;
        }
        if let Some(translation) = &mut self.translation {
            out.extend_from_slice(&translation.finish());
        }
        Step::Complete(out.freeze())
    }

    /// Begins to wait for another attempt, if there may be one.
    fn recover(&mut self, failure: Failure) -> Result<(), Failure> {
        let may_resume = failure.may_resume();
        let original = self.original.take().unwrap_or(failure);
        let broken = self.recovery.as_mut().filter(|_| may_resume).and_then(|recovery| recovery.broken());
        let (Some(broken), Some(recovery)) = (broken, &mut self.recovery) else { return Err(original) };
        self.account.end(StreamOutcome::Broken(FailureClass::BrokenStream));
        self.original = Some(original);
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE_INTERVAL);
        keep_alive.reset();
        self.waiting = Some(Waiting { next: (recovery.next)(broken), keep_alive });
        Ok(())
    }

    /// Turns to the next attempt; false where there is none that can be forwarded.
    fn turn(&mut self, next: Option<NextAttempt>) -> bool {
        let (Some(next), Some(recovery)) = (next, &mut self.recovery) else { return false };
        let NextAttempt { answer, operation, continues, account } = next;
        self.account = account;
        let StreamAnswer { held, rest, .. } = answer;
        self.held = held.into_iter();
        self.rest = rest;
        let translation = self.translation.take().map(|translation| *translation);
        self.translation = recovery.turn(operation, continues, translation).map(Box::new);
        self.translation.is_some()
    }

    /// Ends with an error event, and nothing that looks like an end (INVARIANT 13).
    fn fail(&mut self, failure: &Failure) -> Bytes {
        self.end(StreamOutcome::Broken(failure.class));
        last_event(self.caller, self.timeouts, failure)
    }
}

impl StreamBody {
    /// What the caller gets next; `None` after its last bytes.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while !self.done {
            if let Some(waiting) = &mut self.waiting {
                let Poll::Ready(next) = waiting.next.as_mut().poll(context) else {
                    ready!(waiting.keep_alive.poll_tick(context));
                    return Poll::Ready(Some(KEEP_ALIVE));
                };
                self.waiting = None;
                if !self.turn(next)
                    && let Some(original) = self.original.take()
                {
                    return Poll::Ready(Some(self.fail(&original)));
                }
            }
            let next = match self.held.next() {
                Some(event) => Some(Ok(event)),
                None => ready!(Pin::new(&mut self.rest).poll_next(context)),
            };
            if let Some(bytes) = self.forward(next) {
                return Poll::Ready(Some(bytes));
            }
        }
        Poll::Ready(None)
    }

    /// The next event that has arrived already.
    fn arrived(&mut self) -> Option<Result<StreamEvent, Failure>> {
        if self.done || self.waiting.is_some() {
            return None;
        }
        self.held.next().map(Ok).or_else(|| self.rest.arrived())
    }

    /// What the caller gets of the next event, or of the end of the stream; `None` where that is nothing yet.
    fn forward(&mut self, next: Option<Result<StreamEvent, Failure>>) -> Option<Bytes> {
        let step = match next {
            // The stream is complete, although its last event did not mark the end.
            None => self.complete(BytesMut::new()),
            Some(Ok(event)) => self.take(event),
            Some(Err(failure)) => {
                return match self.recover(failure) {
                    Ok(()) => None,
                    Err(failure) => Some(self.fail(&failure)),
                };
            }
        };
        match step {
            Step::Send(bytes) => Some(bytes),
            Step::Skip => None,
            Step::Complete(last) => {
                self.end(StreamOutcome::Completed);
                (!last.is_empty()).then_some(last)
            }
            Step::Fail(last) => {
                // No other attempt would fit either.
                self.end(StreamOutcome::Broken(FailureClass::BrokenStream));
                Some(last)
            }
            Step::Differs => {
                let differs = "the next attempt answers otherwise than what was delivered";
                let differs = || Failure::new(FailureClass::BrokenStream, differs);
                let original = self.original.take().unwrap_or_else(differs);
                Some(self.fail(&original))
            }
        }
    }
}

impl Stream for StreamBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(first) = ready!(this.poll_bytes(context)) else { return Poll::Ready(None) };
        let mut joined = BytesMut::new();
        while first.len().max(joined.len()) < MAX_JOINED_BYTES
            && let Some(event) = this.arrived()
        {
            let Some(bytes) = this.forward(Some(event)) else { continue };
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&bytes);
        }
        Poll::Ready(Some(Ok(if joined.is_empty() { first } else { joined.freeze() })))
    }
}

/// The error event that ends a broken stream: the upstream's own message where it sent one.
fn last_event(caller: Operation, timeouts: TimeoutKeys, failure: &Failure) -> Bytes {
    let error = UpstreamError::read(&failure.body);
    // Errors about mcpd's key or account are not for callers. What mcpd itself denies is about them.
    let about_us = matches!(error.meaning, Some(ErrorMeaning::Credentials | ErrorMeaning::QuotaUsedUp))
        && !failure.is_denial();
    let UpstreamError { message, kind, code, .. } = if about_us { UpstreamError::default() } else { error };
    let message = message.unwrap_or_else(|| {
        let mut message = "the model's answer broke off before its end".to_owned();
        if let Some(timeout) = &failure.timeout {
            let _ = write!(message, ": nothing of it came within {}", timeouts.name(timeout));
        }
        message
    });
    let (kind, code) = (kind.as_deref().unwrap_or("upstream_error"), code.as_deref());
    error_event(caller, &message, kind, code.unwrap_or(failure.class.as_str()))
}
