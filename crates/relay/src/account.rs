//! What is reported of a stream: its content as it goes out, and its end.

use mcpctl_dialect::usage::Usage;
use mcpctl_failover::class::FailureClass;

/// How a stream ended; reported once for each attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// The way in which it ended.
    pub outcome: StreamOutcome,
    /// The model's own count; `None` where it sent none that can be believed.
    pub usage: Option<Usage>,
    /// The model that answered, as it calls itself.
    pub model: Option<String>,
}

/// The way in which a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOutcome {
    /// With its proper end.
    Completed,
    /// The upstream broke it off, or it did not go on as another one had begun.
    Broken(FailureClass),
    /// The caller went away.
    Cancelled,
}

/// What learns of one attempt's stream. Dropping it reports that the caller went away.
pub struct StreamAccount {
    pub(crate) usage: Option<Usage>,
    pub(crate) model: Option<String>,
    on_content: Option<OnContent>,
    on_end: Option<OnEnd>,
}

type OnContent = Box<dyn FnMut() + Send>;
type OnEnd = Box<dyn FnOnce(StreamEnd) + Send>;

impl StreamAccount {
    /// Calls `on_end` once, when the stream ends.
    pub fn new(on_end: impl FnOnce(StreamEnd) + Send + 'static) -> Self {
        Self { usage: None, model: None, on_content: None, on_end: Some(Box::new(on_end)) }
    }

    /// Calls `on_content` for every event with content, also for one that the caller has already from an attempt before.
    #[must_use]
    pub fn on_content(mut self, on_content: impl FnMut() + Send + 'static) -> Self {
        self.on_content = Some(Box::new(on_content));
        self
    }

    pub(crate) fn content(&mut self) {
        if let Some(on_content) = &mut self.on_content {
            on_content();
        }
    }

    pub(crate) fn end(&mut self, outcome: StreamOutcome) {
        if let Some(on_end) = self.on_end.take() {
            let usage = self.usage.take().and_then(Usage::plausible);
            on_end(StreamEnd { outcome, usage, model: self.model.take() });
        }
    }
}

impl Drop for StreamAccount {
    fn drop(&mut self) {
        self.end(StreamOutcome::Cancelled);
    }
}
