//! The body that the caller receives: the upstream's events unchanged, usage counted on the way. A broken stream ends with an
//! error event.

use std::{
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use mcpctl_api::HumanDuration;
use mcpctl_dialect::{
    EventMeaning, error::UpstreamError, meaning::ErrorMeaning, openai::error::error_event, usage::Usage,
};
use mcpctl_failover::class::FailureClass;
use mcpctl_upstream::{Failure, StreamAnswer, StreamEvent, StreamEvents};

/// How a stream ended; reported once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// The way in which it ended.
    pub outcome: StreamOutcome,
    /// The model's own count; `None` where it sent none.
    pub usage: Option<Usage>,
    /// The model that answered, as it calls itself.
    pub model: Option<String>,
}

/// The way in which a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOutcome {
    /// With its proper end.
    Completed,
    /// The upstream broke it off; the caller received an error event.
    Broken(FailureClass),
    /// The caller went away.
    Cancelled,
}

/// A stream of events on its way to the caller. Dropping it cancels the provider's work.
pub struct StreamBody {
    held: std::vec::IntoIter<StreamEvent>,
    rest: StreamEvents,
    hide_usage: bool,
    done: bool,
    usage: Option<Usage>,
    model: Option<String>,
    on_content: Option<OnContent>,
    on_end: Option<OnEnd>,
}

type OnContent = Box<dyn FnMut() + Send>;
type OnEnd = Box<dyn FnOnce(StreamEnd) + Send>;

impl StreamBody {
    /// Forwards `answer`. With `hide_usage` the event that holds only usage is removed, for callers who did not ask for it.
    pub fn new(
        answer: StreamAnswer,
        hide_usage: bool,
        on_end: impl FnOnce(StreamEnd) + Send + 'static,
    ) -> Self {
        let on_end: OnEnd = Box::new(on_end);
        let StreamAnswer { held, rest, .. } = answer;
        let held = held.into_iter();
        Self {
            held,
            rest,
            hide_usage,
            done: false,
            usage: None,
            model: None,
            on_content: None,
            on_end: Some(on_end),
        }
    }

    /// Calls `on_content` for every event with content as it goes out.
    #[must_use]
    pub fn on_content(mut self, on_content: impl FnMut() + Send + 'static) -> Self {
        self.on_content = Some(Box::new(on_content));
        self
    }

    fn end(&mut self, outcome: StreamOutcome) {
        self.done = true;
        if let Some(on_end) = self.on_end.take() {
            on_end(StreamEnd { outcome, usage: self.usage.take(), model: self.model.take() });
        }
    }
}

impl Stream for StreamBody {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            let next = match this.held.next() {
                Some(event) => Some(Ok(event)),
                None => std::task::ready!(Pin::new(&mut this.rest).poll_next(context)),
            };
            let StreamEvent { frame, event } = match next {
                None => {
                    this.end(StreamOutcome::Completed);
                    return Poll::Ready(None);
                }
                Some(Ok(event)) => event,
                Some(Err(failure)) => {
                    // INVARIANT 13: an error event, and nothing that looks like an end.
                    let class = failure.class;
                    this.end(StreamOutcome::Broken(class));
                    return Poll::Ready(Some(Ok(last_event(&failure))));
                }
            };
            if event.usage.is_some() {
                this.usage = event.usage;
            }
            if this.model.is_none() {
                this.model = event.model;
            }
            if this.hide_usage && event.meaning == EventMeaning::UsageOnly {
                continue;
            }
            if event.meaning == EventMeaning::Content
                && let Some(on_content) = &mut this.on_content
            {
                on_content();
            }
            if event.meaning == EventMeaning::Done {
                this.end(StreamOutcome::Completed);
            }
            return Poll::Ready(Some(Ok(frame.raw)));
        }
    }
}

/// The error event that ends a broken stream: the upstream's own message where it sent one.
fn last_event(failure: &Failure) -> Bytes {
    let error = UpstreamError::read(&failure.body);
    // Errors about mcpd's key or account are not for callers.
    let about_us = matches!(error.meaning, Some(ErrorMeaning::Credentials | ErrorMeaning::QuotaUsedUp));
    let UpstreamError { message, kind, code, .. } = if about_us { UpstreamError::default() } else { error };
    let message = message.unwrap_or_else(|| {
        let mut message = "the model's answer broke off before its end".to_owned();
        if let Some(timeout) = &failure.timeout {
            let (key, time) = (timeout.kind.key(), HumanDuration(timeout.duration));
            let _ = write!(message, ": nothing of it came within `timeouts.{key}` ({time})");
        }
        message
    });
    let (kind, code) = (kind.as_deref().unwrap_or("upstream_error"), code.as_deref());
    error_event(&message, kind, code.unwrap_or(failure.class.as_str()))
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.end(StreamOutcome::Cancelled);
    }
}
