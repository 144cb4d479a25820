//! Chat completions, read into the forms that belong to no dialect and written back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use mcpctl_dialect::{
    Operation,
    sse::Decoder,
    translate::{
        DeltaReader,
        chat::{self, StreamReader, StreamWriter},
        conversation::{Part, Role},
        reply::{Delta, Finish, WriterOptions},
    },
};
use serde_json::{Value, json};

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn deltas(stream: &str) -> Vec<Delta> {
    let (mut decoder, mut reader) = (Decoder::default(), StreamReader::new());
    decoder.push(stream.as_bytes());
    let mut deltas = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        deltas.extend(reader.read(&frame));
    }
    deltas
}

fn chunks(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

fn chunk(delta: &Value) -> Value {
    json!({ "id": "c1", "created": 7, "model": "m", "object": "chat.completion.chunk",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

fn finish(reason: &str) -> Value {
    json!({ "id": "c1", "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

#[test]
fn request_with_everything_survives_reading_and_writing() {
    let request = json!({
        "model": "gpt-5",
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [
                { "type": "text", "text": "What is this?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
                { "type": "image_url", "image_url": { "url": "https://example.com/a.png" } },
                { "type": "input_audio", "input_audio": { "data": "BBBB", "format": "mp3" } },
                { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,CCCC" } }
            ] },
            { "role": "assistant", "reasoning_content": "hm", "content": "I look.", "tool_calls": [
                { "id": "a", "type": "function", "function": { "name": "look", "arguments": "{\"x\":1}" } },
                { "id": "b", "type": "function", "function": { "name": "look", "arguments": "{}" } }
            ] },
            { "role": "tool", "tool_call_id": "a", "content": "a cat" },
            { "role": "tool", "tool_call_id": "b", "content": "a dog" },
            { "role": "user", "content": "Go on" }
        ],
        "max_completion_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "frequency_penalty": 0.1,
        "presence_penalty": -0.1, "seed": 7, "stop": ["\n"], "n": 2, "logprobs": true, "top_logprobs": 3,
        "response_format": { "type": "json_schema", "json_schema": {
            "name": "cat", "schema": { "type": "object" }, "strict": true } },
        "reasoning_effort": "low", "verbosity": "low", "user": "u1", "stream": true,
        "tools": [{ "type": "function", "function": {
            "name": "look", "description": "looks", "parameters": { "type": "object" }, "strict": true } }],
        "parallel_tool_calls": false,
        "tool_choice": { "type": "function", "function": { "name": "look" } }
    });
    let conversation = chat::read_request(request.to_string().as_bytes()).unwrap();
    let written = chat::write_request(&conversation, "gpt-5").unwrap();
    assert_eq!(value(&written), request);
}

#[test]
fn fields_without_counterpart_are_refused_with_their_path() {
    for (field, param) in [
        (json!({ "logit_bias": { "5": 1 } }), "logit_bias"),
        (json!({ "audio": { "voice": "alloy" } }), "audio"),
        (json!({ "modalities": ["text", "audio"] }), "modalities"),
        (json!({ "web_search_options": {} }), "web_search_options"),
        (json!({ "store": true }), "store"),
        (json!({ "functions": [{ "name": "f" }] }), "functions"),
        (json!({ "min_p": 0.1 }), "min_p"),
        (json!({ "tools": [{ "type": "custom", "custom": { "name": "x" } }] }), "tools[0].type"),
        (json!({ "tools": [{ "type": "function", "function": { "name": 7 } }] }), "tools[0].function.name"),
        (json!({ "tool_choice": "maybe" }), "tool_choice"),
        (json!({ "response_format": { "type": "grammar" } }), "response_format.type"),
        (json!({ "max_tokens": 1, "max_completion_tokens": 2 }), "max_tokens"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
        (json!({ "stream_options": { "other": true } }), "stream_options.other"),
        (json!({ "messages": [{ "role": "function", "name": "f", "content": "" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "user", "name": "ann", "content": "" }] }), "messages[0].name"),
        (json!({ "messages": [{ "role": "assistant", "audio": { "id": "x" } }] }), "messages[0].audio"),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "file", "file": { "file_id": "f" } }] }] }),
            "messages[0].content[0].file.file_id",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "data:x" } }] }] }),
            "messages[0].content[0].image_url.url",
        ),
    ] {
        let mut request = json!({ "model": "m", "messages": [] });
        request.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        let error = chat::read_request(request.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.param(), Some(param), "{error}");
    }
}

#[test]
fn defaults_and_hints_are_accepted() {
    let request = json!({
        "model": "m", "messages": [{ "role": "developer", "content": "a" }, { "role": "system", "content": "b" }],
        "n": 1, "logprobs": false, "logit_bias": {}, "store": false, "audio": null, "modalities": ["text"],
        "functions": [], "metadata": { "a": "b" }, "service_tier": "auto", "prompt_cache_key": "k",
        "prediction": { "type": "content", "content": "x" }, "verbosity": "medium",
        "stream_options": { "include_usage": true, "include_obfuscation": false },
        "tools": [{ "type": "function", "function": { "name": "a" } }, { "type": "function", "function": { "name": "b" } }],
        "tool_choice": { "type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{ "type": "function", "function": { "name": "b" } }] } }
    });
    let conversation = chat::read_request(request.to_string().as_bytes()).unwrap();
    assert!(conversation.include_usage);
    assert_eq!(conversation.system, [Part::Text("a".into()), Part::Text("b".into())]);
    let written = value(&chat::write_request(&conversation, "m").unwrap());
    assert_eq!(
        written,
        json!({ "model": "m", "messages": [{ "role": "system", "content": "a\n\nb" }],
            "tools": [{ "type": "function", "function": { "name": "b" } }], "tool_choice": "required" })
    );
}

#[test]
fn results_that_are_not_text_follow_in_a_users_message() {
    let request = json!({ "messages": [{ "role": "tool", "tool_call_id": "a", "content": "seen" }] });
    let mut conversation = chat::read_request(request.to_string().as_bytes()).unwrap();
    let Part::ToolResult { parts, is_error, .. } = &mut conversation.turns[0].parts[0] else { panic!() };
    *is_error = true;
    parts.push(Part::Image(mcpctl_dialect::translate::conversation::Media::Url(
        "https://example.com/a".into(),
    )));
    assert_eq!(conversation.turns[0].role, Role::User);
    let written = value(&chat::write_request(&conversation, "m").unwrap());
    assert_eq!(
        written["messages"],
        json!([
            { "role": "tool", "tool_call_id": "a", "content": "Error: seen" },
            { "role": "user", "content": [
                { "type": "text", "text": "The result of the tool call `a`:" },
                { "type": "image_url", "image_url": { "url": "https://example.com/a" } }
            ] }
        ])
    );
}

#[test]
fn answer_survives_reading_and_writing() {
    let answer = json!({
        "id": "c1", "object": "chat.completion", "created": 7, "model": "m",
        "choices": [
            { "index": 0, "logprobs": { "content": [] }, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": "Hi", "refusal": null, "reasoning_content": "hm",
                "reasoning_details": [
                    { "type": "reasoning.text", "text": "hm", "signature": "s", "index": 0 },
                    { "type": "reasoning.encrypted", "data": "d", "index": 1 }
                ],
                "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }] } },
            { "index": 1, "logprobs": null, "finish_reason": "stop", "stop_reason": "\n",
              "message": { "role": "assistant", "content": null, "refusal": "No." } }
        ],
        "usage": { "prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9,
            "prompt_tokens_details": { "cached_tokens": 2 }, "completion_tokens_details": { "reasoning_tokens": 1 } }
    });
    let reply = chat::read_reply(answer.to_string().as_bytes()).unwrap();
    assert_eq!(value(&chat::write_reply(&reply)), answer);
    assert_eq!(chat::read_reply(b"{\"data\":[]}"), None);
}

#[test]
fn calls_are_read_however_servers_cut_them() {
    let call = |index: Value, id: Value, name: Value, arguments: Value| {
        chunk(
            &json!({ "tool_calls": [{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }] }),
        )
    };
    let null = Value::Null;
    let parallel = [
        call(json!(0), json!("a"), json!("fi"), json!("")),
        call(json!(0), null.clone(), json!("nd"), null.clone()),
        call(json!(0), null.clone(), null.clone(), json!("{\"x\"")),
        call(json!(1), json!("b"), json!("find"), json!("{}")),
        call(json!(0), null.clone(), null.clone(), json!(":1}")),
        finish("tool_calls"),
    ];
    // All at index 0 with ids of their own, or without index; names that are repeated.
    let same_index = [
        call(json!(0), json!("a"), json!("find"), json!("{\"x\"")),
        call(json!(0), json!("a"), json!("find"), json!(":1}")),
        call(json!(0), json!("b"), json!("find"), json!("{}")),
        finish("stop"),
    ];
    let no_index = [
        call(null.clone(), json!("a"), json!("find"), json!("{\"x\":1}")),
        call(null.clone(), json!("b"), json!("find"), json!("{}")),
        finish("stop"),
    ];
    for stream in [&parallel[..], &same_index, &no_index] {
        let deltas = deltas(&chunks(stream));
        let mut arguments = [String::new(), String::new()];
        let mut begun = Vec::new();
        for delta in &deltas {
            match delta {
                Delta::ToolCall { call, id, name, .. } => begun.push((*call, id.as_str(), name.as_str())),
                Delta::ToolArguments { call, json, .. } => {
                    arguments[usize::try_from(*call).unwrap()].push_str(json);
                }
                _ => {}
            }
        }
        assert_eq!(begun, [(0, "a", "find"), (1, "b", "find")], "{stream:?}");
        assert_eq!(arguments, ["{\"x\":1}", "{}"]);
        assert_eq!(deltas.last(), Some(&Delta::Finish { choice: 0, finish: Finish::ToolCalls }));
    }
    let without_id = deltas(&chunks(&[call(json!(0), null.clone(), json!("f"), null), finish("tool_calls")]));
    assert!(
        without_id.iter().any(|delta| matches!(delta, Delta::ToolCall { id, .. } if id == "call_c1_0_0"))
    );
}

#[test]
fn endless_calls_and_choices_are_read_up_to_a_bound() {
    let call = |index: u64| {
        let id = format!("{index}{}", "i".repeat(1000));
        chunk(
            &json!({"tool_calls": [{"index": index, "id": id, "function": {"name": "f", "arguments": "{}"}}]}),
        )
    };
    let read = deltas(&chunks(&(0..1000).map(call).collect::<Vec<_>>()));
    let ids: Vec<_> = read
        .iter()
        .filter_map(|delta| if let Delta::ToolCall { id, .. } = delta { Some(id.len()) } else { None })
        .collect();
    assert_eq!((ids.len(), ids.iter().max()), (256, Some(&256)));
    assert_eq!(read.iter().filter(|delta| matches!(delta, Delta::ToolArguments { .. })).count(), 256);

    let text = |index: u64| json!({"choices": [{"index": index, "delta": {"content": "x"}}]});
    let read = deltas(&chunks(&(0..1000).map(text).collect::<Vec<_>>()));
    assert_eq!(read.iter().filter(|delta| matches!(delta, Delta::Text { .. })).count(), 128);
}

#[test]
fn reasoning_of_each_vendor_is_read_once() {
    let reads = |delta: &Value| {
        let deltas = deltas(&chunks(&[chunk(delta)]));
        deltas.into_iter().filter(|delta| !matches!(delta, Delta::Start { .. })).collect::<Vec<_>>()
    };
    let text = Delta::Reasoning { choice: 0, text: "hm".into() };
    for delta in [
        json!({ "reasoning_content": "hm" }),
        json!({ "reasoning": "hm" }),
        json!({ "reasoning": "hm", "reasoning_content": "hm" }),
        json!({ "reasoning": "hm", "reasoning_details": [{ "type": "reasoning.text", "text": "hm" }] }),
        json!({ "reasoning_details": [{ "type": "reasoning.summary", "summary": "hm" }] }),
        json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }] }),
    ] {
        assert_eq!(reads(&delta), std::slice::from_ref(&text), "{delta}");
    }
    let signed =
        json!({ "reasoning_details": [{ "type": "reasoning.text", "text": "hm", "signature": "s" }] });
    assert_eq!(reads(&signed), [text, Delta::ReasoningSignature { choice: 0, signature: "s".into() }]);
}

#[test]
fn stream_survives_writing_and_reading() {
    let text = |choice, text: &str| Delta::Text { choice, text: text.into(), logprobs: None };
    let expected = [
        Delta::Start { id: Some("c1".into()), model: Some("m".into()), created: Some(7) },
        Delta::EncryptedReasoning { choice: 0, data: "d".into() },
        text(0, "Hel"),
        text(1, "Grüße \u{1f980}"),
        Delta::Text { choice: 0, text: "lo".into(), logprobs: Some(json!({ "content": [] })) },
        Delta::Refusal { choice: 1, text: "No.".into() },
        Delta::ToolCall { choice: 0, call: 0, id: "a".into(), name: "f".into() },
        Delta::ToolArguments { choice: 0, call: 0, json: "{\"a\"".into() },
        Delta::ToolCall { choice: 0, call: 1, id: "b".into(), name: "g".into() },
        Delta::ToolArguments { choice: 0, call: 1, json: "{}".into() },
        Delta::ToolArguments { choice: 0, call: 0, json: ":1}".into() },
        Delta::Finish { choice: 0, finish: Finish::ToolCalls },
        Delta::Finish { choice: 1, finish: Finish::StopSequence(Some("\n".into())) },
    ];
    let mut writer = StreamWriter::new(&WriterOptions { include_usage: true, ..WriterOptions::default() });
    let mut stream: Vec<u8> = Vec::new();
    for delta in &expected {
        stream.extend_from_slice(&writer.write(delta));
    }
    let usage = mcpctl_dialect::usage::Usage { input_tokens: 5, output_tokens: 2, ..Default::default() };
    writer.write(&Delta::Usage(usage));
    stream.extend_from_slice(&writer.finish());
    let stream = String::from_utf8(stream).unwrap();
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    assert_eq!(stream.matches("\"role\":\"assistant\"").count(), 2, "{stream}");
    let mut expected = expected.to_vec();
    expected.push(Delta::Usage(usage));
    assert_eq!(deltas(&stream), expected);
}

#[test]
fn signature_is_written_with_the_reasoning_it_signs() {
    let mut writer = StreamWriter::new(&WriterOptions::default());
    let mut stream = String::new();
    for delta in [
        Delta::Reasoning { choice: 0, text: "h".into() },
        Delta::Reasoning { choice: 0, text: "m".into() },
        Delta::ReasoningSignature { choice: 0, signature: "s".into() },
    ] {
        stream.push_str(std::str::from_utf8(&writer.write(&delta)).unwrap());
    }
    assert!(
        stream.contains(
            r#""reasoning_details":[{"type":"reasoning.text","text":"hm","signature":"s","index":0}]"#
        ),
        "{stream}"
    );
}

/// Every event of a stream repeats the answer's id and model, so neither is long, whatever the provider sends.
#[test]
fn ids_and_models_of_a_stream_are_cut() {
    let long = "\u{e9}".repeat(1000);
    let chunk = json!({ "id": long, "model": long, "choices": [{ "index": 0, "delta": {} }] });
    let message = json!({ "type": "message_start", "message": { "id": long, "model": long, "content": [] } });
    for (operation, event) in [(Operation::Chat, chunk), (Operation::Messages, message)] {
        let (mut decoder, mut reader) = (Decoder::default(), DeltaReader::of(operation).unwrap());
        decoder.push(format!("data: {event}\n\n").as_bytes());
        let deltas = reader.read(&decoder.next_frame().unwrap().unwrap());
        let [Delta::Start { id: Some(id), model: Some(model), .. }] = &deltas[..] else {
            panic!("{deltas:?}")
        };
        assert!(id.len() <= 256 && long.starts_with(id) && id == model, "{operation:?}: {}", id.len());
    }
}

#[test]
fn call_without_arguments_after_the_end_of_its_choice_is_kept() {
    let call = json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "locate" } }] });
    let read = deltas(&chunks(&[chunk(&json!({ "content": "Hi" })), finish("tool_calls"), chunk(&call)]));
    let expected = Delta::ToolCall { choice: 0, call: 0, id: "a".into(), name: "locate".into() };
    assert_eq!(read.last(), Some(&expected), "{read:?}");
}
