//! Anthropic's messages, read into the forms that belong to no dialect, written from them, and joined with chat completions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_dialect::{
    EventMeaning, Operation, RequestError,
    anthropic::event::EventReader,
    error::UpstreamError,
    sse::{Decoder, Frame},
    translate::{
        Translation, chat,
        conversation::{Conversation, Part, Places, Reasoning, Role, ToolCall, Turn},
        messages::{self, StreamReader, StreamWriter},
        reply::{Choice, Delta, Finish, Reply, WriterOptions},
    },
    usage::Usage,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    decoder.push(stream);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    frames
}

/// The data of the events, whose `event` lines must name the same types.
fn events(stream: &[u8]) -> Vec<Value> {
    let event = |frame: &Frame| {
        let data = value(frame.data.as_deref().unwrap());
        assert_eq!(frame.event.as_deref(), data["type"].as_str().map(str::as_bytes));
        data
    };
    frames(stream).iter().map(event).collect()
}

fn written(deltas: &[Delta]) -> Vec<u8> {
    let mut writer = StreamWriter::new(&WriterOptions::default());
    let mut stream = Vec::new();
    for delta in deltas {
        stream.extend_from_slice(&writer.write(delta));
    }
    stream.extend_from_slice(&writer.finish());
    stream
}

fn read(stream: &[u8]) -> Vec<Delta> {
    let mut reader = StreamReader::new();
    frames(stream).iter().flat_map(|frame| reader.read(frame)).collect()
}

fn to_chat(request: &Value) -> Result<Value, RequestError> {
    let way = Translation::between(Operation::Messages, Operation::Chat).unwrap().unwrap();
    way.request(request.to_string().as_bytes(), "local", 7).map(|translated| value(&translated.body))
}

fn from_chat(request: &Value, model: &str) -> Result<Value, RequestError> {
    let way = Translation::between(Operation::Chat, Operation::Messages).unwrap().unwrap();
    way.request(request.to_string().as_bytes(), model, 7).map(|translated| value(&translated.body))
}

#[test]
fn request_with_everything_survives_reading_and_writing() {
    let request = json!({
        "model": "claude-opus-4-6",
        "max_tokens": 20_000,
        "system": [{ "type": "text", "text": "Be brief." }, { "type": "text", "text": "Be kind." }],
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "What is this?" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } },
                { "type": "image", "source": { "type": "url", "url": "https://example.com/a.png" } },
                { "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "BBBB" },
                  "title": "a.pdf" },
                { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "plain" } },
                { "type": "document", "source": { "type": "url", "url": "https://example.com/b.pdf" } }
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s1" },
                { "type": "redacted_thinking", "data": "xyz" },
                { "type": "text", "text": "I look." },
                { "type": "tool_use", "id": "toolu_1", "name": "look", "input": { "z": 1, "a": [true, null] } },
                { "type": "tool_use", "id": "toolu_2", "name": "look", "input": {} }
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "toolu_1", "content": "a cat" },
                { "type": "tool_result", "tool_use_id": "toolu_2", "content": [
                    { "type": "text", "text": "a dog" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "CCCC" } }
                ], "is_error": true },
                { "type": "text", "text": "Go on" }
            ] },
            { "role": "assistant", "content": "It is" }
        ],
        "tool_choice": { "type": "tool", "name": "look", "disable_parallel_tool_use": true },
        "tools": [{ "name": "look", "description": "looks",
            "input_schema": { "type": "object", "properties": { "z": {}, "a": {} } }, "strict": true }],
        "temperature": 1.0, "top_p": 0.9, "top_k": 40,
        "stop_sequences": ["END"],
        "thinking": { "type": "enabled", "budget_tokens": 2048, "display": "summarized" },
        "output_config": { "effort": "medium", "format": { "type": "json_schema", "schema": { "type": "object" } } },
        "metadata": { "user_id": "u1" },
        "stream": true
    });
    let conversation = messages::read_request(request.to_string().as_bytes()).unwrap();
    let written = messages::write_request(&conversation, "claude-opus-4-6").unwrap();
    assert_eq!(value(&written), request);
    assert!(
        String::from_utf8_lossy(&written).contains(r#"{"z":1,"a":[true,null]}"#),
        "the order of keys stays"
    );
}

#[test]
fn fields_without_counterpart_are_refused_with_their_path() {
    let block = |block: Value| json!({ "messages": [{ "role": "user", "content": [block] }] });
    let of_model = |block: Value| json!({ "messages": [{ "role": "assistant", "content": [block] }] });
    for (field, param) in [
        (json!({ "container": "c" }), "container"),
        (json!({ "inference_geo": "eu" }), "inference_geo"),
        (json!({ "mcp_servers": [{ "type": "url" }] }), "mcp_servers"),
        (json!({ "new_key": 1 }), "new_key"),
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "max_tokens": null }), "max_tokens"),
        (json!({ "messages": null }), "messages"),
        (json!({ "stop_sequences": [7] }), "stop_sequences[0]"),
        (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "tools[0].type"),
        (json!({ "tools": [{ "type": "bash_20250124", "name": "bash" }] }), "tools[0].type"),
        (
            json!({ "tools": [{ "name": "f", "input_schema": {}, "defer_loading": true }] }),
            "tools[0].defer_loading",
        ),
        (
            json!({ "tools": [{ "name": "f", "input_schema": {}, "input_examples": [{}] }] }),
            "tools[0].input_examples",
        ),
        (json!({ "tools": [{ "name": "f" }] }), "tools[0].input_schema"),
        (json!({ "tool_choice": { "type": "some" } }), "tool_choice.type"),
        (json!({ "thinking": { "type": "maybe" } }), "thinking.type"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image",
                "source": { "type": "url", "url": "https://x" }, "transformations": { "oversized_image": "error" } }] }] }),
            "messages[0].content[0].transformations.oversized_image",
        ),
        (json!({ "output_config": { "task_budget": {} } }), "output_config.task_budget"),
        (json!({ "output_config": { "format": { "type": "grammar" } } }), "output_config.format.type"),
        (
            json!({ "context_management": { "edits": [{ "type": "clear_tool_uses_20250919" }] } }),
            "context_management.edits[0].type",
        ),
        (json!({ "messages": [{ "role": "tool", "content": "x" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user" }] }), "messages[0].content"),
        (json!({ "messages": [{ "role": "user", "content": "x", "name": "ann" }] }), "messages[0].name"),
        (block(json!({ "type": "search_result" })), "messages[0].content[0].type"),
        (block(json!({ "type": "container_upload", "file_id": "f" })), "messages[0].content[0].type"),
        (block(json!({ "type": "thinking", "thinking": "x" })), "messages[0].content[0].type"),
        (
            block(json!({ "type": "image", "source": { "type": "file", "file_id": "f" } })),
            "messages[0].content[0].source.type",
        ),
        (
            block(
                json!({ "type": "document", "source": { "type": "text", "data": "x" }, "citations": { "enabled": true } }),
            ),
            "messages[0].content[0].citations.enabled",
        ),
        (
            block(json!({ "type": "document", "source": { "type": "text", "data": "x" }, "context": "y" })),
            "messages[0].content[0].context",
        ),
        (
            block(
                json!({ "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "tool_reference" }] }),
            ),
            "messages[0].content[0].content[0].type",
        ),
        (of_model(json!({ "type": "server_tool_use", "id": "s" })), "messages[0].content[0].type"),
        (
            of_model(json!({ "type": "tool_use", "id": "t", "name": "f", "input": [] })),
            "messages[0].content[0].input",
        ),
        (
            of_model(
                json!({ "type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": { "type": "code" } }),
            ),
            "messages[0].content[0].caller.type",
        ),
        (
            of_model(json!({ "type": "text", "text": "x", "citations": [{}] })),
            "messages[0].content[0].citations",
        ),
    ] {
        let mut request = json!({ "model": "m", "max_tokens": 1, "messages": [] });
        request.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        let error = messages::read_request(request.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.param(), Some(param), "{error}");
    }
}

/// The request that Claude Code 2 sends, shortened: marks for the cache, hints, its own ids, deferred edits.
#[test]
fn claude_codes_request_reaches_a_chat_server() {
    let request = json!({
        "model": "claude-opus-4-6",
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "<system-reminder>today</system-reminder>" },
                { "type": "text", "text": "read a.txt", "cache_control": { "type": "ephemeral", "ttl": "1h" } }
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "I read it.", "signature": "" },
                { "type": "tool_use", "id": "call_1", "name": "Read", "input": { "file_path": "a.txt" }, "caller": { "type": "direct" } }
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "call_1", "is_error": false, "content": "1 hello",
                  "cache_control": { "type": "ephemeral" } }
            ] }
        ],
        "system": [
            { "type": "text", "text": "You are Claude Code.", "cache_control": { "type": "ephemeral" } },
            { "type": "text", "text": "Be exact." }
        ],
        "tools": [{ "name": "Read", "description": "reads", "input_schema": { "type": "object" },
            "eager_input_streaming": true, "cache_control": { "type": "ephemeral" } }],
        "metadata": { "user_id": "user_1_account__session_2" },
        "max_tokens": 32_000,
        "thinking": { "type": "adaptive" },
        "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] },
        "output_config": { "effort": "medium" },
        "stream": true
    });
    assert_eq!(
        to_chat(&request).unwrap(),
        json!({
            "model": "local",
            "messages": [
                { "role": "system", "content": "You are Claude Code.\n\nBe exact." },
                { "role": "user", "content": [
                    { "type": "text", "text": "<system-reminder>today</system-reminder>" },
                    { "type": "text", "text": "read a.txt" }
                ] },
                { "role": "assistant", "reasoning_content": "I read it.", "content": null, "tool_calls": [
                    { "id": "call_1", "type": "function",
                      "function": { "name": "Read", "arguments": "{\"file_path\":\"a.txt\"}" } }
                ] },
                { "role": "tool", "tool_call_id": "call_1", "content": "1 hello" }
            ],
            "max_tokens": 32_000,
            "reasoning_effort": "medium",
            "user": "user_1_account__session_2",
            "stream": true,
            "tools": [{ "type": "function", "function": {
                "name": "Read", "description": "reads", "parameters": { "type": "object" } } }]
        })
    );
}

#[test]
fn earlier_reasoning_is_removed_where_the_caller_asks() {
    let thinking = |text: &str| {
        json!({ "role": "assistant", "content": [
        { "type": "thinking", "thinking": text, "signature": "s" }, { "type": "text", "text": text }] })
    };
    let request = json!({ "max_tokens": 1, "messages": [
        { "role": "user", "content": "q" }, thinking("a"), { "role": "user", "content": "q" }, thinking("b"),
        { "role": "user", "content": "q" }
    ], "context_management": { "edits": [
        { "type": "clear_thinking_20251015", "keep": { "type": "thinking_turns", "value": 1 } }] } });
    let conversation = messages::read_request(request.to_string().as_bytes()).unwrap();
    let counts: Vec<usize> = conversation.turns.iter().map(|turn| turn.parts.len()).collect();
    assert_eq!(counts, [1, 1, 1, 2, 1]);
}

#[test]
fn chat_request_is_ordered_as_anthropic_wants() {
    let call =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "" } });
    let request = json!({ "messages": [
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "a" },
        { "role": "user", "content": "b" },
        { "role": "assistant", "content": "", "reasoning_content": "unsigned" },
        { "role": "user", "content": "c" },
        { "role": "assistant", "content": null, "tool_calls": [call("functions.f:0"), call("call_2")] },
        { "role": "tool", "tool_call_id": "functions.f:0", "content": "" },
        { "role": "tool", "tool_call_id": "call_2", "content": "r" },
        { "role": "user", "content": "d" }
    ], "temperature": 0.5, "stop": "x", "user": "u", "parallel_tool_calls": false,
       "tools": [{ "type": "function", "function": { "name": "f" } }] });
    assert_eq!(
        from_chat(&request, "claude-haiku-4-5").unwrap(),
        json!({
            "model": "claude-haiku-4-5",
            "max_tokens": 8192,
            "system": "Be brief.",
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "a" }, { "type": "text", "text": "b" }, { "type": "text", "text": "c" }] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "toolu_functions_2ef_3a0", "name": "f", "input": {} },
                    { "type": "tool_use", "id": "call_2", "name": "f", "input": {} }] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "toolu_functions_2ef_3a0" },
                    { "type": "tool_result", "tool_use_id": "call_2", "content": "r" },
                    { "type": "text", "text": "d" }] }
            ],
            "tool_choice": { "type": "auto", "disable_parallel_tool_use": true },
            "tools": [{ "name": "f", "input_schema": { "type": "object", "properties": {} } }],
            "temperature": 0.5,
            "stop_sequences": ["x"],
            "metadata": { "user_id": "u" }
        })
    );
}

#[test]
fn structured_output_and_reasoning_use_anthropics_own_fields() {
    let request = json!({ "messages": [{ "role": "user", "content": "a" }], "reasoning_effort": "low",
        "response_format": { "type": "json_schema", "json_schema": {
            "name": "cat", "description": "a cat", "strict": true, "schema": { "type": "object" } } } });
    let format = json!({ "type": "json_schema", "schema": { "type": "object", "description": "a cat" } });
    let newer = from_chat(&request, "claude-opus-4-7").unwrap();
    assert_eq!(newer["output_config"], json!({ "effort": "low", "format": format }));
    assert_eq!(newer["thinking"], json!({ "type": "adaptive" }));
    let older = from_chat(&request, "claude-sonnet-4-5").unwrap();
    assert_eq!(older["output_config"], json!({ "format": format }));
    assert_eq!(older["thinking"], json!({ "type": "enabled", "budget_tokens": 2048 }));
    assert_eq!(older["max_tokens"], 8192 + 2048);
}

#[test]
fn what_messages_cannot_express_is_refused_by_name() {
    let messages = json!([{ "role": "user", "content": "a" }]);
    let call = json!({ "role": "assistant", "tool_calls": [
        { "id": "c", "type": "function", "function": { "name": "f", "arguments": "[1]" } }] });
    let good_call = json!({ "role": "assistant", "tool_calls": [
        { "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }] });
    let user = json!({ "role": "user", "content": "a" });
    for (field, param) in [
        (json!({ "n": 2 }), "n"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "seed": 7 }), "seed"),
        (json!({ "frequency_penalty": 0.1 }), "frequency_penalty"),
        (json!({ "presence_penalty": -1 }), "presence_penalty"),
        (json!({ "temperature": 1.5 }), "temperature"),
        (json!({ "stop": ["x", "\n"] }), "stop[1]"),
        (json!({ "response_format": { "type": "json_object" } }), "response_format.type"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": [{ "role": "system", "content": "a" }] }), "messages"),
        (json!({ "messages": [{ "role": "assistant", "content": "a" }] }), "messages[0]"),
        (json!({ "messages": [{ "role": "user", "content": "" }] }), "messages[0]"),
        (json!({ "messages": [user, call] }), "messages[1].tool_calls[0]"),
        (json!({ "messages": [user, good_call, user] }), "messages[2]"),
        (
            json!({ "messages": [user, { "role": "tool", "tool_call_id": "c", "content": "r" }] }),
            "messages[1].tool_call_id",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [
                { "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } }] }] }),
            "messages[0].content[0]",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [
                { "type": "file", "file": { "filename": "a.csv", "file_data": "data:text/csv;base64,AA" } }] }] }),
            "messages[0].content[0]",
        ),
    ] {
        let mut request = json!({ "messages": messages });
        request.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        let error = from_chat(&request, "claude").unwrap_err();
        assert_eq!(error.param(), Some(param), "{error}");
    }
    let none_asked = json!({ "messages": messages, "frequency_penalty": 0, "presence_penalty": 0.0, "n": 1, "temperature": 1 });
    assert!(from_chat(&none_asked, "claude").is_ok());
}

#[test]
fn whole_answers_survive_reading_and_writing() {
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [
            { "type": "thinking", "thinking": "hm", "signature": "s" },
            { "type": "redacted_thinking", "data": "x" },
            { "type": "text", "text": "hi" },
            { "type": "tool_use", "id": "toolu_1", "name": "f", "input": { "b": 1, "a": 2 } }
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": { "input_tokens": 5, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 7,
            "output_tokens_details": { "thinking_tokens": 2 } }
    });
    let reply = messages::read_reply(message.to_string().as_bytes()).unwrap();
    assert_eq!(value(&messages::write_reply(&reply)), message);
    for (reason, finish) in [
        ("end_turn", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("refusal", Finish::Refused),
        ("pause_turn", Finish::Stop),
        ("new_reason", Finish::Stop),
        ("stop_sequence", Finish::StopSequence(Some("END".into()))),
    ] {
        let body = json!({ "type": "message", "content": [], "stop_reason": reason, "stop_sequence": "END" });
        let reply = messages::read_reply(body.to_string().as_bytes()).unwrap();
        assert_eq!(reply.choices[0].finish, Some(finish), "{reason}");
    }
    for body in [
        json!({ "type": "message", "content": [{ "type": "web_search_tool_result" }] }),
        json!({ "type": "error", "error": {} }),
        json!({ "choices": [] }),
    ] {
        assert_eq!(messages::read_reply(body.to_string().as_bytes()), None, "{body}");
    }
}

#[test]
fn chat_answer_becomes_a_message() {
    let way = Translation::between(Operation::Messages, Operation::Chat).unwrap().unwrap();
    let request = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": "q" }] });
    let answer = way.request(request.to_string().as_bytes(), "m", 7).unwrap().answer;
    let completion = json!({ "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "hi",
            "reasoning_content": "hm", "tool_calls": [
                { "id": "call_1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
                { "id": "call_2", "type": "function", "function": { "name": "f", "arguments": "{\"a\":" } }] } }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13, "prompt_tokens_details": { "cached_tokens": 4 } } });
    assert_eq!(
        value(&answer.whole(completion.to_string().as_bytes()).unwrap()),
        json!({
            "id": "msg_chatcmpl-1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                { "type": "thinking", "thinking": "hm", "signature": "" },
                { "type": "text", "text": "hi" },
                { "type": "tool_use", "id": "call_1", "name": "f", "input": { "a": 1 } },
                { "type": "tool_use", "id": "call_2", "name": "f", "input": { "INVALID_JSON": "{\"a\":" } }
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": { "input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 3 }
        })
    );
    let bare = Reply { choices: vec![Choice::default()], ..Reply::default() };
    let bare = value(&messages::write_reply(&bare));
    assert_eq!((&bare["id"], &bare["stop_reason"]), (&json!("msg_unknown"), &Value::Null));
}

#[test]
fn chat_stream_becomes_events_of_a_message() {
    let way = Translation::between(Operation::Messages, Operation::Chat).unwrap().unwrap();
    let request =
        json!({ "max_tokens": 9, "stream": true, "messages": [{ "role": "user", "content": "q" }] });
    let mut stream = way.request(request.to_string().as_bytes(), "m", 7).unwrap().answer.stream();
    let chunk = |delta: Value, finish: Value| {
        json!({ "id": "c1", "model": "m", "object": "chat.completion.chunk",
            "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] })
    };
    let call = |index: u64, more: Value| {
        let mut call = json!({ "index": index });
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "tool_calls": [call] })
    };
    let begun =
        |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "" } });
    let arguments = |json: &str| json!({ "function": { "arguments": json } });
    let chunks = [
        chunk(json!({ "role": "assistant", "content": "" }), Value::Null),
        chunk(json!({ "reasoning_content": "hm" }), Value::Null),
        chunk(json!({ "content": "Hel" }), Value::Null),
        chunk(json!({ "content": "lo" }), Value::Null),
        chunk(call(0, begun("a")), Value::Null),
        chunk(call(1, begun("b")), Value::Null),
        chunk(call(0, arguments("{\"x\"")), Value::Null),
        chunk(call(1, arguments("{}")), Value::Null),
        chunk(call(0, arguments(":\"}\"}")), Value::Null),
        chunk(json!({}), json!("tool_calls")),
        json!({ "id": "c1", "choices": [], "usage": { "prompt_tokens": 5, "completion_tokens": 7 } }),
    ];
    let mut out = Vec::new();
    for chunk in chunks {
        for frame in frames(format!("data: {chunk}\n\n").as_bytes()) {
            out.extend_from_slice(&stream.push(&frame));
        }
    }
    let before_the_end = events(&out);
    assert!(
        before_the_end
            .iter()
            .all(|event| event["type"] != "message_delta" && event["type"] != "message_stop")
    );
    out.extend_from_slice(&stream.finish());
    let start = |index: u64, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let delta =
        |index: u64, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let stop = |index: u64| json!({ "type": "content_block_stop", "index": index });
    let json_delta = |json: &str| json!({ "type": "input_json_delta", "partial_json": json });
    let tool = |id: &str| json!({ "type": "tool_use", "id": id, "name": "f", "input": {} });
    let usage = |input: u64, output: u64| {
        json!({ "input_tokens": input, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0, "output_tokens": output })
    };
    assert_eq!(
        events(&out),
        [
            json!({ "type": "message_start", "message": { "id": "msg_c1", "type": "message", "role": "assistant", "model": "m",
                "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(0, 0) } }),
            start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
            delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
            stop(0),
            start(1, json!({ "type": "text", "text": "" })),
            delta(1, json!({ "type": "text_delta", "text": "Hel" })),
            delta(1, json!({ "type": "text_delta", "text": "lo" })),
            stop(1),
            start(2, tool("a")),
            delta(2, json_delta("{\"x\"")),
            delta(2, json_delta(":\"}\"}")),
            stop(2),
            start(3, tool("b")),
            delta(3, json_delta("{}")),
            stop(3),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": usage(5, 7) }),
            json!({ "type": "message_stop" }),
        ]
    );
}

#[test]
fn message_stream_is_read_with_signatures_and_arguments() {
    let events = [
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
            "content": [], "usage": { "input_tokens": 5, "output_tokens": 1 } } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "thinking", "thinking": "", "signature": "" } }),
        json!({ "type": "ping" }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "thinking_delta", "thinking": "hm" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "signature_delta", "signature": "s" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "content_block_start", "index": 1, "content_block": { "type": "redacted_thinking", "data": "x" } }),
        json!({ "type": "content_block_stop", "index": 1 }),
        json!({ "type": "content_block_start", "index": 2, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 2, "delta": { "type": "text_delta", "text": "hi" } }),
        json!({ "type": "content_block_stop", "index": 2 }),
        json!({ "type": "content_block_start", "index": 3, "content_block": { "type": "tool_use", "id": "t1", "name": "f", "input": {} } }),
        json!({ "type": "content_block_delta", "index": 3, "delta": { "type": "input_json_delta", "partial_json": "" } }),
        json!({ "type": "content_block_delta", "index": 3, "delta": { "type": "input_json_delta", "partial_json": "{\"a\":1}" } }),
        json!({ "type": "content_block_stop", "index": 3 }),
        json!({ "type": "content_block_start", "index": 4, "content_block": { "type": "tool_use", "id": "t2", "name": "f", "input": {} } }),
        json!({ "type": "content_block_stop", "index": 4 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ];
    let stream: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()))
        .collect();
    let usage = |output_tokens| Usage { input_tokens: 5, output_tokens, ..Usage::default() };
    let arguments = |call, json: &str| Delta::ToolArguments { choice: 0, call, json: json.into() };
    let call = |call, id: &str| Delta::ToolCall { choice: 0, call, id: id.into(), name: "f".into() };
    assert_eq!(
        read(stream.as_bytes()),
        [
            Delta::Start { id: Some("msg_1".into()), model: Some("claude-x".into()), created: None },
            Delta::Usage(usage(1)),
            Delta::Reasoning { choice: 0, text: "hm".into() },
            Delta::ReasoningSignature { choice: 0, signature: "s".into() },
            Delta::EncryptedReasoning { choice: 0, data: "x".into() },
            Delta::Text { choice: 0, text: "hi".into(), logprobs: None },
            call(0, "t1"),
            arguments(0, "{\"a\":1}"),
            call(1, "t2"),
            arguments(1, "{}"),
            Delta::Finish { choice: 0, finish: Finish::ToolCalls },
            Delta::Usage(usage(9)),
        ]
    );
}

#[test]
fn errors_get_the_callers_shape() {
    let upstream = UpstreamError::read(
        br#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#,
    );
    assert_eq!(
        value(&messages::error_body(&upstream, 429)),
        json!({ "type": "error", "error": { "type": "rate_limit_error", "message": "slow down", "code": "rate_limit_exceeded" } })
    );
    let anthropic = UpstreamError::read(
        br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    );
    assert_eq!(value(&chat::error_body(&anthropic, 529))["error"]["type"], "overloaded_error");
    let frame = &frames(&messages::error_event("gone", "upstream_error", "broken_stream"))[0];
    assert!(matches!(EventReader::default().read(frame).meaning, EventMeaning::Error(_)));
}

/// What an accumulated stream consists of.
#[derive(Debug, Default, PartialEq)]
struct Accumulated {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
}

fn accumulated(deltas: &[Delta]) -> Accumulated {
    let mut all = Accumulated::default();
    for delta in deltas {
        match delta {
            Delta::Text { text, .. } => all.text.push_str(text),
            Delta::Reasoning { text, .. } => all.reasoning.push_str(text),
            Delta::ToolCall { id, .. } => all.calls.push((id.clone(), String::new())),
            Delta::ToolArguments { call, json, .. } => {
                all.calls[usize::try_from(*call).unwrap()].1.push_str(json)
            }
            _ => {}
        }
    }
    all
}

/// Pieces of texts, of reasoning, and of the arguments of up to three parallel calls, mixed as servers may mix them.
fn mixed() -> impl Strategy<Value = Vec<Delta>> {
    let arguments =
        "[a-z{}\\[\\]\"\\\\]{0,12}".prop_map(|text| json!({ "x": text, "y": [1, {}] }).to_string());
    let pieces =
        (proptest::collection::vec(arguments, 0..4), proptest::collection::vec(any::<(u8, u8)>(), 0..60));
    pieces.prop_map(|(arguments, order)| {
        let mut deltas = Vec::new();
        let mut left: Vec<Vec<char>> = arguments.iter().map(|text| text.chars().rev().collect()).collect();
        for (before, size) in &order {
            if size % 2 == 0 {
                deltas.push(Delta::Text { choice: 0, text: format!("t{before}"), logprobs: None });
            } else {
                deltas.push(Delta::Reasoning { choice: 0, text: format!("r{before}") });
            }
        }
        for call in 0..left.len() as u64 {
            deltas.push(Delta::ToolCall { choice: 0, call, id: format!("c{call}"), name: "f".into() });
        }
        for (which, size) in order {
            let count = left.len().max(1);
            let Some(rest) = left.get_mut(usize::from(which) % count) else { break };
            let json: String = (0..size % 5).filter_map(|_| rest.pop()).collect();
            deltas.push(Delta::ToolArguments { choice: 0, call: u64::from(which) % count as u64, json });
        }
        for (call, rest) in left.into_iter().enumerate() {
            let json = rest.into_iter().rev().collect();
            deltas.push(Delta::ToolArguments { choice: 0, call: call as u64, json });
        }
        deltas
    })
}

proptest! {
    #[test]
    fn any_mixture_of_deltas_is_written_as_blocks_in_order(deltas in mixed()) {
        let stream = written(&deltas);
        let (mut open, mut next) = (None, 0);
        for event in events(&stream) {
            match event["type"].as_str().unwrap() {
                "content_block_start" => {
                    prop_assert_eq!((open, &event["index"]), (None, &json!(next)));
                    open = Some(next);
                }
                "content_block_delta" => prop_assert_eq!(Some(event["index"].as_u64().unwrap()), open),
                "content_block_stop" => {
                    prop_assert_eq!(Some(event["index"].as_u64().unwrap()), open.take());
                    next += 1;
                }
                _ => prop_assert_eq!(open, None),
            }
        }
        prop_assert_eq!(accumulated(&read(&stream)), accumulated(&deltas));
    }

    #[test]
    fn arbitrary_json_does_not_panic_any_reader(name in "[a-z_]{1,12}", text in "\\PC{0,20}", number in any::<u64>()) {
        let body = json!({ "type": name, "messages": [{ "role": "user", "content": [{ "type": name, "text": text }] }],
            "max_tokens": number, "content": [{ "type": name }], "index": number, "delta": { "type": name, "text": text } });
        let _ = messages::read_request(body.to_string().as_bytes());
        let _ = messages::read_reply(body.to_string().as_bytes());
        let _ = StreamReader::new().read(&Frame::named("x", body.to_string().as_bytes()));
    }
}

#[test]
fn unsigned_reasoning_of_another_model_is_left_out() {
    let reasoning = |signature: Option<&str>| {
        Part::Reasoning(Reasoning {
            text: "hm".into(),
            signature: signature.map(str::to_owned),
            encrypted: None,
        })
    };
    let call = Part::ToolCall(ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() });
    let conversation = Conversation {
        turns: vec![
            Turn { role: Role::User, parts: vec![Part::Text("q".into())], places: Places::default() },
            Turn {
                role: Role::Assistant,
                parts: vec![reasoning(None), reasoning(Some("s")), call],
                places: Places::default(),
            },
        ],
        ..Conversation::default()
    };
    let written = value(&messages::write_request(&conversation, "claude").unwrap());
    let kinds: Vec<&str> = written["messages"][1]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["thinking", "tool_use"]);
}
