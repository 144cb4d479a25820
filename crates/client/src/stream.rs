//! A streamed chat response, parsed event by event.

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
        }
    }

    /// The next part; `None` after the last one.
    pub async fn next(&mut self) -> Option<Delta> {
        loop {
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
                    if let Some(text) = frame.data.as_deref().and_then(text_of) {
                        return Some(Delta::Text(text));
                    }
                    if let Some(usage) = event.usage {
                        return Some(Delta::Usage(usage));
                    }
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

fn text_of(data: &[u8]) -> Option<String> {
    let event = lenient::value(data)?;
    let text = event.pointer("/choices/0/delta/content")?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
