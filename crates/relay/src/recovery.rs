//! What happens after a stream broke in the middle: the next attempt, which begins the answer anew or continues what was
//! delivered. Which upstream that is, and whether it is allowed, is decided elsewhere.

use futures::future::BoxFuture;
use mcpctl_dialect::{
    Operation, Request,
    sse::Frame,
    translate::{
        DeltaReader, StreamTranslation,
        reply::{Delta, WriterOptions},
        resume::{Delivered, Differs, Resume},
    },
};
use mcpctl_upstream::StreamAnswer;

use crate::account::StreamAccount;

/// Another attempt at an answer whose stream broke.
pub struct NextAttempt {
    /// Its answer.
    pub answer: StreamAnswer,
    /// The operation at its upstream.
    pub operation: Operation,
    /// How many bytes of [`Broken::prefix`] it continues; `None` where it begins the answer anew.
    pub continues: Option<usize>,
    /// Accounts for it.
    pub account: StreamAccount,
}

/// What the next attempt may build on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The text that was delivered, for a model that can continue it. `None` where the delivered part is more than text.
    pub prefix: Option<String>,
}

/// Finds the next attempt; `None` where there is no further one. It is called each time that a stream breaks.
pub type NextAttempts = Box<dyn FnMut(Broken) -> BoxFuture<'static, Option<NextAttempt>> + Send>;

/// The recovery of one stream: remembers what was delivered, and compares the next attempt with it.
pub struct Recovery {
    pub(crate) next: NextAttempts,
    caller: Operation,
    options: WriterOptions,
    /// Reads a stream that is forwarded untouched; what is translated was read already.
    recorder: DeltaReader,
    delivered: Delivered,
    resume: Option<Resume>,
}

impl Recovery {
    /// A recovery for the stream of `upstream` to `caller`. `None` for operations that are not read or written
    /// (`/completions`, untouched `/responses`): their broken streams end with the error.
    pub fn new(
        caller: Operation,
        upstream: Operation,
        options: WriterOptions,
        next: NextAttempts,
    ) -> Option<Self> {
        let recorder = DeltaReader::of(upstream)?;
        let delivered = Delivered::default();
        Some(Self { next, caller, options, recorder, delivered, resume: None })
    }

    /// The recovery of an untouched stream that answers `asked`. `None` as in [`Recovery::new`].
    pub fn of_untouched(asked: &Request, next: NextAttempts) -> Option<Self> {
        let options = WriterOptions { include_usage: asked.include_usage, ..WriterOptions::default() };
        Self::new(asked.operation, asked.operation, options, next)
    }

    /// Records an event that is forwarded untouched.
    pub(crate) fn record(&mut self, frame: &Frame, has_content: bool) {
        let deltas = self.recorder.read(frame);
        let is_content = |delta: &Delta| !matches!(delta, Delta::Start { .. } | Delta::Usage(_));
        // Audio, for example: another attempt could not be compared with it.
        if has_content && !deltas.iter().any(is_content) && !self.recorder.holds_back() {
            self.delivered.give_up();
        }
        if self.recorder.exceeds_bounds() {
            self.delivered.give_up();
        }
        for delta in deltas {
            self.delivered.push(delta);
        }
    }

    /// What of a piece goes to the caller: all of it, unless an attempt is catching up.
    pub(crate) fn pass(&mut self, delta: Delta) -> Result<Option<Delta>, Differs> {
        let passed = match &mut self.resume {
            None => Some(delta),
            Some(resume) => resume.push(delta)?,
        };
        if let Some(delta) = &passed {
            self.delivered.push(delta.clone());
        }
        Ok(passed)
    }

    /// Whether the attempt has repeated everything that was delivered.
    pub(crate) fn caught_up(&self) -> bool {
        self.resume.as_ref().is_none_or(Resume::caught_up)
    }

    /// What the next attempt may build on; `None` where nothing can be compared with what was delivered.
    pub(crate) fn broken(&mut self) -> Option<Broken> {
        // The recorder read no later attempt, so that it holds nothing back after the first one.
        match self.recorder.held_back() {
            Some(deltas) => deltas.into_iter().for_each(|delta| self.delivered.push(delta)),
            None => self.delivered.give_up(),
        }
        self.delivered.deltas().map(|_| Broken { prefix: self.delivered.prefix() })
    }

    /// Turns to the events of the next attempt; `None` where they cannot be translated for the caller.
    pub(crate) fn turn(
        &mut self,
        upstream: Operation,
        continues: Option<usize>,
        translation: Option<StreamTranslation>,
    ) -> Option<StreamTranslation> {
        let delivered = self.delivered.deltas()?;
        self.resume = Some(match continues {
            None => Resume::new(delivered),
            Some(bytes) => {
                let prefix = self.delivered.prefix()?;
                let (beginning, rest) = prefix.split_at_checked(bytes)?;
                Resume::continuing(beginning, rest)
            }
        });
        match translation {
            Some(mut translation) => translation.follow(upstream).then_some(translation),
            None => StreamTranslation::resumed(self.caller, upstream, &self.options, delivered),
        }
    }
}
