//! The bytes of well-formed answers, as a list of steps to send: completions in OpenAI's shapes here, messages in Anthropic's
//! in `messages`, and OpenAI's responses in `responses`. Independent of `dialect`, so that a mistake there is not repeated here.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    messages::Message,
    reply::{Fault, Pause, Reply, call_id, pieces},
    responses::Response,
};

/// One step of sending a body.
#[derive(Debug, Clone)]
pub(super) enum SendStep {
    Send(Bytes),
    Pause(Pause),
    Cut,
}

/// The parts of a request that decide the reply.
pub(super) struct InferenceRequest {
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
    Responses,
    Messages,
    CountTokens,
}

impl InferenceRequest {
    /// `None` where the body is no request.
    pub(super) fn read(route: Route, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        Some(Self {
            route,
            stream: !matches!(route, Route::Embeddings | Route::CountTokens) && body["stream"] == true,
            include_usage: body["stream_options"]["include_usage"] == true,
            model: body["model"].as_str()?.to_owned(),
            body,
        })
    }

    /// The tool that the request requires.
    fn forced_tool(&self) -> Option<String> {
        let choice = &self.body["tool_choice"];
        let name = match choice["function"]["name"].as_str() {
            Some(name) => name,
            None if choice == "required" => self.body["tools"][0]["function"]["name"].as_str()?,
            None => return None,
        };
        Some(name.to_owned())
    }
}

/// A reply to a request, of one token per content chunk.
struct Completion<'a> {
    request: &'a InferenceRequest,
    reply: &'a Reply,
    model: &'a str,
    tool_calls: Vec<(String, String)>,
}

impl<'a> Completion<'a> {
    fn new(request: &'a InferenceRequest, reply: &'a Reply) -> Self {
        let mut tool_calls = reply.tool_calls.clone();
        if tool_calls.is_empty() {
            tool_calls.extend(request.forced_tool().map(|name| (name, reply.forced_arguments.clone())));
        }
        Self { request, reply, model: reply.model.as_deref().unwrap_or(&request.model), tool_calls }
    }

    fn finish_reason(&self) -> &'static str {
        if self.tool_calls.is_empty() { "stop" } else { "tool_calls" }
    }

    /// Counts words as tokens, of the prompt and of the reply.
    fn usage(&self) -> Value {
        let prompt = ["messages", "prompt", "input"]
            .iter()
            .map(|name| self.request.body[*name].to_string().split_whitespace().count())
            .max()
            .unwrap_or(1);
        if self.request.route == Route::Embeddings {
            return json!({ "prompt_tokens": prompt, "total_tokens": prompt });
        }
        let completion = self.reply.words.len() + self.reply.reasoning.len();
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "completion_tokens_details": { "reasoning_tokens": self.reply.reasoning.len() }
        })
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> Bytes {
        let object = match self.request.route {
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
        if self.request.route == Route::Completions {
            let text = |word| self.chunk(json!([{ "index": 0, "text": word, "finish_reason": null }]), None);
            return self.reply.words.iter().map(text).collect();
        }
        let reasoning = self.reply.reasoning.iter().map(|word| json!({ "reasoning_content": word }));
        let words = self.reply.words.iter().map(|word| json!({ "content": word }));
        let calls = self.tool_calls.iter().enumerate();
        let names = calls.clone().map(|(at, (name, _))| {
            json!({ "tool_calls": [{ "index": at, "id": call_id(at), "type": "function",
                "function": { "name": name, "arguments": "" } }] })
        });
        let pieces = calls.flat_map(|(at, (_, arguments))| {
            let piece = move |arguments: String| {
                json!({ "tool_calls": [{ "index": at, "function": { "arguments": arguments } }] })
            };
            self.pieces(arguments).into_iter().map(piece)
        });
        reasoning
            .chain(words)
            .chain(names)
            .chain(pieces)
            .map(|delta| self.delta(delta, Value::Null))
            .collect()
    }

    fn pieces(&self, arguments: &str) -> Vec<String> {
        pieces(arguments, self.tool_calls.len() > 1)
    }

    fn start(&self) -> Option<Bytes> {
        // llama.cpp's first delta has a content of null.
        let delta = json!({ "role": "assistant", "content": null });
        (self.request.route == Route::Chat).then(|| self.delta(delta, Value::Null))
    }

    fn end(&self) -> Vec<Bytes> {
        let finish = match self.request.route {
            Route::Chat => self.delta(json!({}), self.finish_reason().into()),
            _ => self.chunk(json!([{ "index": 0, "text": "", "finish_reason": "stop" }]), None),
        };
        let usage = self.request.include_usage.then(|| self.chunk(json!([]), Some(self.usage())));
        let done = (!self.reply.without_done).then(|| Bytes::from_static(b"data: [DONE]\n\n"));
        [Some(finish), usage, done].into_iter().flatten().collect()
    }

    fn whole(&self) -> Value {
        let text = self.reply.words.concat();
        let (object, choices) = match self.request.route {
            Route::Embeddings => {
                let inputs = self.request.body["input"].as_array().map_or(1, Vec::len);
                // The official clients ask for base64, of little-endian floats: here [0.25, -0.5, 0] of each input.
                let encoded = self.request.body["encoding_format"] == "base64";
                let embedding =
                    |index| if encoded { json!("AACAPgAAAL8AAAAA") } else { json!([0.25, -0.5, index]) };
                let data: Vec<_> = (0..inputs)
                    .map(|index| json!({ "object": "embedding", "index": index, "embedding": embedding(index) }))
                    .collect();
                return json!({ "object": "list", "model": self.model, "data": data, "usage": self.usage() });
            }
            Route::Completions => {
                ("text_completion", json!([{ "index": 0, "text": text, "finish_reason": "stop" }]))
            }
            Route::Chat | Route::Responses | Route::Messages | Route::CountTokens => {
                let mut message = json!({ "role": "assistant", "content": text });
                if !self.reply.reasoning.is_empty() {
                    message["reasoning_content"] = self.reply.reasoning.concat().into();
                }
                if !self.tool_calls.is_empty() {
                    let call = |(at, (name, arguments)): (usize, &(String, String))| {
                        json!({ "id": call_id(at), "type": "function",
                            "function": { "name": name, "arguments": arguments } })
                    };
                    message["content"] = Value::Null;
                    message["tool_calls"] = self.tool_calls.iter().enumerate().map(call).collect();
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

/// The steps that send a streamed answer.
pub(super) fn stream(request: &InferenceRequest, reply: &Reply) -> Vec<SendStep> {
    if !reply.stream.is_empty() {
        let mut steps: Vec<SendStep> = reply.stream.iter().cloned().map(SendStep::Send).collect();
        push_faults(&mut steps, reply, |_| true);
        return steps;
    }
    let (start, content, end) = match request.route {
        Route::Messages => {
            let message = Message::new(&request.model, &request.body, reply);
            (Some(message.start()), message.content(), message.end())
        }
        Route::Responses => {
            let response = Response::new(&request.model, &request.body, reply);
            (Some(response.start()), response.content(), response.end())
        }
        _ => {
            let completion = Completion::new(request, reply);
            (completion.start(), completion.content(), completion.end())
        }
    };
    let mut steps: Vec<SendStep> = start.into_iter().map(SendStep::Send).collect();
    steps.extend(reply.start_up.iter().cloned().map(SendStep::Send));
    let count = content.len();
    for (sent, chunk) in content.into_iter().enumerate() {
        if !push_faults(&mut steps, reply, |at| at == sent) {
            return steps;
        }
        steps.extend(reply.pace.map(|pace| SendStep::Pause(Pause::For(pace))));
        steps.push(SendStep::Send(chunk));
    }
    if push_faults(&mut steps, reply, |at| at >= count) {
        steps.extend(end.into_iter().map(SendStep::Send));
    }
    steps
}

/// The length of a whole body, and the steps that send it.
pub(super) fn whole(request: &InferenceRequest, reply: &Reply) -> (usize, Vec<SendStep>) {
    let body = match request.route {
        Route::Messages => Message::new(&request.model, &request.body, reply).whole(),
        Route::Responses => Response::new(&request.model, &request.body, reply).whole(),
        Route::CountTokens => Message::new(&request.model, &request.body, reply).count(),
        Route::Chat | Route::Completions | Route::Embeddings => Completion::new(request, reply).whole(),
    };
    let body = Bytes::from(body.to_string());
    let length = body.len();
    let mut steps = vec![SendStep::Send(body.slice(..length / 2))];
    if push_faults(&mut steps, reply, |_| true) {
        steps.push(SendStep::Send(body.slice(length / 2..)));
    } else if !matches!(steps.last(), Some(SendStep::Cut)) {
        // A body of a known length has no proper end before that; the connection sends what it has first.
        steps.push(SendStep::Cut);
    }
    (length, steps)
}

/// Adds the steps of the faults at this point; false where a fault ends the body.
fn push_faults(steps: &mut Vec<SendStep>, reply: &Reply, now: impl Fn(usize) -> bool) -> bool {
    for (_, fault) in reply.faults.iter().filter(|(at, _)| now(*at)) {
        match fault {
            Fault::Pause(pause) => steps.push(SendStep::Pause(pause.clone())),
            Fault::Bytes(bytes) => steps.push(SendStep::Send(bytes.clone())),
            Fault::Cut => {
                steps.push(SendStep::Cut);
                return false;
            }
            Fault::End => return false,
        }
    }
    true
}
