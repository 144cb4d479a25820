//! A request for an answer, without a dialect. It holds all that any dialect can express and that another can express too; a
//! reader refuses by name what it does not hold, and a writer what its dialect cannot express.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

/// A request for an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// The instructions, in order.
    pub system: Vec<Part>,
    /// The turns, in order. Two turns of one role may follow each other.
    pub turns: Vec<Turn>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// The tools whose calls the caller reads in another form than a function's. Only the writer of its answer uses them.
    pub call_forms: Vec<CallForm>,
    /// The settings that the caller's dialect repeats in an answer, as the caller wrote them. Only the writer of its answer uses
    /// them.
    pub repeated: Arc<Map<String, Value>>,
    /// Which of the tools it must or must not call.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several tools at once.
    pub parallel_tool_calls: Option<bool>,
    /// The most tokens of the answer, reasoning included.
    pub max_tokens: Option<u64>,
    /// The temperature, as written.
    pub temperature: Option<Number>,
    /// The probability mass that is sampled from, as written.
    pub top_p: Option<Number>,
    /// How many tokens are sampled from.
    pub top_k: Option<u64>,
    /// The penalty for frequent tokens, as written.
    pub frequency_penalty: Option<Number>,
    /// The penalty for tokens that occurred, as written.
    pub presence_penalty: Option<Number>,
    /// The seed of the sampling, as written.
    pub seed: Option<Number>,
    /// The texts that end the answer.
    pub stop: Vec<String>,
    /// How many answers; 0 counts as 1.
    pub choices: u64,
    /// The probabilities of tokens: `Some(0)` for the chosen ones, more for as many alternatives.
    pub logprobs: Option<u64>,
    /// The form of the answer.
    pub format: OutputFormat,
    /// How long the answer should be: `low`, `medium`, `high`. A writer whose dialect has no such key leaves it out.
    pub verbosity: Option<String>,
    /// How the model should reason.
    pub reasoning: Option<ReasoningRequest>,
    /// An opaque name of the person, for the provider's abuse detection.
    pub user: Option<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the stream ends with usage, where the caller's dialect leaves that to the caller.
    pub include_usage: bool,
}

/// What one side contributed.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Which side.
    pub role: Role,
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// Where they stand in the caller's request.
    pub places: Places,
}

impl Turn {
    /// A turn at a place of the caller's request, without parts.
    pub(crate) fn at(role: Role, path: String) -> Self {
        Self { role, parts: Vec::new(), places: Places { turn: path, parts: Vec::new() } }
    }

    /// Adds parts, each with its path.
    pub(crate) fn extend(&mut self, placed: impl IntoIterator<Item = (String, Part)>) {
        for (path, part) in placed {
            self.places.parts.push(path);
            self.parts.push(part);
        }
    }

    /// The path of the turn for errors.
    pub(crate) fn path(&self) -> &str {
        &self.places.turn
    }

    /// The path of a part for errors.
    pub(crate) fn part_path(&self, index: usize) -> String {
        self.places.parts.get(index).unwrap_or(&self.places.turn).clone()
    }
}

/// Where a turn and each of its parts stand in the caller's request, for errors. All places are equal: they are no part of
/// what is asked.
#[derive(Debug, Clone, Default)]
pub struct Places {
    turn: String,
    parts: Vec<String>,
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The caller, results of tools included.
    User,
    /// The model.
    Assistant,
}

/// A piece of a turn or of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image.
    Image(Media),
    /// A document, such as a PDF.
    Document {
        /// Its content.
        media: Media,
        /// Its file name or title.
        name: Option<String>,
    },
    /// A recording; always [`Media::Base64`] where a dialect has it.
    Audio(Media),
    /// The model's call of a tool.
    ToolCall(ToolCall),
    /// What a tool returned.
    ToolResult {
        /// The call's id.
        call: String,
        /// The result: texts, images, documents.
        parts: Vec<Part>,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// The model's reasoning.
    Reasoning(Reasoning),
    /// The model's refusal to answer.
    Refusal(String),
}

/// The content of an image, a document or a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// Inline.
    Base64 {
        /// For example `image/png`.
        media_type: String,
        /// The content in base64, as written.
        data: String,
    },
    /// Fetched by the provider.
    Url(String),
    /// A document of plain text.
    Text(String),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Pairs the call with its result.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments: the text of a JSON object, as the model wrote it.
    pub arguments: String,
}

/// Reasoning of a model, which is passed back to the model that wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// The reasoning, or its summary.
    pub text: String,
    /// The provider's signature over it, without which the provider does not accept it back.
    pub signature: Option<String>,
    /// Encrypted reasoning, in place of the text (Anthropic's `redacted_thinking`, OpenAI's `encrypted_content`).
    pub encrypted: Option<String>,
}

/// A tool that the model may call; the caller runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema.
    pub strict: Option<bool>,
}

/// How the caller reads the calls of a tool that only its dialect has, and that is a function to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallForm {
    /// The function's name to the model, one of [`Conversation::tools`].
    pub function: String,
    /// The tool's name to the caller.
    pub name: String,
    /// The namespace that the caller keeps the tool in.
    pub namespace: Option<String>,
    /// What kind of tool it is to the caller.
    pub kind: CallKind,
}

/// A kind of tool of OpenAI's responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A function, with JSON arguments.
    Function,
    /// A custom tool, which takes free text: the function has one argument, `input`.
    Custom,
    /// The caller's own search for further tools.
    ToolSearch,
}

/// Which tools the model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
}

/// The form of the answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum OutputFormat {
    /// Text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema {
        /// The schema's name, where the dialect has one.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Value,
        /// Whether the answer must follow it.
        strict: Option<bool>,
    },
}

/// How the model should reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReasoningRequest {
    /// Whether it should at all; `None` leaves it to the model.
    pub enabled: Option<bool>,
    /// For example `low`, `medium`, `high`.
    pub effort: Option<String>,
    /// The most tokens of reasoning.
    pub max_tokens: Option<u64>,
    /// Whether the caller wants to see it, for example as a summary.
    pub visible: Option<bool>,
}
