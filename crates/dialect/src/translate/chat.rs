//! OpenAI's chat completions, and what compatible servers (vLLM, llama.cpp, Ollama, DeepSeek, OpenRouter) add: requests,
//! answers, streams and errors, read into the forms that belong to no dialect and written from them.

mod messages_reader;
mod messages_writer;
mod reasoning;
mod reply;
mod request_reader;
mod request_writer;
mod stream_reader;
mod stream_writer;
mod wire;

use bytes::Bytes;

pub use self::{
    reply::{read_reply, write_reply},
    request_reader::read_request,
    request_writer::write_request,
    stream_reader::StreamReader,
    stream_writer::StreamWriter,
};

use crate::{error::UpstreamError, openai::error};

/// Writes a provider's error in OpenAI's shape. Its status stays with the HTTP response.
pub fn error_body(error: &UpstreamError, status: u16) -> Bytes {
    let unknown = || format!("the provider answered with status {status}");
    let message = error.message.clone().unwrap_or_else(unknown);
    error::error_body(
        &message,
        Some(error.kind.as_deref().unwrap_or("upstream_error")),
        error.code.as_deref(),
    )
}

/// Writes the event that ends a broken stream (INVARIANT 13: nothing that looks like a proper end follows).
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    error::error_event(message, kind, code)
}
