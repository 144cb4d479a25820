//! Anthropic's messages: requests, answers, streams and errors, read into the forms that belong to no dialect and written from
//! them.

mod content_reader;
mod estimate;
mod image_size;
mod reply;
mod request_reader;
mod request_writer;
mod stream_reader;
mod stream_writer;
mod thinking;
mod turns_writer;

use bytes::Bytes;

pub use self::{
    estimate::{count_body, estimate_tokens},
    reply::{read_reply, write_reply},
    request_reader::read_request,
    request_writer::{DEFAULT_MAX_TOKENS, write_request},
    stream_reader::StreamReader,
    stream_writer::StreamWriter,
};

use crate::{anthropic::error, error::UpstreamError};

/// Writes a provider's error in Anthropic's shape. Its status stays with the HTTP response.
pub fn error_body(error: &UpstreamError, status: u16) -> Bytes {
    let unknown = || format!("the provider answered with status {status}");
    let message = error.message.clone().unwrap_or_else(unknown);
    error::error_body(&message, error::kind(error.kind.as_deref(), status), error.code.as_deref(), None)
}

/// Writes the event that ends a broken stream (INVARIANT 13: nothing that looks like a proper end follows).
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    error::error_event(message, kind, code)
}
