//! How the model server replies to a request: a completion or an error, and the faults on the way. A test builds a reply and
//! queues it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Semaphore;

/// Holds a reply back until the test releases it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Opens the gate for good, for every reply that waits at it.
    pub fn release(&self) {
        self.0.close();
    }

    pub(super) async fn wait(&self) {
        // No permit is ever added: the wait ends when the semaphore is closed.
        let _ = self.0.acquire().await;
    }
}

/// A wait at some point of a reply.
#[derive(Debug, Clone)]
pub enum Pause {
    /// Until the client goes away.
    Forever,
    /// For a while.
    For(Duration),
    /// Until the test opens the gate.
    Gate(Gate),
}

/// A fault at some point of a body.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Sends nothing for a while.
    Pause(Pause),
    /// Sends these bytes as they are.
    Bytes(Bytes),
    /// Closes the connection in the middle of the body.
    Cut,
    /// Ends the body properly, without a finish reason and without `[DONE]`.
    End,
}

/// One scripted reply, from a constructor and changed by the methods; a complete answer by default.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    /// The body that is sent instead of a completion.
    pub(super) body: Option<Bytes>,
    /// The pieces of a stream that are sent instead of a completion's.
    pub(super) stream: Vec<Bytes>,
    pub(super) words: Vec<String>,
    pub(super) reasoning: Vec<String>,
    /// Names and arguments.
    pub(super) tool_calls: Vec<(String, String)>,
    /// The arguments of a tool that the request forces.
    pub(super) forced_arguments: String,
    pub(super) model: Option<String>,
    pub(super) pace: Option<Duration>,
    pub(super) before_head: Option<Pause>,
    pub(super) reset: bool,
    pub(super) without_done: bool,
    pub(super) start_up: Vec<Bytes>,
    /// Faults by the number of content chunks sent before them.
    pub(super) faults: Vec<(usize, Fault)>,
}

impl Default for Reply {
    fn default() -> Self {
        Self::text("Hello from the model server.")
    }
}

impl Reply {
    /// Answers with `text`, word by word where a stream is requested.
    pub fn text(text: &str) -> Self {
        Self {
            status: StatusCode::OK,
            headers: Vec::new(),
            body: None,
            stream: Vec::new(),
            words: text.split_inclusive(' ').map(str::to_owned).collect(),
            reasoning: Vec::new(),
            tool_calls: Vec::new(),
            forced_arguments: "{}".to_owned(),
            model: None,
            pace: None,
            before_head: None,
            reset: false,
            without_done: false,
            start_up: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Answers with these pieces, one after the other where a stream is requested.
    pub fn pieces(pieces: &[&str]) -> Self {
        Self { words: pieces.iter().map(|&piece| piece.to_owned()).collect(), ..Self::text("") }
    }

    /// Answers with a call of the tool `name`.
    pub fn tool_call(name: &str, arguments: &str) -> Self {
        Self::tool_calls(&[(name, arguments)])
    }

    /// Answers with calls of these tools, each by its name and its arguments. Where a stream is requested, the arguments of
    /// several calls come in pieces.
    pub fn tool_calls(calls: &[(&str, &str)]) -> Self {
        let owned = |(name, arguments): &(&str, &str)| ((*name).to_owned(), (*arguments).to_owned());
        Self { tool_calls: calls.iter().map(owned).collect(), ..Self::text("") }
    }

    /// Answers with this status and this body.
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), body: Some(body.into()), ..Self::default() }
    }

    /// Streams exactly these bytes, in these pieces; a cut follows them wherever it is scripted.
    pub fn stream_of(pieces: Vec<Bytes>) -> Self {
        Self { stream: pieces, ..Self::default() }
    }

    /// An error in OpenAI's shape.
    pub fn error(status: u16, message: &str, code: &str) -> Self {
        let body = serde_json::json!({
            "error": { "message": message, "type": "server_error", "code": code, "param": null }
        });
        Self::status(status, body.to_string()).header("content-type", "application/json")
    }

    /// 429 with `Retry-After`.
    pub fn rate_limited(retry_after: &str) -> Self {
        Self::error(429, "rate limit reached", "rate_limit_exceeded").header("retry-after", retry_after)
    }

    /// 400 because the prompt is too long, in OpenAI's words.
    pub fn context_length() -> Self {
        Self::error(400, "this model's maximum context length is 8 tokens", "context_length_exceeded")
    }

    /// Closes the connection with a reset before any byte of a response.
    pub fn reset() -> Self {
        Self { reset: true, ..Self::default() }
    }

    /// Never sends a response head.
    pub fn hang() -> Self {
        Self::default().before_head(Pause::Forever)
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Names another model than the request.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.model = Some(model.to_owned());
        self
    }

    /// Calls a tool that the request forces with these arguments, rather than with none.
    #[must_use]
    pub fn forced_arguments(mut self, arguments: &str) -> Self {
        arguments.clone_into(&mut self.forced_arguments);
        self
    }

    /// Reasons before it answers.
    #[must_use]
    pub fn reasoning(mut self, text: &str) -> Self {
        self.reasoning = text.split_inclusive(' ').map(str::to_owned).collect();
        self
    }

    /// Waits this long before every content chunk.
    #[must_use]
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = Some(pace);
        self
    }

    /// Waits before the response head.
    #[must_use]
    pub fn before_head(mut self, pause: Pause) -> Self {
        self.before_head = Some(pause);
        self
    }

    /// Sends `count` more events without content before the first token, each of about `size` bytes.
    #[must_use]
    pub fn start_up(mut self, count: usize, size: usize) -> Self {
        let padding = "x".repeat(size.saturating_sub(80));
        let event = format!(
            "data: {{\"object\":\"chat.completion.chunk\",\"choices\":[{{\"delta\":{{}}}}],\"pad\":\"{padding}\"}}\n\n"
        );
        self.start_up.extend(std::iter::repeat_n(Bytes::from(event), count));
        self
    }

    /// Adds a fault after `chunks` content chunks: 0 is before the first token. A body that is not streamed has it in the
    /// middle, whatever the number.
    #[must_use]
    pub fn after(mut self, chunks: usize, fault: Fault) -> Self {
        self.faults.push((chunks, fault));
        self
    }

    /// Sends nothing more after `chunks` content chunks, and keeps the connection.
    #[must_use]
    pub fn stall_after(self, chunks: usize) -> Self {
        self.after(chunks, Fault::Pause(Pause::Forever))
    }

    /// Closes the connection after `chunks` content chunks.
    #[must_use]
    pub fn cut_after(self, chunks: usize) -> Self {
        self.after(chunks, Fault::Cut)
    }

    /// Reports an error inside the stream after `chunks` content chunks, and ends it.
    #[must_use]
    pub fn error_after(self, chunks: usize, message: &str) -> Self {
        let error =
            serde_json::json!({ "error": { "message": message, "type": "server_error", "code": 500 } });
        self.after(chunks, Fault::Bytes(format!("data: {error}\n\n").into())).after(chunks, Fault::End)
    }

    /// Sends bytes that are no chunk after `chunks` content chunks, and continues.
    #[must_use]
    pub fn garbage_after(self, chunks: usize) -> Self {
        self.after(chunks, Fault::Bytes(Bytes::from_static(b"data: {\"choices\":[{\"del\xFF\xFE\n\n")))
    }

    /// Ends a stream of OpenAI's after the finish reason, without `[DONE]`.
    #[must_use]
    pub fn without_done(mut self) -> Self {
        self.without_done = true;
        self
    }

    /// Waits at `gate` after `chunks` content chunks.
    #[must_use]
    pub fn gate_after(self, chunks: usize, gate: &Gate) -> Self {
        self.after(chunks, Fault::Pause(Pause::Gate(gate.clone())))
    }
}

/// The id of the call at this place.
pub(super) fn call_id(at: usize) -> String {
    format!("call_{}", at + 1)
}

/// Arguments as they are streamed: in two pieces where `split` is set.
pub(super) fn pieces(arguments: &str, split: bool) -> Vec<String> {
    let (first, rest) = arguments.split_at(if split { arguments.len() / 2 } else { 0 });
    [first, rest].into_iter().filter(|piece| !piece.is_empty()).map(str::to_owned).collect()
}
