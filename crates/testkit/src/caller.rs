//! A caller in one of the dialects: what it sends, and what it makes of the answer. It reads as strictly as a client may: an answer is
//! whole, an error is in the dialect's shape, and a broken stream has nothing that looks like an end. Independent of `dialect`, so
//! that a mistake there is not repeated here.

mod read;

use reqwest::Response;
use serde_json::{Value, json};

use crate::response::header;

/// A caller by the API that it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// OpenAI's chat completions.
    Chat,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses,
}

/// Tokens that an answer reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

/// What a caller got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// A whole answer.
    Answer {
        /// What `mcpctl-served-by` names; empty where it is not sent.
        by: String,
        /// What `mcpctl-failover` names; empty where it is not sent.
        failover: String,
        /// Its text.
        text: String,
        /// What it reports.
        tokens: Tokens,
    },
    /// An error instead of an answer.
    Error {
        /// Its status.
        status: u16,
        /// What `mcpctl-failure` names; empty where it is not sent.
        class: String,
    },
    /// The beginning of an answer, and an error event as its end.
    Broken {
        /// The text before the error.
        text: String,
    },
    /// What no client can use, or must not believe: a malformed answer, or a broken one that looks complete.
    Wrong(String),
}

impl Caller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chat, Self::Messages, Self::Responses];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Messages => "messages",
            Self::Responses => "responses",
        }
    }

    /// The route that it uses.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    /// A request with one short message. A stream of chat completions asks for its usage, which the other APIs report anyway.
    pub fn body(self, llm: &str, stream: bool, prompt: &str) -> Value {
        let message = json!([{"role": "user", "content": prompt}]);
        match self {
            Self::Chat if stream => {
                json!({"model": llm, "stream": true, "messages": message, "max_tokens": 50,
                "stream_options": {"include_usage": true}})
            }
            Self::Chat | Self::Messages => {
                json!({"model": llm, "stream": stream, "messages": message, "max_tokens": 50})
            }
            Self::Responses => {
                json!({"model": llm, "stream": stream, "input": prompt, "max_output_tokens": 50})
            }
        }
    }

    /// Reads the bytes of a stream, of which only those are known.
    pub fn read_stream(self, body: &str) -> Got {
        let read = self.stream(body).map(|read| read.got(String::new(), String::new()));
        read.unwrap_or_else(|error| Got::Wrong(format!("{error}: {body}")))
    }

    /// Reads the response to the end.
    pub async fn read(self, response: Response, stream: bool) -> Got {
        let status = response.status().as_u16();
        let named = |name| header(&response, name).unwrap_or_default().to_owned();
        let (class, kind) = (named("mcpctl-failure"), named("content-type"));
        let (by, failover) = (named("mcpctl-served-by"), named("mcpctl-failover"));
        let body = match response.text().await {
            Ok(body) => body,
            Err(error) => return Got::Wrong(format!("a body that cannot be read: {error:?}")),
        };
        let got = if status != 200 {
            self.error(&body).map(|()| Got::Error { status, class })
        } else if stream && kind != "text/event-stream" {
            Err(format!("a stream of type `{kind}`"))
        } else if stream {
            self.stream(&body).map(|read| read.got(by, failover))
        } else {
            self.whole(&body).map(|read| read.got(by, failover))
        };
        got.unwrap_or_else(|error| Got::Wrong(format!("{error}: {body}")))
    }
}

/// The tokens of `usage`, by their names in the dialect.
fn tokens(caller: Caller, usage: &Value) -> Result<Tokens, String> {
    let (input, output) = match caller {
        Caller::Chat => ("prompt_tokens", "completion_tokens"),
        Caller::Messages | Caller::Responses => ("input_tokens", "output_tokens"),
    };
    match (usage[input].as_u64(), usage[output].as_u64()) {
        (Some(input), Some(output)) => Ok(Tokens { input, output }),
        _ => Err(format!("no usage of `{input}` and `{output}`")),
    }
}
