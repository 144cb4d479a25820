//! An answer without a dialect, whole or in pieces.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::conversation::{CallForm, Conversation, Part};
use crate::usage::Usage;

/// What the caller's request asks of the form of the answer, besides the conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriterOptions {
    /// Whether a stream of chat completions ends with an event of usage (`stream_options.include_usage`).
    pub include_usage: bool,
    /// When the answer began, in seconds since 1970, where the provider does not report it.
    pub now: u64,
    /// The tools whose calls the caller reads in another form than a function's.
    pub call_forms: Vec<CallForm>,
    /// The settings of the request that the answer repeats, as the caller wrote them.
    pub repeated: Arc<Map<String, Value>>,
}

impl WriterOptions {
    /// The options of a request, whose answer begins `now`.
    pub fn of(conversation: &Conversation, now: u64) -> Self {
        let Conversation { include_usage, call_forms, repeated, .. } = conversation;
        Self {
            include_usage: *include_usage,
            now,
            call_forms: call_forms.clone(),
            repeated: Arc::clone(repeated),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// The model that answered, as it calls itself.
    pub model: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: Option<u64>,
    /// The choices, by index.
    pub choices: Vec<Choice>,
    /// What it cost.
    pub usage: Option<Usage>,
}

/// One of the answers that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Option<Finish>,
    /// Probabilities of tokens, in OpenAI's form.
    pub logprobs: Option<Value>,
}

/// Why a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model had no more to write.
    Stop,
    /// One of the texts in `stop` came; which one, where the dialect has that.
    StopSequence(Option<String>),
    /// The most tokens were reached.
    Length,
    /// It calls tools.
    ToolCalls,
    /// The provider or the model withheld the rest.
    Refused,
}

/// Longest id or name of a model that a stream's events repeat, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// An id or a name of a model as a stream's events repeat it: a long one is cut, so that a provider cannot make each event large.
pub(super) fn bounded_name(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
    name
}

/// A piece of a streamed answer, in the order of its arrival.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// The answer begins. At most once, and before all others.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers.
        model: Option<String>,
        /// When it was made, in seconds since 1970.
        created: Option<u64>,
    },
    /// More text.
    Text {
        /// The choice, from 0.
        choice: u64,
        /// The text to append.
        text: String,
        /// Probabilities of its tokens, in OpenAI's form.
        logprobs: Option<Value>,
    },
    /// More reasoning.
    Reasoning {
        /// The choice, from 0.
        choice: u64,
        /// The text to append.
        text: String,
    },
    /// The signature of the reasoning so far.
    ReasoningSignature {
        /// The choice, from 0.
        choice: u64,
        /// The signature.
        signature: String,
    },
    /// A whole block of encrypted reasoning.
    EncryptedReasoning {
        /// The choice, from 0.
        choice: u64,
        /// The block.
        data: String,
    },
    /// More of a refusal to answer.
    Refusal {
        /// The choice, from 0.
        choice: u64,
        /// The text to append.
        text: String,
    },
    /// A call of a tool begins.
    ToolCall {
        /// The choice, from 0.
        choice: u64,
        /// Its place among the choice's calls, from 0.
        call: u64,
        /// Pairs the call with its result.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// The choice, from 0.
        choice: u64,
        /// The call's place among the choice's calls.
        call: u64,
        /// The text to append.
        json: String,
    },
    /// A choice ends.
    Finish {
        /// The choice, from 0.
        choice: u64,
        /// Why.
        finish: Finish,
    },
    /// The usage so far; the last one counts.
    Usage(Usage),
}
