//! The bytes of well-formed answers in OpenAI's shapes, as a list of steps to send. Written apart from
//! `dialect`, so that a mistake there is not repeated here.

use bytes::Bytes;
use serde_json::{Value, json};

use super::reply::{Fault, Pause, Reply};

/// One step of sending a body.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Send(Bytes),
    Pause(Pause),
    Cut,
}

/// What a request asks for, as far as the server minds.
pub(super) struct Asked {
    route: Route,
    pub(super) stream: bool,
    include_usage: bool,
    model: String,
    body: Value,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Completions,
    Embeddings,
}

impl Asked {
    /// Nothing where the body is no request.
    pub(super) fn read(route: Route, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        Some(Self {
            route,
            stream: route != Route::Embeddings && body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            model: body["model"].as_str()?.to_owned(),
            body,
        })
    }

    /// The tool that the request insists on, called without arguments.
    fn forced_tool(&self) -> Option<(String, String)> {
        let choice = &self.body["tool_choice"];
        let name = match choice["function"]["name"].as_str() {
            Some(name) => name,
            None if choice == "required" => self.body["tools"][0]["function"]["name"].as_str()?,
            None => return None,
        };
        Some((name.to_owned(), "{}".to_owned()))
    }
}

/// The tokens of a reply, one a content chunk.
struct Answer<'a> {
    asked: &'a Asked,
    reply: &'a Reply,
    model: &'a str,
    tool_call: Option<(String, String)>,
}

impl<'a> Answer<'a> {
    fn new(asked: &'a Asked, reply: &'a Reply) -> Self {
        let tool_call = reply.tool_call.clone().or_else(|| asked.forced_tool());
        Self { asked, reply, model: reply.model.as_deref().unwrap_or(&asked.model), tool_call }
    }

    fn finish_reason(&self) -> &'static str {
        if self.tool_call.is_some() { "tool_calls" } else { "stop" }
    }

    /// Counted in words, both ways.
    fn usage(&self) -> Value {
        let prompt = ["messages", "prompt", "input"]
            .iter()
            .map(|name| self.asked.body[*name].to_string().split_whitespace().count())
            .max()
            .unwrap_or(1);
        if self.asked.route == Route::Embeddings {
            return json!({ "prompt_tokens": prompt, "total_tokens": prompt });
        }
        let completion = self.reply.words.len() + self.reply.reasoning.len();
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "completion_tokens_details": { "reasoning_tokens": self.reply.reasoning.len() }
        })
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> Bytes {
        let object = match self.asked.route {
            Route::Chat => "chat.completion.chunk",
            _ => "text_completion",
        };
        let mut chunk = json!({
            "id": "cmpl-1", "object": object, "created": 1_700_000_000, "model": self.model, "choices": choices
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n").into()
    }

    fn delta(&self, delta: Value, finish_reason: Value) -> Bytes {
        self.chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish_reason }]), None)
    }

    fn content(&self) -> Vec<Bytes> {
        if self.asked.route == Route::Completions {
            let text = |word| self.chunk(json!([{ "index": 0, "text": word, "finish_reason": null }]), None);
            return self.reply.words.iter().map(text).collect();
        }
        let reasoning = self.reply.reasoning.iter().map(|word| json!({ "reasoning_content": word }));
        let words = self.reply.words.iter().map(|word| json!({ "content": word }));
        let call = self.tool_call.iter().flat_map(|(name, arguments)| {
            [
                json!({ "tool_calls": [{ "index": 0, "id": "call_1", "type": "function",
                    "function": { "name": name, "arguments": "" } }] }),
                json!({ "tool_calls": [{ "index": 0, "function": { "arguments": arguments } }] }),
            ]
        });
        reasoning.chain(words).chain(call).map(|delta| self.delta(delta, Value::Null)).collect()
    }

    fn start(&self) -> Option<Bytes> {
        // llama.cpp's first delta has a content of null.
        let delta = json!({ "role": "assistant", "content": null });
        (self.asked.route == Route::Chat).then(|| self.delta(delta, Value::Null))
    }

    fn end(&self) -> Vec<Bytes> {
        let finish = match self.asked.route {
            Route::Chat => self.delta(json!({}), self.finish_reason().into()),
            _ => self.chunk(json!([{ "index": 0, "text": "", "finish_reason": "stop" }]), None),
        };
        let usage = self.asked.include_usage.then(|| self.chunk(json!([]), Some(self.usage())));
        [Some(finish), usage, Some(Bytes::from_static(b"data: [DONE]\n\n"))].into_iter().flatten().collect()
    }

    fn whole(&self) -> Value {
        let text = self.reply.words.concat();
        let (object, choices) = match self.asked.route {
            Route::Embeddings => {
                let inputs = self.asked.body["input"].as_array().map_or(1, Vec::len);
                let data: Vec<_> = (0..inputs)
                    .map(|index| json!({ "object": "embedding", "index": index, "embedding": [0.25, -0.5, index] }))
                    .collect();
                return json!({ "object": "list", "model": self.model, "data": data, "usage": self.usage() });
            }
            Route::Completions => {
                ("text_completion", json!([{ "index": 0, "text": text, "finish_reason": "stop" }]))
            }
            Route::Chat => {
                let mut message = json!({ "role": "assistant", "content": text });
                if !self.reply.reasoning.is_empty() {
                    message["reasoning_content"] = self.reply.reasoning.concat().into();
                }
                if let Some((name, arguments)) = &self.tool_call {
                    message["content"] = Value::Null;
                    message["tool_calls"] = json!([{ "id": "call_1", "type": "function",
                        "function": { "name": name, "arguments": arguments } }]);
                }
                let choice = json!({ "index": 0, "message": message, "finish_reason": self.finish_reason() });
                ("chat.completion", json!([choice]))
            }
        };
        json!({
            "id": "cmpl-1", "object": object, "created": 1_700_000_000, "model": self.model,
            "choices": choices, "usage": self.usage()
        })
    }
}

/// The steps of a streamed answer.
pub(super) fn stream(asked: &Asked, reply: &Reply) -> Vec<Step> {
    let answer = Answer::new(asked, reply);
    let mut steps: Vec<Step> = answer.start().into_iter().map(Step::Send).collect();
    steps.extend(reply.start_up.iter().cloned().map(Step::Send));
    let content = answer.content();
    let count = content.len();
    for (sent, chunk) in content.into_iter().enumerate() {
        if !push_events(&mut steps, reply, |at| at == sent) {
            return steps;
        }
        steps.extend(reply.pace.map(|pace| Step::Pause(Pause::For(pace))));
        steps.push(Step::Send(chunk));
    }
    if push_events(&mut steps, reply, |at| at >= count) {
        steps.extend(answer.end().into_iter().map(Step::Send));
    }
    steps
}

/// A whole body and the steps that send it.
pub(super) fn whole(asked: &Asked, reply: &Reply) -> (usize, Vec<Step>) {
    let body = Bytes::from(Answer::new(asked, reply).whole().to_string());
    let length = body.len();
    let mut steps = vec![Step::Send(body.slice(..length / 2))];
    if push_events(&mut steps, reply, |_| true) {
        steps.push(Step::Send(body.slice(length / 2..)));
    }
    (length, steps)
}

/// False where an event ends the body.
fn push_events(steps: &mut Vec<Step>, reply: &Reply, now: impl Fn(usize) -> bool) -> bool {
    for (_, event) in reply.events.iter().filter(|(at, _)| now(*at)) {
        match event {
            Fault::Pause(pause) => steps.push(Step::Pause(pause.clone())),
            Fault::Bytes(bytes) => steps.push(Step::Send(bytes.clone())),
            Fault::Cut => {
                steps.push(Step::Cut);
                return false;
            }
            Fault::End => return false,
        }
    }
    true
}
