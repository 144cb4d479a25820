//! What a caller makes of the bytes of an answer. Every error is a sentence on what is wrong with them.

use serde_json::Value;

use super::{Caller, Got, Tokens, tokens};

/// What is wrong with an answer.
type Wrong = String;

/// What the bytes of an answer hold.
pub(super) enum Read {
    /// A whole answer.
    Answer { text: String, tokens: Tokens },
    /// The beginning of one, and an error.
    Broken { text: String },
}

impl Read {
    pub(super) fn got(self, by: String, failover: String) -> Got {
        match self {
            Self::Answer { text, tokens } => Got::Answer { by, failover, text, tokens },
            Self::Broken { text } => Got::Broken { text },
        }
    }
}

fn check(holds: bool, wrong: &str) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(wrong.to_owned()) }
}

fn parse(text: &str) -> Result<Value, Wrong> {
    serde_json::from_str(text).map_err(|error| format!("no JSON ({error})"))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Caller {
    /// An error's body in the dialect.
    pub(super) fn error(self, body: &str) -> Result<(), Wrong> {
        let body = parse(body)?;
        let error = &body["error"];
        check(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "an error without message",
        )?;
        check(error["type"].is_string(), "an error without type")?;
        match self {
            Self::Messages => check(body["type"] == "error", "an error that is not Anthropic's"),
            Self::Chat | Self::Responses => check(body["type"].is_null(), "an error that is not OpenAI's"),
        }
    }

    /// An answer that is not streamed.
    pub(super) fn whole(self, body: &str) -> Result<Read, Wrong> {
        let body = parse(body)?;
        let text = match self {
            Self::Chat => {
                check(body["choices"][0]["finish_reason"] == "stop", "no finish reason")?;
                &body["choices"][0]["message"]["content"]
            }
            Self::Messages => {
                check(body["type"] == "message" && body["stop_reason"] == "end_turn", "no whole message")?;
                &body["content"][0]["text"]
            }
            Self::Responses => {
                check(body["status"] == "completed", "no complete response")?;
                let items = body["output"].as_array().ok_or("no output")?;
                let message = items.iter().find(|item| item["type"] == "message").ok_or("no message")?;
                &message["content"][0]["text"]
            }
        };
        let text = text.as_str().ok_or("no text")?.to_owned();
        Ok(Read::Answer { text, tokens: tokens(self, &body["usage"])? })
    }

    /// A stream: one answer, or the beginning of one with an error and nothing that looks like an end.
    pub(super) fn stream(self, body: &str) -> Result<Read, Wrong> {
        match self {
            Self::Chat => chat(body),
            Self::Messages => messages(body),
            Self::Responses => responses(body),
        }
    }
}

/// The name and the data of each event, as the standard of server-sent events reads them; an event without data is a comment.
fn events(body: &str) -> Result<Vec<(String, String)>, Wrong> {
    let body = body.strip_prefix('\u{feff}').unwrap_or(body).replace("\r\n", "\n").replace('\r', "\n");
    check(body.ends_with("\n\n"), "the last event is not complete")?;
    let mut events = Vec::new();
    for event in body.split("\n\n") {
        let field = |name: &'static str| {
            let values = event.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':'));
            values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>()
        };
        let data = field("data");
        if !data.is_empty() {
            events.push((field("event").last().copied().unwrap_or_default().to_owned(), data.join("\n")));
        }
    }
    Ok(events)
}

/// Events whose name is the type of their data.
fn typed_events(body: &str) -> Result<Vec<Value>, Wrong> {
    let mut typed = Vec::new();
    for (name, data) in events(body)? {
        let data = parse(&data)?;
        check(data["type"] == name.as_str(), "an event whose name is not its type")?;
        typed.push(data);
    }
    Ok(typed)
}

/// A broken stream: its error event is the last event.
fn broken(text: String, ended: bool, error_is_last: bool) -> Result<Read, Wrong> {
    check(!ended, "a broken stream that looks complete")?;
    check(error_is_last, "events after the error")?;
    Ok(Read::Broken { text })
}

fn chat(body: &str) -> Result<Read, Wrong> {
    let events = events(body)?;
    let done = events.last().is_some_and(|(_, data)| data == "[DONE]");
    let (mut text, mut finished, mut usage, mut error_at) = (String::new(), 0, Value::Null, None);
    for (at, (_, data)) in events.iter().enumerate().filter(|(_, (_, data))| data != "[DONE]") {
        let event = parse(data)?;
        if event.get("error").is_some() {
            Caller::Chat.error(data)?;
            error_at = Some(at);
        }
        let choice = &event["choices"][0];
        text.push_str(text_of(&choice["delta"]["content"]));
        finished += usize::from(choice["finish_reason"].is_string());
        if event["usage"].is_object() {
            usage = event["usage"].clone();
        }
    }
    if let Some(at) = error_at {
        return broken(text, finished > 0 || done, at + 1 == events.len());
    }
    check(finished == 1, "not one finish reason")?;
    Ok(Read::Answer { text, tokens: tokens(Caller::Chat, &usage)? })
}

fn messages(body: &str) -> Result<Read, Wrong> {
    let events = typed_events(body)?;
    let (mut text, mut usage, mut ended, mut open) = (String::new(), Value::Null, false, 0_i32);
    for event in &events {
        match text_of(&event["type"]) {
            "content_block_start" => open += 1,
            "content_block_delta" => text.push_str(text_of(&event["delta"]["text"])),
            "content_block_stop" => open -= 1,
            "message_delta" => {
                ended |= event["delta"]["stop_reason"].is_string();
                usage = event["usage"].clone();
                if usage["input_tokens"].is_null() {
                    usage["input_tokens"] = events[0]["message"]["usage"]["input_tokens"].clone();
                }
            }
            "message_stop" => ended = true,
            "error" => Caller::Messages.error(&event.to_string())?,
            "message_start" | "ping" => {}
            other => return Err(format!("an event `{other}`")),
        }
    }
    let last = events.last().ok_or("no event")?;
    if let Some(at) = events.iter().position(|event| event["type"] == "error") {
        return broken(text, ended, at + 1 == events.len());
    }
    check(events[0]["type"] == "message_start", "no `message_start` at the beginning")?;
    check(last["type"] == "message_stop", "no `message_stop` at the end")?;
    check(open == 0, "a block that is not closed")?;
    Ok(Read::Answer { text, tokens: tokens(Caller::Messages, &usage)? })
}

fn responses(body: &str) -> Result<Read, Wrong> {
    let events = typed_events(body)?;
    let mut text = String::new();
    for event in events.iter().filter(|event| event["type"] == "response.output_text.delta") {
        text.push_str(text_of(&event["delta"]));
    }
    let of = |name: &str| events.iter().position(|event| event["type"] == name);
    let ended = of("response.completed").or(of("response.incomplete"));
    let last = events.last().ok_or("no event")?;
    if let Some(at) = of("response.failed").or(of("error")) {
        if last["type"] == "response.failed" {
            check(last["response"]["status"] == "failed", "a failed response of another status")?;
            check(last["response"]["error"]["message"].is_string(), "a failed response without error")?;
        }
        return broken(text, ended.is_some(), at + 1 == events.len());
    }
    check(last["type"] == "response.completed", "no `response.completed` at the end")?;
    let Read::Answer { text: whole, tokens } = Caller::Responses.whole(&last["response"].to_string())? else {
        return Err("no answer".to_owned());
    };
    check(whole == text, "another text at the end than in the deltas")?;
    Ok(Read::Answer { text, tokens })
}
