//! A streamed chat response, parsed event by event.

use std::collections::VecDeque;

use futures::{StreamExt as _, stream::BoxStream};
use mcpctl_api::header;
use mcpctl_dialect::{EventMeaning, EventReader, Operation, lenient, sse::Decoder, usage::Usage};
use reqwest::{
    Response,
    header::{HeaderMap, HeaderName},
};

use crate::error::one_line;

/// The model that answered, from the response's headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedBy {
    /// The name of the Llm or the local provider.
    pub name: Option<String>,
    /// How the Llm failed, where a fallback answered: another Llm, or a local provider.
    pub failover: Option<String>,
    /// How many attempts the request took, the failed ones included.
    pub attempts: Option<u32>,
}

/// A part of a streamed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Text of the answer.
    Text(String),
    /// Text of what the model thinks before it answers.
    Reasoning(String),
    /// Why the answer ends, e.g. `stop` or `length`.
    Finished(String),
    /// Token usage; comes last, if at all.
    Usage(Usage),
    /// The stream broke off.
    Broken(BrokenStream),
}

/// Why a stream broke off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenStream {
    /// The server's message, or what is wrong with what it sent.
    pub message: String,
    /// The code of the server's error.
    pub code: Option<String>,
}

/// A response that streams.
pub struct ChatStream {
    /// The model that answers.
    pub served_by: ServedBy,
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    decoder: Option<Decoder>,
    events: EventReader,
    finished: bool,
    /// Read already, and not returned.
    pending: VecDeque<Delta>,
}

/// Maximum length of an event, in bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;

impl ChatStream {
    pub(crate) fn new(answer: Response) -> Self {
        let served_by = served_by(answer.headers());
        Self {
            served_by,
            bytes: answer.bytes_stream().boxed(),
            decoder: Some(Decoder::new(MAX_EVENT_BYTES)),
            events: EventReader::new(Operation::Chat),
            finished: false,
            pending: VecDeque::new(),
        }
    }

    /// The next part; `None` after the last one.
    pub async fn next(&mut self) -> Option<Delta> {
        loop {
            if let Some(delta) = self.pending.pop_front() {
                return Some(delta);
            }
            let decoder = self.decoder.as_mut()?;
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    let event = self.events.read(&frame);
                    self.finished |= event.finished > 0;
                    match event.meaning {
                        EventMeaning::Done => {
                            self.decoder = None;
                            return None;
                        }
                        EventMeaning::Error(error) => {
                            let message = error.message.unwrap_or_else(|| "the answer broke off".to_owned());
                            self.decoder = None;
                            let code = error.code.map(|code| one_line(&code));
                            return Some(Delta::Broken(BrokenStream { message: one_line(&message), code }));
                        }
                        // Skipping it would leave an invisible hole in the answer.
                        EventMeaning::Unreadable => {
                            return self.broken("the answer is not readable");
                        }
                        EventMeaning::Silent
                        | EventMeaning::StartUp
                        | EventMeaning::Content
                        | EventMeaning::UsageOnly
                        | EventMeaning::Foreign => {}
                    }
                    self.pending.extend(frame.data.as_deref().into_iter().flat_map(parts));
                    self.pending.extend(event.usage.map(Delta::Usage));
                }
                Ok(None) => match self.bytes.next().await {
                    Some(Ok(bytes)) => decoder.push(&bytes),
                    Some(Err(_)) => return self.broken("the connection was cut"),
                    // A stream that ends with neither `[DONE]` nor a finish reason did not complete.
                    None if self.finished => {
                        self.decoder = None;
                        return None;
                    }
                    None => return self.broken("the answer ended too early"),
                },
                Err(_) => return self.broken("the answer is not readable"),
            }
        }
    }

    fn broken(&mut self, message: &str) -> Option<Delta> {
        self.decoder = None;
        Some(Delta::Broken(BrokenStream { message: message.to_owned(), code: None }))
    }
}

fn served_by(headers: &HeaderMap) -> ServedBy {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    ServedBy {
        name: text(&header::SERVED_BY),
        failover: text(&header::FAILOVER),
        attempts: text(&header::ATTEMPTS).and_then(|attempts| attempts.parse().ok()),
    }
}

/// The parts of an event of a chat, in the order in which they belong. Reasoning has the name that DeepSeek and llama.cpp gave it, or
/// OpenRouter's; mcpd writes the first for providers of Anthropic's API.
fn parts(data: &[u8]) -> Vec<Delta> {
    let Some(event) = lenient::value(data) else { return Vec::new() };
    let text = |path: &str| {
        let text = event.pointer(path).and_then(|text| text.as_str());
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let reasoning = text("/choices/0/delta/reasoning_content").or_else(|| text("/choices/0/delta/reasoning"));
    let parts = [
        reasoning.map(Delta::Reasoning),
        text("/choices/0/delta/content").map(Delta::Text),
        text("/choices/0/finish_reason").map(Delta::Finished),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_has_reasoning_text_and_end() {
        let read = |choice: &str| parts(format!(r#"{{"choices": [{choice}]}}"#).as_bytes());
        let thought = || Delta::Reasoning("hm".to_owned());
        assert_eq!(read(r#"{"delta": {"reasoning_content": "hm"}}"#), [thought()]);
        assert_eq!(
            read(r#"{"delta": {"content": "yes", "reasoning": "hm"}}"#),
            [thought(), Delta::Text("yes".to_owned())]
        );
        let end = Delta::Finished("length".to_owned());
        assert_eq!(read(r#"{"delta": {"content": ""}, "finish_reason": "length"}"#), [end]);
        assert_eq!(read(r#"{"delta": {"content": null}, "finish_reason": null}"#), []);
    }
}
